"""The agent's end of its watchdog (:mod:`watchdog`).

The invariant: a watchdog that is slow, stopped or dead costs the agent nothing. It is never waited for, and
an agent without one is better than none. One that has ended, or that stays stopped, is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import marshal
import math
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from unitagent.system import procfs

if TYPE_CHECKING:
    from collections.abc import Collection

    from unitagent.core.exits import Exit
    from unitagent.workload.reaper import Reaper

_log = logging.getLogger(__name__)

_APART = 0.2  # seconds between two words
_LOOK = 1.0  # seconds between two looks at whether it is stopped
_STOPPED = frozenset("Tt")  # states of proc(5): by a signal, by a tracer
_PAUSE = 0.5  # seconds before another watchdog is started
_WORDS = 4096  # bytes
_END = 1.0  # seconds that a killed watchdog may take
_WATCHDOG = "unitagent.workload.watchdog"
_REST = "rest"
# A bundle has no file of the code, and the code is no word for a command line: it comes first in the pipe.
_START = (
    "import marshal, os, sys; exec(marshal.loads(os.read(0, int(sys.argv[1]))), {'__name__': '__main__'})"
)


class WatchdogClient:
    """Holds a watchdog, once it is started.

    Attributes:
        pid: of the watchdog; 0 while there is none.

    """

    def __init__(self) -> None:
        self.pid = 0
        self._pipe = -1
        self._reports = -1  # what the watchdog says comes here
        self._spared: Collection[int] = ()
        self._armed = False
        self._last_contact = -math.inf
        self._checked_at = -math.inf
        self._was_stopped = False
        self._closing = False
        self._gone = asyncio.Event()
        self._reaper: Reaper | None = None

    def start(self, reaper: Reaper) -> None:
        """Start the watchdog, as a service child; it spares the others."""
        if procfs.read_link("/proc/self") != str(
            os.getpid()
        ):  # another namespace's: there every pid means another
            return
        ear, self._pipe = os.pipe()
        self._reports, mouth = os.pipe()
        code = _load_watchdog_code()
        os.set_blocking(self._pipe, False)
        os.set_blocking(self._reports, False)
        os.write(self._pipe, code)
        try:
            self.pid = _spawn_watchdog(ear, mouth, len(code))
        except OSError as error:
            _log.warning("no watchdog (%s): should this agent hang, its workload lives on", error)
        else:
            self._reaper, self._spared = reaper, reaper.services
            reaper.watch_child(self.pid, self._on_exit, service=True)
        finally:
            os.close(ear)
            os.close(mouth)

    def extend_deadline(self, since: float, patience: float) -> None:
        """Let the workload live for ``patience`` seconds after ``since``; to be called often.

        Args:
            since: when, on the monotonic clock, the agent was in touch last.
            patience: of the watchdog, in seconds.

        """
        now = time.monotonic()
        if now - self._checked_at >= _LOOK:
            self._checked_at = now
            self._kill_if_stopped()
        if self._armed and now - self._last_contact > patience:
            self._armed = False
            _log.warning(
                "this agent stood still for %.1f s; unless its machine did too, its workload has been ended",
                now - self._last_contact,
            )
        left = since + patience - now
        if left > 0 and (not self._armed or since - self._last_contact >= _APART):
            self._armed, self._last_contact = True, since
            self._send_words(f"{left:.3f}", *map(str, self._spared))

    def _kill_if_stopped(self) -> None:
        """End a watchdog that two looks found stopped; one look may meet a machine that is just waking up."""
        seen = procfs.read_process(self.pid)
        stopped = seen is not None and seen.state in _STOPPED
        if seen is not None and stopped and self._was_stopped:
            _log.warning("the watchdog has been stopped (SIGSTOP or a debugger); it is ended")
            procfs.kill_process(seen)
        self._was_stopped = stopped

    def disarm(self) -> None:
        """There is no workload."""
        if self._armed:
            self._armed = False
            self._send_words(_REST)
            self.has_killed()  # what it says of this workload is not of the next one

    def has_killed(self) -> bool:
        """Whether the watchdog has killed the workload since this was asked last."""
        try:
            return self._reports >= 0 and bool(os.read(self._reports, _WORDS))
        except OSError:  # nothing was said
            return False

    async def close(self) -> None:
        """Let go: a watchdog that is armed still kills what is left, another is ended."""
        self._closing = True
        if self._pipe >= 0:
            os.close(self._pipe)
            os.close(self._reports)
        if self.pid and not self._armed:
            os.kill(self.pid, signal.SIGKILL)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._gone.wait(), _END)

    def _on_exit(self, ended: Exit) -> None:
        self.pid = 0
        self._gone.set()
        if not self._closing:
            _log.warning(
                "the watchdog %s: should this agent hang, its workload lives on; another one is started",
                ended.describe(),
            )
            asyncio.get_running_loop().call_later(_PAUSE, self._start_again)

    def _start_again(self) -> None:
        if not self._closing and self._reaper is not None:
            os.close(self._pipe)
            os.close(self._reports)
            self._armed = False  # the next feed arms the new one
            self._gone.clear()
            self.start(self._reaper)

    def _send_words(self, *words: str) -> None:
        with contextlib.suppress(OSError):  # it is gone, or it stands still and the pipe is full
            os.write(self._pipe, f"{' '.join(words)}\n".encode())


def _load_watchdog_code() -> bytes:
    spec = importlib.util.find_spec(_WATCHDOG)
    loader: Any = spec.loader if spec is not None else None
    return marshal.dumps(loader.get_code(_WATCHDOG))


def _spawn_watchdog(ear: int, mouth: int, length: int) -> int:
    """Spawn it deaf to all signals but SIGKILL and SIGSTOP: it ends with the agent, and not before."""
    actions = [
        (os.POSIX_SPAWN_DUP2, ear, 0),
        (os.POSIX_SPAWN_DUP2, mouth, 1),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    argv = [sys.executable, "-I", "-S", "-c", _START, str(length), "unitagent-watchdog", str(os.getpid())]
    return os.posix_spawn(sys.executable, argv, {}, file_actions=actions, setsigmask=signal.valid_signals())
