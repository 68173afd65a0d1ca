"""What an agent asks of Python and of the kernel may be missing (a Python built for old kernels, as conda's
is; a sandbox) or forbidden (a seccomp profile): a Unit restarts in place all the same, and leaves nothing.
"""

from __future__ import annotations

import os
import signal
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.acceptance.local import command_line
from tests.acceptance.solo import Solo
from tests.waiting import DEADLINE, until
from unitagent.system import procfs

PROGRAMS = Path(__file__).parent / "programs"
ROOT = Path(__file__).parents[2]
SHM = Path("/dev/shm")  # noqa: S108 - the place itself
# A daemon that SIGTERM does not end, with a file in shared memory.
DAEMON = """setsid sh -c 'trap "" TERM; exec 9>/dev/shm/$NAME; exec sleep $SECONDS' &
until [ -e /dev/shm/$NAME ]; do sleep 0.01; done"""


def forbid(call: str, refusal: str) -> list[str]:
    return [sys.executable, str(PROGRAMS / "forbid.py"), call, refusal]


def without(*names: str) -> list[str]:
    return [sys.executable, str(PROGRAMS / "without.py"), *names, "--"]


class Crashing:
    """A Unit of one with such a daemon; its main process is killed."""

    def __init__(self, folder: Path, prefix: Sequence[str]) -> None:
        self.name = f"missing-{uuid.uuid4().hex}"
        self.seconds = f"1001.{int(self.name[8:16], 16)}"  # a sleep that no other test has
        self.solo = Solo(
            folder, "--restart-grace-seconds", "0.2", "--backoff-seconds", "0", "--stop-grace-seconds", "3",
            "--drain-seconds", "0", "--deregister-seconds", "0",
            prefix=prefix, PYTHONPATH=str(ROOT), NAME=self.name, SECONDS=self.seconds, DAEMON=DAEMON,
        )  # fmt: skip

    def daemons(self) -> list[int]:
        return [pid for pid in procfs.list_pids() if command_line(pid) == f"sleep\0{self.seconds}\0"]

    def daemon(self) -> int:
        return until(self.daemons, "the daemon runs")[0]

    def main(self, generation: int) -> int:
        self.solo.ready(generation - 1)
        return int(self.solo.status()["instances"][0]["pid"])

    def restarts(self) -> None:
        """A crash is followed by a restart in place, with nothing left of the former generation."""
        generation = self.solo.ready()["generation"]
        daemon = self.daemon()
        os.kill(self.main(generation), signal.SIGKILL)
        self.solo.ready(generation)
        assert command_line(daemon) == ""  # perhaps its new parent does not reap
        assert until(self.daemons, "the daemon runs again") != [daemon]
        until(self.left, "and has its file")

    def stops(self) -> None:
        self.solo.popen.send_signal(signal.SIGTERM)
        assert self.solo.popen.wait(DEADLINE) == 0, self.solo.output.read_text()
        assert self.daemons() == []

    def left(self) -> list[Path]:
        return list(SHM.glob(self.name))

    def said(self) -> str:
        return self.solo.output.read_text()

    def close(self) -> None:
        self.solo.close()
        for pid in self.daemons():
            os.kill(pid, signal.SIGKILL)
        for path in self.left():
            path.unlink()


@pytest.fixture
def unit(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Crashing]:
    one = Crashing(tmp_path, request.param)
    yield one
    one.close()


_REFUSALS = ("EPERM", "ENOSYS")
_CALLS = {
    "pidfd_open": "pidfd_open",
    "pidfd_send_signal": "pidfd_send_signal",
    "prctl": "prctl",
    "sock_diag": "socket:2=4",  # NETLINK_SOCK_DIAG
    "memfd_create": "memfd_create",
}
_PREFIXES = {
    "no os.pidfd_open": without("os.pidfd_open"),
    "no signal.pidfd_send_signal": without("signal.pidfd_send_signal"),
    "none of what is newer than the kernel of 2013": without(
        "os.pidfd_open", "signal.pidfd_send_signal", "os.memfd_create"
    ),
} | {f"{name} {refusal}": forbid(call, refusal) for name, call in _CALLS.items() for refusal in _REFUSALS}


@pytest.mark.parametrize("unit", _PREFIXES.values(), ids=_PREFIXES, indirect=True)
def test_a_unit_restarts_in_place(unit: Crashing) -> None:
    unit.restarts()
    unit.stops()
    assert unit.left() == []


@pytest.mark.parametrize("refusal", ["EPERM", "EINVAL", "ENOSYS"])
def test_where_nobody_can_tell_who_has_a_file_it_stays_and_is_said(tmp_path: Path, refusal: str) -> None:
    """F_SETLEASE: a sandbox kernel knows no leases."""
    unit = Crashing(tmp_path, forbid("fcntl:1=1024", refusal))
    try:
        unit.restarts()
        unit.stops()
        assert [path.name for path in unit.left()] == [unit.name]
        assert (
            f"leaving files in /dev/shm, since the kernel does not tell whether they are in use: {unit.name}"
            in unit.said()
        )
    finally:
        unit.close()


@pytest.mark.parametrize("unit", [forbid("prctl", "EPERM")], indirect=True, ids=["prctl"])
def test_it_is_said_that_orphans_are_not_handed_over(unit: Crashing) -> None:
    unit.solo.ready()
    assert "the kernel does not hand orphans to this agent (prctl is refused)" in unit.said()
