"""A killed process that its parent does not reap is found, and one that the workload cannot do without; an
exited one, a reaped one, or any other daemon is not.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.listening import story
from tests.process.conftest import DEADLINE, Agent, until
from unitagent.core.exits import Exit
from unitagent.workload import proc, process, signals
from unitagent.workload.background import in_background
from unitagent.workload.inside import Corpse, Inside, corpses, family
from unitagent.workload.reaper import Reaper
from unitagent.workload.vital import Bells

Start = Callable[..., Agent]

_BEGET = """
import os, signal, sys
child = os.fork()
if child == 0:
    os.kill(os.getpid(), signal.SIGKILL) if sys.argv[1] == "killed" else os._exit(3)
if sys.argv[1] == "reaped":
    os.waitpid(child, 0)
else:
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
print(child, flush=True)
sys.stdin.read()
"""


@contextmanager
def _parent(kind: str) -> Iterator[int]:
    """A living parent of one dead child, whose pid is given."""
    with subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", _BEGET, kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        yield int(parent.stdout.readline())


def _pids(found: frozenset[Corpse]) -> set[int]:
    return {corpse.pid for corpse in found}


def test_a_killed_child_that_nobody_reaps_is_named_at_the_second_look() -> None:
    with _parent("killed") as child:
        inside = Inside()
        assert inside.look(()) is None
        found = inside.look(())
        assert found is not None
        assert (found.pid, found.exit) == (child, Exit(None, signal.SIGKILL))


def test_an_exited_child_is_only_untidy() -> None:
    with _parent("exited") as child:
        assert child not in _pids(corpses(family()))


def test_a_child_that_was_reaped_has_been_noticed() -> None:
    with _parent("reaped") as child:
        assert child not in _pids(corpses(family()))


def test_service_children_and_their_kin_are_not_the_workloads() -> None:
    with _parent("killed") as child:
        assert child not in _pids(corpses(family({_parent_of(child)})))


def _parent_of(pid: int) -> int:
    found = proc.read(pid)
    assert found is not None
    return found.parent


# Daemons called keeper and other, then a main process that outlives them.
_KEEPERS = """
cp "$(command -v sleep)" "$0/keeper"; cp "$(command -v sleep)" "$0/other"
(trap '' TERM; setsid "$0/keeper" 1000 & setsid "$0/other" 1000 &)
exec sleep 1000
"""


def _daemon(agent: int, name: str) -> int:
    def look() -> list[int]:
        return [p.pid for p in proc.table().values() if p.name == name and p.parent == agent]

    return until(look, f"{name} is the agent's own child")[0]


def test_the_death_of_a_daemon_that_is_needed_is_told(start: Start, tmp_path: Path) -> None:
    agent = start("--vital", "keep", "--", "sh", "-c", _KEEPERS, str(tmp_path))
    keeper = _daemon(agent.pid, "keeper")
    os.kill(_daemon(agent.pid, "other"), signal.SIGKILL)
    os.kill(keeper, signal.SIGKILL)
    said = agent.event("sick")["said"]
    assert "(keeper) was killed by signal 9" in said
    assert said.endswith("the workload cannot do without it")
    agent.send(signal.SIGTERM)
    agent.finish()


def test_daemons_get_no_grace_of_their_own(start: Start, tmp_path: Path) -> None:
    agent = start("--vital", "keep", "--grace", "1000", "--", "sh", "-c", _KEEPERS, str(tmp_path))
    _daemon(agent.pid, "keeper")
    agent.send(signal.SIGTERM)
    agent.finish()
    assert agent.event("stopped")["left"] == []


@pytest.mark.parametrize(
    ("status", "told"),
    [(Exit(0, None), False), (Exit(None, 15), False), (Exit(143, None), False), (Exit(1, None), True)],
)
def test_a_daemon_that_was_stopped_is_no_failure(status: Exit, told: bool) -> None:
    inside = Inside()
    inside.begin(("keeper",))
    inside.orphan_died(1, "other", Exit(None, 9))
    inside.orphan_died(2, "keeper", status)
    assert (inside.look(()) is not None) is told
    inside.begin()
    assert inside.look(()) is None


# Children called keeper and other, of a main process that reaps them and lives on. Every child of a shell is
# at first a shell of that name: the short-lived ones begin as keepers as well.
_NURSERY = """
cp "$(command -v sh)" "$0/keeper"; cp "$(command -v sleep)" "$0/other"
"$0/keeper" -c 'while :; do (:); sleep 0.01; done' & "$0/other" 1000 &
wait; sleep 1000
"""


def _child(agent: int, name: str) -> int:
    def look() -> list[int]:
        table = proc.table()
        family = proc.descendants(table, agent)
        return [one.pid for one in family if one.name == name and table[one.parent].name != name]

    return until(look, f"{name} is there")[0]


def test_the_end_of_a_child_that_is_needed_is_told_however_it_ended(start: Start, tmp_path: Path) -> None:
    agent = start("--vital", "keep", "--", "sh", "-c", _NURSERY, str(tmp_path))
    keeper = _child(agent.pid, "keeper")
    os.kill(_child(agent.pid, "other"), signal.SIGTERM)
    _looks(agent, 5)
    assert not agent.events("sick")
    os.kill(keeper, signal.SIGTERM)
    said = agent.event("sick")["said"]
    assert "(keeper) " in said
    assert said.endswith("the workload cannot do without it")
    agent.send(signal.SIGTERM)
    agent.finish()


# A launcher called launcher, which can be ended and leaves its child, a keeper, to us.
_LAUNCHER = """
cp "$(command -v sleep)" "$0/keeper"; cp "$(command -v sh)" "$0/launcher"
"$0/launcher" -c '"$0/keeper" 1000 & wait' "$0" &
wait; exec sleep 1000
"""


def test_the_end_of_its_parent_is_not_its_own(start: Start, tmp_path: Path) -> None:
    agent = start("--vital", "keep", "--", "sh", "-c", _LAUNCHER, str(tmp_path))
    keeper = _child(agent.pid, "keeper")
    _looks(agent, 5)
    os.kill(_parent_of(keeper), signal.SIGTERM)
    assert _daemon(agent.pid, "keeper") == keeper
    _looks(agent, 5)
    assert not agent.events("sick")
    os.kill(keeper, signal.SIGKILL)
    assert "(keeper) was killed by signal 9" in agent.event("sick")["said"]
    agent.send(signal.SIGTERM)
    agent.finish()


def _looks(agent: Agent, more: int) -> None:
    """Wait until it has looked at its workload so many times more."""
    seen = len(agent.events("look"))
    until(lambda: len(agent.events("look")) > seen + more, "it looked again and again")


def test_a_bell_rings_at_the_end_of_a_process() -> None:
    with subprocess.Popen(["sleep", "1000"]) as short, subprocess.Popen(["sleep", "1000"]) as long:

        async def listen() -> None:
            bells = Bells()
            bells.hang({short.pid, long.pid})
            short.kill()
            await bells.wait(1000)
            bells.hang(())

        try:
            asyncio.run(asyncio.wait_for(listen(), DEADLINE))
        finally:
            short.kill()
            long.kill()


@story
async def test_a_look_inside_takes_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every agent takes one once a second, for as long as its workload runs."""
    begun: list[object] = []

    async def counted(work: Callable[[], object]) -> object:
        begun.append(work)
        return await in_background(work)

    monkeypatch.setattr(process, "in_background", counted)
    workload = process.Workload(Reaper(), signals.birth(), on_exit=lambda *_: None)
    workload.pid = os.getpid()
    assert await workload.dead_inside() is None
    assert len(begun) == 1
