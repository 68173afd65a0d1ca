"""Whether anybody was born since the last look, by a number that the kernel keeps: the last pid that it gave
away in our PID namespace, the fifth word of ``/proc/loadavg`` (proc(5)). One short read tells that nobody has
come, however many there are.

The invariant: no birth is missed. A kernel that shows no such number, as a sandbox does, is found out at the
first birth that is known, and from then on there may always have been one.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection

from unitagent.system import procfs

_MOST_WATCHED = 64  # bells; each takes an open file
_NO_PID = -1


class BirthCounter:
    """The number, and what it was at the last look."""

    def __init__(self, path: str = f"{procfs.PROC}/loadavg") -> None:
        self._path = path
        self._last = _NO_PID
        self._is_reliable = True

    def calibrate(self, pid: int) -> None:
        """This child was born just now: whether the number tells of it says what it is worth."""
        self._last = _NO_PID
        self._is_reliable = self._is_reliable and self._read_last_pid() >= pid

    def has_increased(self) -> bool:
        """Whether there may have been a birth since this was last asked."""
        before, self._last = self._last, self._read_last_pid()
        return self._last == _NO_PID or self._last != before

    def _read_last_pid(self) -> int:
        if not self._is_reliable:
            return _NO_PID
        try:
            return int(procfs.read_line(self._path).split()[4])
        except (OSError, ValueError, IndexError):
            return _NO_PID


class ExitNotifier:
    """Rings when one of some processes ends.

    Attributes:
        died: one may have: it rang, or not everybody has a bell, since they are many or there is no pidfd.

    """

    def __init__(self) -> None:
        self.died = False
        self._handles: dict[int, int] = {}
        self._silent: Collection[int] = ()
        self._notified = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Return after so long, or when it rings."""
        timer = asyncio.get_running_loop().call_later(seconds, self._notified.set)
        try:
            await self._notified.wait()
        finally:
            timer.cancel()
        self._notified.clear()

    def watch_pids(self, pids: Collection[int], silent: Collection[int] = ()) -> None:
        """Ring for these from now on, and for no others; ``muted`` ones wake nobody."""
        self._silent = silent
        for pid in self._handles.keys() - pids:
            self._unwatch_pid(pid)
        for pid in sorted(pids - self._handles.keys(), key=lambda one: one in silent):
            if len(self._handles) < _MOST_WATCHED and (handle := procfs.open_pidfd(pid)) is not None:
                self._handles[pid] = handle
                asyncio.get_running_loop().add_reader(handle, self._on_exit, pid)
        self.died = len(self._handles) < len(pids)

    def _on_exit(self, pid: int) -> None:
        self._unwatch_pid(pid)
        self.died = True
        if pid not in self._silent:
            self._notified.set()

    def _unwatch_pid(self, pid: int) -> None:
        handle = self._handles.pop(pid)
        asyncio.get_running_loop().remove_reader(handle)
        os.close(handle)
