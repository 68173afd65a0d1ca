"""Which signals are ours, which are forwarded to the workload, what it inherits; and the controlling
terminal.

SIGTERM and SIGINT ask this instance to stop, even if they were ignored or blocked when the agent was started:
a shell without job control starts what it runs in the background with SIGINT ignored, and a platform that
sends it means it. One that was ignored stays so, because posix_spawn can reset a signal but not ignore one
for the workload: all threads block it, and one waits for it (Linux keeps a blocked signal even if it is
ignored). Every other signal that can be caught and does not mean "this program is broken" is forwarded
(tini's list). A workload must not notice that an agent runs it: it starts with the signal mask and the
ignored signals that the agent itself was started with. The terminal is lent to the workload's process group
while it runs (``docker run -it``), if stdin is a terminal and our own group is in its foreground.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from unitagent.workload import command

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


STOP = frozenset({signal.SIGTERM, signal.SIGINT})

# With these the terminal stops a background process. PID 1 must never be stopped, and it hands over the
# terminal.
_TERMINAL = frozenset({signal.SIGTTIN, signal.SIGTTOU, signal.SIGTSTP})

# Python ignores these, so that writing to a closed socket is an OSError. Those of our own broken connections
# go to the writing thread, those that were sent to us to the process: so all threads block them, and one that
# never writes waits for them.
BLOCKED = frozenset({signal.SIGPIPE, signal.SIGXFSZ})

_OURS_ALONE = frozenset(
    {
        signal.SIGCHLD, signal.SIGKILL, signal.SIGSTOP, signal.SIGFPE, signal.SIGILL,
        signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS,
    }
)  # fmt: skip


class InheritedSignals(Struct, frozen=True):
    """The signal state that this process was started with.

    Attributes:
        mask: signals that were blocked.
        ignored: signals that were ignored. SIGPIPE and SIGXFSZ are never among them: Python hides their
            state.

    """

    mask: frozenset[int]
    ignored: frozenset[int]

    @property
    def defaults(self) -> frozenset[int]:
        """Signals to reset to their default in a child, because we or Python ignore them."""
        return (_TERMINAL | BLOCKED) - self.ignored

    def spawn_process(
        self, path: str, argv: Sequence[str], env: Mapping[str, str], actions: Sequence[tuple[Any, ...]]
    ) -> int:
        """Start a program in a process group of its own, with the signals that this process was started with,
        and return its pid.

        Raises:
            CommandError: the kernel refuses to run it.

        """
        try:
            return os.posix_spawn(
                path,
                list(argv),
                dict(env),
                file_actions=actions,
                setpgroup=0,
                setsigmask=self.mask,
                setsigdef=self.defaults,
            )
        except (OSError, ValueError) as error:
            raise command.explain_spawn_error(argv[0], error) from error


def read_inherited_signals(mask: frozenset[int] | None = None) -> InheritedSignals:
    """Return our signal state; to be called once, before :func:`install_handlers` changes it.

    ``mask``: the signals blocked at the start, if that has changed since.
    """
    numbers = signal.valid_signals() - BLOCKED
    return InheritedSignals(
        mask=frozenset(signal.pthread_sigmask(signal.SIG_BLOCK, ())) if mask is None else mask,
        ignored=frozenset(number for number in numbers if signal.getsignal(number) == signal.SIG_IGN),
    )


def select_forwarded(inherited: InheritedSignals) -> frozenset[int]:
    """Return the signals to forward to the workload; one that was ignored at the start stays ignored."""
    return frozenset(signal.valid_signals()) - STOP - _TERMINAL - _OURS_ALONE - inherited.ignored


class _Handler:
    """Python's handler of one signal: it passes it to the loop, which calls the current reaction."""

    def __init__(self, loop: asyncio.AbstractEventLoop, react: Callable[[int], object]) -> None:
        self.loop = loop
        self.react = react

    def __call__(self, number: int, _frame: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            self.loop.call_soon_threadsafe(lambda: self.react(number))


def handle_signal(number: int, react: Callable[[int], object]) -> None:
    """Call ``react`` in the running loop for each signal of this number; none is lost.

    asyncio itself can lose signals: it passes them as bytes through the socket that also wakes the loop, and
    when other threads have filled it (some 280 wake-ups in one turn of the loop are enough) the byte is
    dropped. The flag that Python sets for a signal is never dropped, so the flag decides and the byte only
    wakes the loop. A second call only replaces the reaction, so that no signal is lost meanwhile.
    """
    loop = asyncio.get_running_loop()
    present = signal.getsignal(number)
    if isinstance(present, _Handler) and present.loop is loop:
        present.react = react
        return
    loop.add_signal_handler(number, _wake_loop)
    signal.set_wakeup_fd(signal.set_wakeup_fd(-1), warn_on_full_buffer=False)
    signal.signal(number, _Handler(loop, react))
    signal.siginterrupt(number, False)


def _wake_loop() -> None:
    """Do nothing: the :class:`_Handler` does the work."""


class _SignalThread(threading.Thread):
    """The thread that waits for the signals that all other threads block."""

    def __init__(self, handlers: Mapping[int, _Handler]) -> None:
        super().__init__(name="signals", daemon=True)
        self.handlers = handlers

    def run(self) -> None:
        awaited = frozenset(self.handlers)
        while True:
            number = signal.sigwaitinfo(awaited).si_signo
            self.handlers[number](number, None)  # read now: they may have been replaced while waiting


_threads: list[_SignalThread] = []


def _handle_blocked(reactions: Mapping[int, Callable[[int], object]]) -> bool:
    """Block these signals, and call the reaction in the running loop for each that is sent to this process;
    return whether a thread is there to wait for them.

    They must be blocked before there is another thread, which would swallow them.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, reactions)
    loop = asyncio.get_running_loop()
    handlers = {number: _Handler(loop, react) for number, react in reactions.items()}
    if _threads:
        _threads[0].handlers = handlers
        return True
    thread = _SignalThread(handlers)
    try:
        thread.start()
    except RuntimeError:  # no thread is available
        return False
    _threads.append(thread)
    return True


def install_handlers(
    inherited: InheritedSignals, *, on_stop: Callable[[int], None], forward: Callable[[int], None]
) -> frozenset[int]:
    """Handle all signals in the running loop: ``on_stop`` for SIGTERM and SIGINT, else ``forward``.

    Return those that stay blocked from now on. Call this before there is another thread.
    """
    for number in select_forwarded(inherited) - BLOCKED:
        handle_signal(number, forward)
    ignored = STOP & inherited.ignored
    is_awaited = _handle_blocked({one: on_stop if one in STOP else forward for one in BLOCKED | ignored})
    blocked = BLOCKED | ignored if is_awaited else BLOCKED
    for number in STOP - blocked:
        handle_signal(number, on_stop)
    for swallowed in _TERMINAL:
        signal.signal(swallowed, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP - blocked)
    return blocked


class Terminal:
    """The terminal on ``fd``, if that is one.

    Attributes:
        is_lent: the workload has it, so Ctrl-C reaches the workload and not us.

    """

    def __init__(self, fd: int = 0) -> None:
        self._fd = fd
        self.is_lent = False

    def lend_to(self, group: int) -> None:
        """Put ``group`` in the foreground, and wake it if it was stopped for touching it too early."""
        if not self.is_ours:
            return
        self.is_lent = self._set_foreground(group)
        if self.is_lent:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGCONT)

    def take_back(self) -> None:
        """Put our own group in the foreground again."""
        if self.is_lent:
            self._set_foreground(os.getpgrp())
            self.is_lent = False

    @property
    def is_ours(self) -> bool:
        """Whether our own group is in the foreground of a terminal."""
        try:
            return os.tcgetpgrp(self._fd) == os.getpgrp()
        except OSError:  # ENOTTY, EBADF, ENXIO: not a terminal, or not that of our session
            return False

    def _set_foreground(self, group: int) -> bool:
        # A background process that does this is stopped by SIGTTOU, unless it ignores it.
        before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        try:
            os.tcsetpgrp(self._fd, group)
        except OSError:  # the above, or EPERM: the group is gone already
            return False
        finally:
            signal.signal(signal.SIGTTOU, before)
        return True
