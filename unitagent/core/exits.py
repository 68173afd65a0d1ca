"""How a process ended, and how this program ends: every exit code that a user can meet is named here.

The invariant: ``Exit.status`` is what a shell would report for the same end, so nothing gets lost on the way
from the workload through the agent to the platform.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of ``unitagent run`` itself; anything else is the workload's own."""

    DONE = 0  # asked to stop, drained, or the whole Unit succeeded
    UNEXPECTED = 1  # the workload ended with 0 although nobody asked it to
    CONFIGURATION = 2  # bad option, bad value, impossible identity
    STORE = 69  # the store could not be reached at the start
    BUDGET = 70  # restart budget spent
    RECREATE = 75  # the platform must rebuild this container
    FENCED = 76  # another live incarnation holds this rank
    DISAGREE = 77  # the ranks disagree on what must be equal
    BARRIER_TIMEOUT = 124
    NOT_EXECUTABLE = 126
    NOT_FOUND = 127


# Linux numbers of the signals that processes die of; core imports no ``signal`` module.
_NAMES = {
    1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE",
    9: "SIGKILL", 10: "SIGUSR1", 11: "SIGSEGV", 12: "SIGUSR2", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM",
    24: "SIGXCPU", 25: "SIGXFSZ", 31: "SIGSYS",
}  # fmt: skip

_KILLED = 9


@dataclass(frozen=True, slots=True)
class Exit:
    """The end of the workload's main process: exactly one of ``code`` and ``signal`` is set.

    Attributes:
        code: what it passed to ``exit``, 0 to 255.
        signal: number of the signal that killed it.
        oom: the kernel killed a process of the workload for want of memory, shortly before this end.
        by_watchdog: this agent's own watchdog killed it.
        left: how many other processes of it ran on when it ended with 0; not counted otherwise.

    """

    code: int | None
    signal: int | None
    oom: bool = False
    by_watchdog: bool = False
    left: int = 0

    def __post_init__(self) -> None:
        if (self.code is None) == (self.signal is None):
            raise ValueError("an exit has a code or a signal, and not both")

    @property
    def status(self) -> int:
        """The code that a shell reports: the exit code, or 128 + signal."""
        return self.code if self.code is not None else 128 + (self.signal or 0)

    @property
    def reason(self) -> str:
        """One of ``exit``, ``signal``, ``oom``."""
        if self.oom and not self.by_watchdog:
            return "oom"
        return "exit" if self.signal is None else "signal"

    def describe(self, *, stopped: bool = False) -> str:
        """One clause for a person, without a full stop; ``stopped``: its agent was ending it."""
        if self.signal is None:
            told = f"exited with code {self.code}"
        else:
            told = f"was killed by signal {self.signal}"
        if self.oom and not self.by_watchdog:
            return f"{told}, out of memory"
        if self.signal is not None:
            told = f"{told} ({signal_name(self.signal)})"
        if self.by_watchdog:
            return f"{told}: its agent stood still for longer than the lease, so the watchdog killed it"
        if self.signal == _KILLED:
            return f"{told}: {'by its agent' if stopped else 'out of memory, or killed from outside'}"
        return told


def signal_name(number: int) -> str:
    """Return ``SIGTERM`` for 15; real-time and rare signals keep their number."""
    return _NAMES.get(number, f"SIG{number}")


def from_wait_status(status: int) -> Exit:
    """Read what ``waitpid`` returned for a process that has ended (wait(2): low 7 bits are the signal)."""
    signal = status & 0x7F
    return Exit(None, signal) if signal else Exit(status >> 8 & 0xFF, None)
