"""Births and deaths of processes, as cheaply as the kernel reports them: a counter for births, pidfds for
deaths.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection

from unitagent.system import procfs

_MOST_WATCHED = 64  # processes; each needs an open file
_NO_PID = -1


class BirthCounter:
    """Whether a process was created since the last call, by the last pid that the kernel gave away in our PID
    namespace: the fifth word of ``/proc/loadavg`` (proc(5)). One short read, however many processes there
    are.

    The invariant: no birth is missed. A kernel without that number, such as a sandbox, is detected at the
    first known birth; from then on the answer is always yes.
    """

    def __init__(self, path: str = f"{procfs.PROC}/loadavg") -> None:
        self._path = path
        self._last = _NO_PID
        self._is_reliable = True

    def calibrate(self, pid: int) -> None:
        """Check the counter against a child that was created just now: if it missed that, do not trust it."""
        self._last = _NO_PID
        self._is_reliable = self._is_reliable and self._read_last_pid() >= pid

    def has_increased(self) -> bool:
        """Whether there may have been a birth since the last call."""
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
    """Wakes its waiter when one of the watched processes dies.

    Attributes:
        died: one may have died: it was reported, or some cannot be watched (too many, or the kernel refuses).

    """

    def __init__(self) -> None:
        self.died = False
        self._handles: dict[int, int] = {}
        self._silent: Collection[int] = ()
        self._notified = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Return after this long, or when a watched process has died."""
        timer = asyncio.get_running_loop().call_later(seconds, self._notified.set)
        try:
            await self._notified.wait()
        finally:
            timer.cancel()
        self._notified.clear()

    def watch_pids(self, pids: Collection[int], silent: Collection[int] = ()) -> None:
        """Watch these processes from now on, and no others; ``silent`` ones do not wake the waiter."""
        self._silent = silent
        for pid in self._handles.keys() - pids:
            self._unwatch_pid(pid)
        for pid in sorted(pids - self._handles.keys(), key=lambda one: one in silent):
            if len(self._handles) < _MOST_WATCHED and (handle := procfs.open_pidfd(pid)) is not None:
                self._watch_handle(pid, handle)
        self.died = len(self._handles) < len(pids)

    def _watch_handle(self, pid: int, handle: int) -> None:
        try:
            asyncio.get_running_loop().add_reader(handle, self._on_exit, pid)
        except OSError:  # epoll takes no more on this machine, or none of this kind
            os.close(handle)
        else:
            self._handles[pid] = handle

    def _on_exit(self, pid: int) -> None:
        self._unwatch_pid(pid)
        self.died = True
        if pid not in self._silent:
            self._notified.set()

    def _unwatch_pid(self, pid: int) -> None:
        handle = self._handles.pop(pid)
        asyncio.get_running_loop().remove_reader(handle)
        os.close(handle)
