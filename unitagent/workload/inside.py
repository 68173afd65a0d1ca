"""A workload that is alive but dead inside: its main process runs on, one that it cannot do without is gone.

What can be seen from outside without knowing the engine is a *zombie that was killed*: a descendant that a
fatal signal ended (the OOM killer's SIGKILL, a segmentation fault) and that its parent has not reaped. A
parent that reaps has noticed, and may act as it likes; one that does not will wait for ever. A zombie that
exited by itself is only untidy and means nothing.

Of daemons, which nobody but us reaps, only those count that the launcher has named: a workload may lose any
other orphan and not care. One that ended as after a SIGTERM was stopped by somebody who knew why.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection
from dataclasses import dataclass

from unitagent.core.exits import Exit, from_wait_status
from unitagent.workload import proc

_STOPPED = (0, 128 + signal.SIGTERM)
_EXIT_STATUS = 49  # place in /proc/PID/stat after the name, proc(5) field 52: the wait status of a zombie


@dataclass(frozen=True, slots=True)
class Corpse:
    """A dead descendant that the workload does not know of, or cannot do without."""

    pid: int
    name: str
    ticks: int
    exit: Exit
    trouble: str = "its parent has not noticed"

    def describe(self) -> str:
        """One sentence for a person, without a full stop."""
        return f"process {self.pid} ({self.name}) {self.exit.describe()}, and {self.trouble}"


def corpses(spared: Collection[int]) -> frozenset[Corpse]:
    """Killed and unreaped descendants of this process, ``spared`` ones and their kin left out. Blocks."""
    me = os.getpid()
    dead = (
        one for one in proc.descendants(proc.table(), me, spared) if one.state == "Z" and one.parent != me
    )
    return frozenset(corpse for one in dead if (corpse := _killed(one)) is not None)


def _killed(process: proc.Process) -> Corpse | None:
    try:
        text = (proc.PROC / str(process.pid) / "stat").read_text(errors="replace")
        ended = from_wait_status(int(text.rpartition(") ")[2].split()[_EXIT_STATUS]))
    except (OSError, ValueError, IndexError):
        return None
    return Corpse(process.pid, process.name, process.ticks, ended) if ended.signal else None


class Inside:
    """Looks now and then, and names a corpse that lies there at two looks in a row, or a fallen daemon."""

    def __init__(self) -> None:
        self._daemons: frozenset[str] = frozenset()
        self._before: frozenset[Corpse] = frozenset()
        self._fallen: Corpse | None = None

    def look(self, spared: Collection[int]) -> Corpse | None:
        """Return a process of the workload that is dead for certain, None while there is none. Blocks."""
        if self._fallen is not None:
            return self._fallen
        now = corpses(spared)
        lasting, self._before = now & self._before, now
        return next(iter(lasting), None)

    def orphan_died(self, pid: int, name: str, ended: Exit) -> None:
        """Note the end of a process that was reaped by us."""
        if name in self._daemons and ended.status not in _STOPPED and self._fallen is None:
            self._fallen = Corpse(pid, name, 0, ended, "the workload cannot do without it")

    def begin(self, daemons: Collection[str] = ()) -> None:
        """Begin with a new workload, which cannot do without daemons of these names."""
        self._daemons = frozenset(daemons)
        self._before = frozenset()
        self._fallen = None
