"""The agent's side of its watchdog (:mod:`watchdog`).

The invariant: a slow, stopped or dead watchdog costs the agent nothing. The agent never waits for it, and
runs without it if it must. A watchdog that has died, or that stays stopped, is replaced.
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
    from unitagent.core.exits import Exit
    from unitagent.workload.reaper import Reaper

_log = logging.getLogger(__name__)

_MESSAGE_INTERVAL = 0.2  # seconds between two messages
_LOOK = 1.0  # seconds between two checks whether it is stopped
_STOPPED = frozenset("Tt")  # states of proc(5): stopped by a signal, by a tracer
_PAUSE = 0.5  # seconds before another watchdog is started
_WORDS = 4096  # bytes
_END = 1.0  # seconds that a killed watchdog may take
_WATCHDOG = "unitagent.workload.watchdog"
_DISARM = "disarm"
# A bundle has no file of the code, and a command line cannot hold it, so the code comes first through the
# pipe.
_START = (
    "import marshal, os, sys; exec(marshal.loads(os.read(0, int(sys.argv[1]))), {'__name__': '__main__'})"
)


class WatchdogClient:
    """Starts, feeds and replaces the watchdog.

    Attributes:
        pid: pid of the watchdog; 0 if there is none.

    """

    def __init__(self) -> None:
        self.pid = 0
        self._pipe = -1
        self._reports = -1  # the watchdog reports through this
        self._armed = False
        self._unneeded = False
        self._last_contact = -math.inf
        self._checked_at = -math.inf
        self._was_stopped = False
        self._closing = False
        self._gone = asyncio.Event()
        self._reaper: Reaper | None = None

    def start(self, reaper: Reaper) -> None:
        """Start the watchdog as a service child; it spares the other service children but the keeper."""
        if procfs.read_link("/proc/self") != str(
            os.getpid()
        ):  # another PID namespace, where pids mean other processes
            return
        ear, self._pipe = os.pipe()
        self._reports, write_fd = os.pipe()
        code = _load_watchdog_code()
        os.set_blocking(self._pipe, False)
        os.set_blocking(self._reports, False)
        os.write(self._pipe, code)
        try:
            self.pid = _spawn_watchdog(ear, write_fd, len(code))
        except OSError as error:
            _log.warning("no watchdog (%s): if this agent hangs, its workload keeps running", error)
        else:
            self._reaper = reaper
            reaper.watch_child(self.pid, self._on_exit, service=True)
        finally:
            os.close(ear)
            os.close(write_fd)

    def extend_deadline(self, since: float, timeout: float) -> None:
        """Let the workload run until ``timeout`` seconds after ``since``; to be called often.

        Args:
            since: the last contact of the agent, on the monotonic clock.
            timeout: seconds without contact after which the watchdog kills.

        """
        now = time.monotonic()
        if now - self._checked_at >= _LOOK:
            self._checked_at = now
            self._kill_if_stopped()
        if self._armed and now - self._last_contact > timeout:
            self._armed = False
            _log.warning(
                "this agent was unresponsive for %.1f s; unless the whole machine was frozen, the watchdog "
                "has killed its workload",
                now - self._last_contact,
            )
        left, self._unneeded = since + timeout - now, False
        if left > 0 and (not self._armed or since - self._last_contact >= _MESSAGE_INTERVAL):
            self._armed, self._last_contact = True, since
            spared = () if self._reaper is None else self._reaper.services - self._reaper.kept
            self._send_words(f"{left:.3f}", *map(str, spared))

    def _kill_if_stopped(self) -> None:
        """Kill a watchdog that two checks found stopped; at one check the machine may just be waking up."""
        seen = procfs.read_process(self.pid)
        stopped = seen is not None and seen.state in _STOPPED
        if seen is not None and stopped and self._was_stopped:
            _log.warning("the watchdog has been stopped (SIGSTOP or a debugger): killing it")
            procfs.kill_process(seen)
        self._was_stopped = stopped

    def disarm_watchdog(self) -> None:
        """Tell the watchdog that there is no workload; to be called often.

        Not at once: after a restart there is one again within milliseconds, and until then nothing that an
        armed watchdog could kill.
        """
        self._unneeded = True
        if self._armed and time.monotonic() - self._last_contact >= _MESSAGE_INTERVAL:
            self._armed = False
            self._send_words(_DISARM)
            self.has_killed()  # a report about this workload is not about the next one

    def has_killed(self) -> bool:
        """Whether the watchdog has killed the workload since the last call."""
        try:
            return self._reports >= 0 and bool(os.read(self._reports, _WORDS))
        except OSError:  # no report
            return False

    async def close(self) -> None:
        """Close the pipes: an armed watchdog still kills what is left; a disarmed one is killed."""
        self._closing = True
        if self._pipe >= 0:
            os.close(self._pipe)
            os.close(self._reports)
        if self.pid and (self._unneeded or not self._armed):
            os.kill(self.pid, signal.SIGKILL)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._gone.wait(), _END)

    def _on_exit(self, ended: Exit) -> None:
        self.pid = 0
        self._gone.set()
        if not self._closing:
            _log.warning(
                "the watchdog %s: starting another one",
                ended.describe_exit(),
            )
            asyncio.get_running_loop().call_later(_PAUSE, self._start_again)

    def _start_again(self) -> None:
        if not self._closing and self._reaper is not None:
            os.close(self._pipe)
            os.close(self._reports)
            self._armed = False  # the next extend_deadline arms the new one
            self._gone.clear()
            self.start(self._reaper)

    def _send_words(self, *words: str) -> None:
        with contextlib.suppress(OSError):  # it is gone, or stopped and the pipe is full
            os.write(self._pipe, f"{' '.join(words)}\n".encode())


def _load_watchdog_code() -> bytes:
    spec = importlib.util.find_spec(_WATCHDOG)
    loader: Any = spec.loader if spec is not None else None
    return marshal.dumps(loader.get_code(_WATCHDOG))


def _spawn_watchdog(ear: int, write_fd: int, length: int) -> int:
    """Spawn it with all signals blocked but SIGKILL and SIGSTOP: it ends with the agent, not before."""
    actions = [
        (os.POSIX_SPAWN_DUP2, ear, 0),
        (os.POSIX_SPAWN_DUP2, write_fd, 1),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    argv = [sys.executable, "-I", "-S", "-c", _START, str(length), "unitagent-watchdog", str(os.getpid())]
    return os.posix_spawn(sys.executable, argv, {}, file_actions=actions, setsigmask=signal.valid_signals())
