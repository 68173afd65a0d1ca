"""A workload that is alive but dead inside: its main process runs on, one that it cannot do without is gone.

What can be seen from outside without knowing the engine is a *zombie that was killed*: a descendant that a
fatal signal ended (the OOM killer's SIGKILL, a segmentation fault) and that its parent has not reaped. A
parent that reaps has noticed, and may act as it likes; one that does not will wait for ever. A zombie that
exited by itself is only untidy and means nothing.

Whatever else counts, the launcher has named. Of daemons, which nobody but us reaps: a workload may lose any
other orphan and not care; and one that ended as after a SIGTERM was stopped by somebody who knew why. Of
processes with a parent of their own any end counts.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from unitagent.core.exits import Exit, from_wait_status
from unitagent.workload import proc
from unitagent.workload.vital import Vital

_STOPPED = (0, 128 + signal.SIGTERM)
_NEEDED = "the workload cannot do without it"
_EXIT_STATUS = 49  # place in /proc/PID/stat after the name, proc(5) field 52: the wait status of a zombie


@dataclass(frozen=True, slots=True)
class Corpse:
    """A dead descendant that the workload does not know of, or cannot do without.

    Attributes:
        exit: None when its parent knows and we do not.

    """

    pid: int
    name: str
    ticks: int
    exit: Exit | None
    trouble: str = "its parent has not noticed"

    def describe(self) -> str:
        """One sentence for a person, without a full stop."""
        ended = self.exit.describe() if self.exit is not None else "ended"
        return f"process {self.pid} ({self.name}) {ended}, and {self.trouble}"


def family(spared: Collection[int] = ()) -> list[proc.Process]:
    """Descendants of this process, ``spared`` ones and their kin left out. Blocks."""
    return proc.descendants(proc.table(), os.getpid(), spared)


def corpses(relatives: Sequence[proc.Process]) -> frozenset[Corpse]:
    """The killed and unreaped ones among our descendants, our own children left out. Blocks."""
    me = os.getpid()
    dead = (one for one in relatives if one.state == "Z" and one.parent != me)
    found = (Corpse(one.pid, one.name, one.ticks, _exit(one)) for one in dead)
    return frozenset(one for one in found if one.exit is not None and one.exit.signal)


def _exit(process: proc.Process) -> Exit | None:
    """How a zombie ended; None when it was reaped meanwhile."""
    try:
        text = (proc.PROC / str(process.pid) / "stat").read_text(errors="replace")
        state, *fields = text.rpartition(") ")[2].split()
        return from_wait_status(int(fields[_EXIT_STATUS - 1])) if state == "Z" else None
    except (OSError, ValueError, IndexError):
        return None


class Inside:
    """Looks now and then, and names a corpse that lies there at two looks in a row, or who was needed."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._vital = Vital()
        self._before: frozenset[Corpse] = frozenset()
        self._fallen: Corpse | None = None

    def look(self, spared: Collection[int]) -> Corpse | None:
        """Return a process of the workload that is dead for certain, None while there is none. Blocks."""
        if self._fallen is not None:
            return self._fallen
        relatives = family(spared)
        if (lost := self._vital.look(relatives)) is not None:
            self._fallen = Corpse(lost.pid, lost.name, lost.ticks, _exit(lost), _NEEDED)
            return self._fallen
        now = corpses(relatives)
        lasting, self._before = now & self._before, now
        return next(iter(lasting), None)

    @property
    def vital(self) -> frozenset[int]:
        """Pids of those whose end would be told."""
        return self._vital.pids

    def orphan_died(self, pid: int, name: str, ended: Exit) -> None:
        """Note the end of a process that was reaped by us."""
        if name.startswith(self._names) and ended.status not in _STOPPED and self._fallen is None:
            self._fallen = Corpse(pid, name, 0, ended, _NEEDED)

    def begin(self, vital: Collection[str] = ()) -> None:
        """Begin with a new workload, which cannot do without processes whose names begin like these."""
        self._names = tuple(vital)
        self._vital = Vital(vital)
        self._before = frozenset()
        self._fallen = None
