"""An agent that hangs, or is killed outside of a container: its watchdog ends its workload."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.acceptance.local import watchdog
from tests.acceptance.solo import Solo
from tests.process.conftest import NAMESPACE
from tests.processes import has_ended
from tests.waiting import DEADLINE, until
from unitagent.system import procfs

LEASE, PROMISED = 5.0, 2.0  # UNIT_LEASE_SECONDS; by how much later everything is dead
SLACK = 3.0  # of a busy machine
AS_PID_1 = pytest.param(NAMESPACE, marks=pytest.mark.root)

# What the entrypoint of a container has started before the agent: none of its workload.
ENTRYPOINT = ["sh", "-c", 'sleep 1001 & exec "$@"', "sh"]


class Watched:
    """An agent with a service, a workload and a daemon of that."""

    def __init__(self, folder: Path, prefix: Sequence[str]) -> None:
        self.agent = Solo(folder, prefix=[*prefix, *ENTRYPOINT], DAEMON="setsid sleep 1002 &")
        self.generation = self.agent.ready()["generation"]
        self.pid = self.agent.popen.pid
        if prefix:
            self.pid = next(one.pid for one in procfs.read_process_table().values() if one.parent == self.pid)
        self.watchdog = watchdog(self.pid)
        self.workload = [self._runs("sleep 1000"), self._runs("sleep 1002")]
        self.stranger = self._runs("sleep 1001")
        self.services = [self._runs("-server"), self.stranger]

    def _runs(self, words: str) -> procfs.Process:
        """Wait for a descendant of the agent with these words in its command line."""

        def look() -> list[procfs.Process]:
            below = procfs.select_descendants(procfs.read_process_table(), self.pid)
            return [one for one in below if words in _command_line(one)]

        return until(look, words)[0]

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def all_alive(self) -> bool:
        return all(map(alive, [*self.services, *self.workload]))

    def is_the_same(self) -> bool:
        """Whether nothing has been restarted, after the agent has looked around."""
        return self.agent.ready()["generation"] == self.generation and self.all_alive()


def _command_line(process: procfs.Process) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process.pid}/cmdline").read_text().replace("\0", " ")
    return ""


def alive(process: procfs.Process) -> bool:
    now = procfs.read_process(process.pid)
    return now is not None and now.ticks == process.ticks and now.alive


def gone(processes: Sequence[procfs.Process]) -> bool:
    return not any(map(alive, processes))


Start = Callable[..., Watched]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Watched] = []

    def begin(prefix: Sequence[str] = ()) -> Watched:
        started.append(Watched(tmp_path, prefix))
        return started[-1]

    yield begin
    for watched in started:
        for process in (*watched.services, *watched.workload):
            procfs.kill_process(process)
        watched.agent.close()


@pytest.mark.parametrize("prefix", [(), AS_PID_1])
def test_a_hanging_agent_loses_its_workload_within_its_lease_and_2_s(start: Start, prefix: list[str]) -> None:
    """Its services live on, and when it wakes up, it goes on in a new generation."""
    watched = start(prefix)
    watched.signal(signal.SIGSTOP)
    stopped = time.monotonic()
    until(lambda: gone(watched.workload), "the workload is dead")
    assert time.monotonic() - stopped < LEASE + PROMISED + SLACK
    assert all(map(alive, watched.services))
    until(lambda: time.monotonic() - stopped > LEASE + PROMISED, "as long as it was to be found out")
    watched.signal(signal.SIGCONT)
    watched.agent.ready(above=watched.generation)
    assert all(map(alive, watched.services))
    assert "this agent was unresponsive for" in watched.agent.output.read_text()
    failure = watched.agent.status()["failure"]
    assert failure["signal"] == signal.SIGKILL
    assert "was unresponsive for longer than a lease, so the watchdog killed it" in failure["detail"]
    procfs.kill_process(watched._runs("sleep 1000"))  # which is another's doing
    watched.agent.ready(above=watched.generation + 1)
    assert "out of memory, or killed from outside" in watched.agent.status()["failure"]["detail"]


def test_a_hang_that_is_shorter_than_the_lease_changes_nothing(start: Start) -> None:
    watched = start()
    watched.signal(signal.SIGSTOP)
    stopped = time.monotonic()
    until(lambda: time.monotonic() - stopped > LEASE - 2, "most of a lease")
    watched.signal(signal.SIGCONT)
    assert watched.is_the_same()


def test_a_machine_that_stands_still_as_a_whole_changes_nothing(start: Start) -> None:
    watched = start()
    everybody = [watched.pid, watched.watchdog, *(one.pid for one in watched.workload)]
    for pid in everybody:
        os.kill(pid, signal.SIGSTOP)
    stopped = time.monotonic()
    until(lambda: time.monotonic() - stopped > LEASE + PROMISED, "longer than a lease")
    for pid in reversed(everybody):
        os.kill(pid, signal.SIGCONT)
    until(watched.agent.status, "it answers")
    assert watched.is_the_same()


def test_a_killed_agent_takes_its_workload_along(start: Start) -> None:
    watched = start()
    watched.signal(signal.SIGKILL)
    until(lambda: gone(watched.workload), "the workload is dead")
    until(lambda: has_ended(watched.watchdog), "so is the watchdog")
    assert alive(watched.stranger)


def test_an_agent_that_ends_in_order_takes_its_watchdog_along(start: Start) -> None:
    """Which no signal ends before, and which kills nobody."""
    watched = start()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(watched.watchdog, number)
    assert watched.is_the_same()
    watched.signal(signal.SIGTERM)
    assert watched.agent.popen.wait(DEADLINE) == 0
    assert procfs.read_process(watched.watchdog) is None
    assert alive(watched.stranger)


def test_an_agent_without_a_watchdog_says_so_and_goes_on(start: Start) -> None:
    watched = start()
    os.kill(watched.watchdog, signal.SIGKILL)
    until(lambda: "the watchdog was killed" in watched.agent.output.read_text(), "it is noticed")
    assert watched.is_the_same()
    watched.signal(signal.SIGTERM)
    assert watched.agent.popen.wait(DEADLINE) == 0
