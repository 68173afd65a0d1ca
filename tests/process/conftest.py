"""A harness process to test, once as a subreaper and once as the real PID 1 of a namespace."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import kill_family
from tests.waiting import DEADLINE, until
from unitagent.system import procfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROGRAMS = Path(__file__).parent / "programs"
ROOT = Path(__file__).parents[2]
CGROUPS = Path("/sys/fs/cgroup")
NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "--"]


def program(name: str) -> list[str]:
    """Return the command line of a program for workloads."""
    return [sys.executable, "-S", "-E", str(PROGRAMS / name)]


class Agent:
    """One harness process under test."""

    def __init__(
        self, folder: Path, *arguments: str, pid1: bool = False, prefix: tuple[str, ...] = (), **popen: Any
    ) -> None:
        self.events_file = folder / "events"
        self.pid1 = pid1
        harness = [*prefix, sys.executable, "-m", "tests.process.harness"]
        harness += ["--events", str(self.events_file), *arguments]
        popen = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **popen}
        self.popen = subprocess.Popen((NAMESPACE if pid1 else []) + harness, cwd=ROOT, **popen)
        self._read = b""

    @property
    def pid(self) -> int:
        """The harness's pid, as seen from here."""
        if not self.pid1:
            return self.popen.pid
        return until(lambda: self._children(self.popen.pid), "unshare forks")[0]

    def _children(self, parent: int) -> list[int]:
        return [process.pid for process in procfs.read_process_table().values() if process.parent == parent]

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def events(self, name: str) -> list[dict[str, Any]]:
        with contextlib.suppress(FileNotFoundError):
            lines = [json.loads(line) for line in self.events_file.read_text().splitlines()]
            return [line for line in lines if line["event"] == name]
        return []

    def event(self, name: str) -> dict[str, Any]:
        return until(lambda: self.events(name), f"event {name}")[-1]

    def says(self, line: str) -> None:
        """Wait for a line on the workload's stdout."""
        assert self.popen.stdout is not None
        wanted = line.encode() + b"\n"
        deadline = time.monotonic() + DEADLINE
        while wanted not in self._read:
            ready, _, _ = select.select([self.popen.stdout], [], [], max(0, deadline - time.monotonic()))
            data = os.read(self.popen.stdout.fileno(), 65536) if ready else b""
            assert data, f"no {line!r} in {self._read!r}"
            self._read += data
        self._read = self._read.partition(wanted)[2]

    def finish(self) -> int:
        """Wait for the end and return the exit code."""
        return self.popen.wait(DEADLINE)

    def output(self) -> tuple[str, str]:
        """Return the rest of stdout and stderr, after the end."""
        out, err = self.popen.communicate(timeout=DEADLINE)
        return (self._read + (out or b"")).decode(), (err or b"").decode()

    def close(self) -> None:
        kill_family(self.popen)
        for stream in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture(params=["subreaper", pytest.param("pid1", marks=pytest.mark.root)])
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Agent]]:
    """Start harnesses; each test runs as a subreaper and as PID 1."""
    agents: list[Agent] = []

    def begin(*arguments: str, **popen: Any) -> Agent:
        agents.append(Agent(tmp_path, *arguments, pid1=request.param == "pid1", **popen))
        return agents[-1]

    yield begin
    for agent in agents:
        agent.close()


# For what the agent is no part of: as PID 1 it would only be the same once more.
AS_SUBREAPER = pytest.mark.parametrize("start", ["subreaper"], indirect=True)


@pytest.fixture
def group(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A control group of our own below the v1 hierarchy that the test names."""
    path = CGROUPS / request.param / f"unitagent-test-{os.getpid()}"
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"this kernel gives no control groups to make: {error}")
    yield path
    until(lambda: not (path / "cgroup.procs").read_text(), "the group is empty")
    path.rmdir()


def enter(group: Path) -> Callable[[], None]:
    def move() -> None:
        (group / "cgroup.procs").write_text(str(os.getpid()))

    return move
