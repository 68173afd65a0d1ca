"""How a process ended, and how this program ends: every exit code that a user can see is named here.

The invariant: ``Exit.status`` is what a shell reports for the same end, so nothing is lost on the way from
the workload through the agent to the platform.
"""

from __future__ import annotations

from enum import IntEnum

from msgspec import Struct


class ExitCode(IntEnum):
    """Exit codes of ``unitagent run`` itself; anything else is the workload's own."""

    DONE = 0  # asked to stop, drained, or all ranks of the job succeeded
    UNEXPECTED = 1  # the workload exited with 0 and nobody asked it to
    CONFIGURATION = 2  # bad option, bad value, or contradictory identity
    STORE = 69  # the store could not be reached at the start
    BUDGET = 70  # restart budget exhausted
    RECREATE = 75  # the platform must rebuild this container
    FENCED = 76  # another live incarnation holds this rank
    DISAGREE = 77  # the ranks differ in what must be equal
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


class Exit(Struct, frozen=True):
    """The end of the workload's main process: exactly one of ``code`` and ``signal`` is set.

    Attributes:
        code: What it passed to ``exit``, 0 to 255.
        signal: Number of the signal that killed it.
        oom: The kernel killed a process of the workload for lack of memory shortly before.
        by_watchdog: This agent's own watchdog killed it.
        left: How many of its other processes were still running when it ended with 0; not counted otherwise.

    """

    code: int | None
    signal: int | None
    oom: bool = False
    by_watchdog: bool = False
    left: int = 0

    def __post_init__(self) -> None:
        if (self.code is None) == (self.signal is None):
            raise ValueError("an exit has either a code or a signal")

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

    def describe_exit(self, *, stopped: bool = False) -> str:
        """One clause for people, without a full stop; ``stopped``: the agent was stopping the workload."""
        if self.signal is None:
            clause = f"exited with code {self.code}"
        else:
            clause = f"was killed by signal {self.signal}"
        if self.oom and not self.by_watchdog:
            return f"{clause}, out of memory"
        if self.signal is not None:
            clause = f"{clause} ({signal_name(self.signal)})"
        if self.by_watchdog:
            return f"{clause}: its agent was unresponsive for longer than a lease, so the watchdog killed it"
        if self.signal == _KILLED:
            return f"{clause}: {'by its agent' if stopped else 'out of memory, or killed from outside'}"
        return clause


def signal_name(number: int) -> str:
    """Return ``SIGTERM`` for 15; real-time and rare signals keep their number."""
    return _NAMES.get(number, f"SIG{number}")


def from_wait_status(status: int) -> Exit:
    """Read what ``waitpid`` returned for a process that has ended (wait(2): low 7 bits are the signal)."""
    signal = status & 0x7F
    return Exit(None, signal) if signal else Exit(status >> 8 & 0xFF, None)
