"""Whether anybody was born since the last look, by a number that the kernel keeps: the last pid that it gave
away in our PID namespace, the fifth word of ``/proc/loadavg`` (proc(5)). One short read tells that nobody has
come, however many there are.

The invariant: no birth is missed. A kernel that shows no such number, as a sandbox does, is found out at the
first birth that is known, and from then on there may always have been one.
"""

from __future__ import annotations

from unitagent.workload import proc

_UNKNOWN = -1


class Births:
    """The number, and what it was at the last look."""

    def __init__(self, path: str = f"{proc.PROC}/loadavg") -> None:
        self._path = path
        self._last = _UNKNOWN
        self._tells = True

    def begin(self, pid: int) -> None:
        """This child was born just now: whether the number tells of it says what it is worth."""
        self._last = _UNKNOWN
        self._tells = self._tells and self._number() >= pid

    def any(self) -> bool:
        """Whether there may have been a birth since this was last asked."""
        before, self._last = self._last, self._number()
        return self._last == _UNKNOWN or self._last != before

    def _number(self) -> int:
        if not self._tells:
            return _UNKNOWN
        try:
            return int(proc.line(self._path).split()[4])
        except (OSError, ValueError, IndexError):
            return _UNKNOWN
