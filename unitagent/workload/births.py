"""Whether anybody was born since the last look, by a number that the kernel keeps: the last pid that it gave
away in our PID namespace, the fifth word of ``/proc/loadavg`` (proc(5)). One short read tells that nobody has
come, however many there are.

The invariant: no birth is missed. A kernel that shows no such number, as a sandbox does, is found out at the
first birth that is known, and from then on there may always have been one.
"""

from __future__ import annotations

from unitagent.system import procfs

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
