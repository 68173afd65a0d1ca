"""A killed process that its parent does not reap is found, and one that the workload cannot do without; an
exited one, a reaped one, or any other daemon is not.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.listening import story
from tests.process.conftest import Agent
from tests.waiting import DEADLINE, until
from unitagent.core.exits import Exit
from unitagent.system import procfs
from unitagent.workload import liveness
from unitagent.workload.liveness import (
    BirthCounter,
    DeadProcess,
    ExitNotifier,
    LivenessCheck,
    find_killed_zombies,
)
from unitagent.workload.oom import OomCounter
from unitagent.workload.reaper import Reaper
from unitagent.workload.resource_release import SharedMemory

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


def _pids(found: frozenset[DeadProcess]) -> set[int]:
    return {dead.pid for dead in found}


def test_a_killed_child_that_nobody_reaps_is_named_at_the_second_look() -> None:
    with _parent("killed") as child:
        check = LivenessCheck()
        assert check.find_dead(()) is None
        found = check.find_dead(())
        assert found is not None
        assert (found.pid, found.exit) == (child, Exit(None, signal.SIGKILL))


def _find_own(spared: Collection[int] = ()) -> list[procfs.Process]:
    return procfs.find_descendants(os.getpid(), spared)


def test_an_exited_child_is_only_untidy() -> None:
    with _parent("exited") as child:
        assert child not in _pids(find_killed_zombies(_find_own()))


def test_a_child_that_was_reaped_has_been_noticed() -> None:
    with _parent("reaped") as child:
        assert child not in _pids(find_killed_zombies(_find_own()))


def test_service_children_and_their_relatives_are_not_the_workloads() -> None:
    with _parent("killed") as child:
        assert child not in _pids(find_killed_zombies(_find_own({_parent_of(child)})))


def _parent_of(pid: int) -> int:
    found = procfs.read_process(pid)
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
        return [p.pid for p in procfs.read_process_table().values() if p.name == name and p.parent == agent]

    return until(look, f"{name} is the agent's own child")[0]


def test_the_death_of_a_daemon_that_is_needed_is_told(start: Start, tmp_path: Path) -> None:
    agent = start("--vital", "keep", "--", "sh", "-c", _KEEPERS, str(tmp_path))
    keeper = _daemon(agent.pid, "keeper")
    os.kill(_daemon(agent.pid, "other"), signal.SIGKILL)
    os.kill(keeper, signal.SIGKILL)
    said = agent.event("sick")["said"]
    assert "(keeper) was killed by signal 9" in said
    assert said.endswith("the workload cannot run without it")
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
    check = LivenessCheck()
    check.begin_workload(("keeper",))
    check.note_orphan_exit(1, "other", Exit(None, 9))
    check.note_orphan_exit(2, "keeper", status)
    assert (check.find_dead(()) is not None) is told
    check.begin_workload()
    assert check.find_dead(()) is None


# Children called keeper and other, of a main process that reaps them and lives on. Every child of a shell is
# at first a shell of that name: the short-lived ones begin as keepers as well.
_NURSERY = """
cp "$(command -v sh)" "$0/keeper"; cp "$(command -v sleep)" "$0/other"
"$0/keeper" -c 'while :; do (:); sleep 0.01; done' & "$0/other" 1000 &
wait; sleep 1000
"""


def _child(agent: int, name: str) -> int:
    def look() -> list[int]:
        table = procfs.read_process_table()
        family = procfs.select_descendants(table, agent)
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
    assert said.endswith("the workload cannot run without it")
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
            notifier = ExitNotifier()
            notifier.watch_pids({short.pid, long.pid})
            short.kill()
            await notifier.wait_for_death(1000)
            notifier.watch_pids(())

        try:
            asyncio.run(asyncio.wait_for(listen(), DEADLINE))
        finally:
            short.kill()
            long.kill()


def test_a_bell_that_is_muted_wakes_nobody_and_is_heard_all_the_same() -> None:
    with subprocess.Popen(["sleep", "1000"]) as one, subprocess.Popen(["sleep", "1000"]) as other:

        async def listen() -> bool:
            notifier = ExitNotifier()
            notifier.watch_pids({one.pid, other.pid}, silent={other.pid})
            other.kill()
            while not notifier.died:
                await notifier.wait_for_death(0.01)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(notifier.wait_for_death(1000), 0.05)
            one.kill()
            await notifier.wait_for_death(1000)
            notifier.watch_pids(())
            return notifier.died

        try:
            assert asyncio.run(asyncio.wait_for(listen(), DEADLINE)) is False
        finally:
            one.kill()
            other.kill()


def test_who_cannot_have_a_bell_may_have_died_at_any_time() -> None:
    async def listen() -> bool:
        notifier = ExitNotifier()
        notifier.watch_pids({2**22 + 1})  # no pid is that large
        return notifier.died

    assert asyncio.run(listen())


class Counted:
    """A workload, which is a process with a child, and the looks that are taken at processes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, births: BirthCounter) -> None:
        self.searched = self.read = 0
        self.family, self.one = procfs.find_descendants, procfs.read_process
        monkeypatch.setattr(liveness, "BirthCounter", lambda: births)
        monkeypatch.setattr(procfs, "find_descendants", self._family)
        monkeypatch.setattr(procfs, "read_process", self._read)
        self.lookout = liveness.LivenessMonitor(Reaper(), OomCounter(), SharedMemory(), list)

    def _family(self, root: int, spared: Collection[int] = ()) -> list[procfs.Process]:
        self.searched += 1
        return self.family(root, spared)

    def _read(self, pid: int) -> procfs.Process | None:
        self.read += 1
        return self.one(pid)

    async def settle(self, main: int) -> None:
        """Look until a look has nothing to look at."""
        async with asyncio.timeout(DEADLINE):
            while True:
                before = self.read
                assert await self.lookout.find_dead_process(lambda: main) is None
                if self.read == before:
                    return


class Told(BirthCounter):
    """A number that tells of births when the test says so: others are born on this machine all the time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1

    def calibrate(self, pid: int) -> None:
        self._last = -1

    def _read_last_pid(self) -> int:
        return self.now


@contextmanager
def _two() -> Iterator[int]:
    """A process with a child; the pid of the first."""
    with subprocess.Popen(["sh", "-c", "sleep 1000 & wait"], process_group=0) as main:
        try:
            until(lambda: len(procfs.find_descendants(main.pid)) == 1, "it has a child")
            yield main.pid
        finally:
            os.killpg(main.pid, signal.SIGKILL)


@story
async def test_while_nobody_is_born_or_dies_no_process_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    births = Told()
    counted = Counted(monkeypatch, births)
    with _two() as main:
        counted.lookout.begin_workload((), main)
        await counted.settle(main)
        searched, read = counted.searched, counted.read
        for _ in range(5):
            assert await counted.lookout.find_dead_process(lambda: main) is None
        assert (counted.searched, counted.read) == (searched, read)
        births.now += 1
        await counted.settle(main)
        assert (counted.searched, counted.read > read) == (searched + 1, True)
        read = counted.read
        os.kill(counted.family(main)[0].pid, signal.SIGKILL)
        async with asyncio.timeout(DEADLINE):
            while counted.read == read:
                await counted.lookout.find_dead_process(lambda: main)
                await counted.lookout.wait_for_death(0.01)
        assert counted.searched == searched + 1


class Clock:
    """Time as a look inside sees it: each takes so many seconds of its thread."""

    def __init__(self, took: float) -> None:
        self.now, self._took, self._thread = 1000.0, took, 0.0

    def monotonic(self) -> float:
        return self.now

    def thread_time(self) -> float:
        self._thread += self._took
        return self._thread


@pytest.mark.parametrize(("took", "most"), [(0.0, 18), (0.02, 4)])
def test_where_others_are_born_all_the_time_one_seldom_searches(
    monkeypatch: pytest.MonkeyPatch, took: float, most: int
) -> None:
    births, clock = Told(), Clock(took)
    counted = Counted(monkeypatch, births)
    monkeypatch.setattr(liveness, "time", clock)
    looking = LivenessCheck()
    looking.begin_workload()
    for _ in range(60):
        if looking.is_due(died=False):
            assert looking.find_dead(()) is None
        births.now += 1
        clock.now += 1
    assert 1 < counted.searched <= most


def test_the_number_of_the_kernel_tells_of_a_birth() -> None:
    births = BirthCounter()
    with subprocess.Popen(["sleep", "1000"]) as child:
        births.calibrate_counter(child.pid)
        assert births.has_increased()
        child.kill()
    seen = [births.has_increased() for _ in range(1000)]
    with subprocess.Popen(["true"]):
        assert births.has_increased()
    assert not all(seen)


def test_a_kernel_that_does_not_tell_is_asked_no_more(tmp_path: Path) -> None:
    """What a sandbox shows."""
    (tmp_path / "loadavg").write_text("0.00 0.00 0.00 0/0 0\n")
    births = BirthCounter(f"{tmp_path}/loadavg")
    births.calibrate_counter(7)
    assert all(births.has_increased() for _ in range(3))
    assert BirthCounter(f"{tmp_path}/none").has_increased()


def test_a_bell_that_the_kernel_does_not_take_leaves_no_open_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where all users of a machine together wait for too many files."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    async def listen() -> tuple[bool, int]:
        notifier, before = ExitNotifier(), len(list(procfs.list_open_files(os.getpid())))
        monkeypatch.setattr(asyncio.get_running_loop(), "add_reader", refuse)
        notifier.watch_pids({os.getpid()})
        return notifier.died, len(list(procfs.list_open_files(os.getpid()))) - before

    assert asyncio.run(listen()) == (True, 0)


def test_who_hid_behind_a_parent_that_ended_is_found_though_nobody_is_born_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A daemon's parent ends while we go from it to its children: the daemon is ours by then, and not yet
    when we looked at our own.
    """
    missed: list[int] = []

    def miss(root: int, spared: Collection[int] = ()) -> list[procfs.Process]:
        found = whole(root, spared)
        hidden = [] if missed else [one.pid for one in found if one.parent == main]
        missed.extend(hidden)
        return [one for one in found if one.pid not in hidden]

    with _two() as main:
        whole = procfs.find_descendants
        monkeypatch.setattr(liveness, "BirthCounter", Told)
        monkeypatch.setattr(procfs, "find_descendants", miss)
        looking = LivenessCheck()
        looking.begin_workload()
        for _ in range(5):
            if looking.is_due(died=False):
                assert looking.find_dead(()) is None
        assert missed
        assert set(missed) <= looking.watched_pids
