"""A workload that is alive but dead inside: its main process runs on, one that it cannot do without is gone.

What can be seen from outside without knowing the engine is a *zombie that was killed*: a descendant that a
fatal signal ended (the OOM killer's SIGKILL, a segmentation fault) and that its parent has not reaped. A
parent that reaps has noticed, and may act as it likes; one that does not will wait for ever. A zombie that
exited by itself is only untidy and means nothing.

A look is taken only when somebody was born or has died, or when the one before has left something open; and
all looks together take no more than a thousandth of the time, however large the workload is.

Whatever else counts, the launcher has named. Of daemons, which nobody but us reaps: a workload may lose any
other orphan and not care; and one that ended as after a SIGTERM was stopped by somebody who knew why. Of
processes with a parent of their own any end counts.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from unitagent.core.exits import Exit, from_wait_status
from unitagent.workload import proc
from unitagent.workload.births import Births
from unitagent.workload.kin import Kin
from unitagent.workload.vital import Vital

_QUICK = 0.001  # seconds of a look that the loop may take, once a second
_SHARE, _LONGEST = 1000, 30.0  # after another: a rest of so many times as long, and seconds at most
_VAIN = 4.0  # seconds of rest at most after a search that found nobody: the births were others'
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
    return proc.family(os.getpid(), spared)


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
    """Looks now and then, and names a corpse that lies there at two looks in a row, or who was needed.

    Attributes:
        quick: the last look took so little that the event loop can take the next one.

    """

    def __init__(self) -> None:
        self.quick = False
        self._names: tuple[str, ...] = ()
        self._vital = Vital()
        self._before: frozenset[Corpse] = frozenset()
        self._fallen: Corpse | None = None
        self._births = Births()
        self._kin = Kin()
        self._watched: frozenset[int] = frozenset()
        self._born = self._open = True
        self._searches_at = self._reads_at = -math.inf
        self._vain = 0.0
        self._again = False

    def is_due(self, *, died: bool) -> bool:
        """Whether a look may find what the last one did not; ``died``: somebody who is watched."""
        self._born = self._births.any() or self._born
        self._open = self._open or died
        now = time.monotonic()
        reads, searches = self._open and now >= self._reads_at, self._born and now >= self._searches_at
        return self._fallen is not None or reads or searches

    def look(self, spared: Collection[int]) -> Corpse | None:
        """Return a process of the workload that is dead for certain, None while there is none. Blocks."""
        if self._fallen is not None:
            return self._fallen
        began = time.thread_time()
        searches = self._born and time.monotonic() >= self._searches_at
        if searches:
            self._births.any()  # the thread that this runs in was one, perhaps
            self._born = False
        known, again = self._kin.pids, False
        corpse = self._judge(self._kin.look(spared, born=searches))
        if searches:  # once more where somebody came or went, who may have hidden another meanwhile
            again, self._again = self._again, self._kin.pids != known
            self._born = self._born or self._again
        found = again or not self._kin.pids <= known
        self._rest(time.thread_time() - began, searches=searches, found=found)
        return corpse

    def _rest(self, took: float, *, searches: bool, found: bool) -> None:
        """Wait with the next look of that kind; with a search the longer, the more have found nobody."""
        self.quick = took < _QUICK
        rest = 0.0 if self.quick else min(_SHARE * took, _LONGEST)
        if searches:
            self._vain = 0.0 if found else min(2 * self._vain or 1.0, _VAIN)
            self._searches_at = time.monotonic() + max(rest, self._vain)
        else:
            self._reads_at = time.monotonic() + rest

    def _judge(self, relatives: Sequence[proc.Process]) -> Corpse | None:
        if (lost := self._vital.look(relatives)) is not None:
            self._fallen = Corpse(lost.pid, lost.name, lost.ticks, _exit(lost), _NEEDED)
            return self._fallen
        now = corpses(relatives)
        lasting, self._before = now & self._before, now
        self._open = bool(now or self._names)  # a name may be given, or taken, at any time
        me = os.getpid()
        strangers = frozenset(one.pid for one in relatives if one.alive and one.parent != me)
        self._watched = strangers | self._vital.pids
        return next(iter(lasting), None)

    @property
    def watched(self) -> frozenset[int]:
        """Pids of those whose end is worth a look, and is not told to us as their parent."""
        return self._watched

    @property
    def vital(self) -> frozenset[int]:
        """Pids of those whose end is to be told at once."""
        return self._vital.pids

    def orphan_died(self, pid: int, name: str, ended: Exit) -> None:
        """Note the end of a process that was reaped by us."""
        if name.startswith(self._names) and ended.status not in _STOPPED and self._fallen is None:
            self._fallen = Corpse(pid, name, 0, ended, _NEEDED)

    def begin(self, vital: Collection[str] = (), pid: int = 0) -> None:
        """Begin with a new workload, born as ``pid`` just now.

        It cannot do without processes whose names begin like the ``vital`` ones.
        """
        self._names = tuple(vital)
        self._births.begin(pid)
        self._born = self._open = True
        self._watched = frozenset()
        self._searches_at = self._reads_at = -math.inf
        self._vain = 0.0
        self._vital = Vital(vital)
        self._before = frozenset()
        self._fallen = None
