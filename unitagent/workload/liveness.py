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
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from unitagent.core.exits import Exit, from_wait_status
from unitagent.system import procfs
from unitagent.system.daemon_thread import run_in_daemon_thread
from unitagent.workload.process_events import BirthCounter, ExitNotifier

if TYPE_CHECKING:
    from unitagent.system.procfs import Process
    from unitagent.workload.oom import OomCounter
    from unitagent.workload.reaper import Reaper
    from unitagent.workload.shared_memory import SharedMemory

_QUICK = 0.001  # seconds of a look that the loop may take, once a second
_SHARE, _LONGEST = 1000, 30.0  # after another: a rest of so many times as long, and seconds at most
_VAIN = 4.0  # seconds of rest at most after a search that found nobody: the births were others'
_STOPPED = (0, 128 + signal.SIGTERM)
_NEEDED = "the workload cannot do without it"
_EXIT_STATUS = 49  # place in /proc/PID/stat after the name, proc(5) field 52: the wait status of a zombie


@dataclass(frozen=True, slots=True)
class DeadProcess:
    """A dead descendant that the workload does not know of, or cannot do without.

    Attributes:
        exit: None when its parent knows and we do not.

    """

    pid: int
    name: str
    ticks: int
    exit: Exit | None
    consequence: str = "its parent has not noticed"

    def describe(self) -> str:
        """One sentence for a person, without a full stop."""
        ended = self.exit.describe() if self.exit is not None else "ended"
        return f"process {self.pid} ({self.name}) {ended}, and {self.consequence}"


def find_own_descendants(spared: Collection[int] = ()) -> list[procfs.Process]:
    """Descendants of this process, ``spared`` ones and their kin left out. Blocks."""
    return procfs.find_descendants(os.getpid(), spared)


def find_killed_zombies(relatives: Sequence[procfs.Process]) -> frozenset[DeadProcess]:
    """The killed and unreaped ones among our descendants, our own children left out. Blocks."""
    me = os.getpid()
    dead = (one for one in relatives if one.state == "Z" and one.parent != me)
    found = (DeadProcess(one.pid, one.name, one.ticks, _read_exit(one)) for one in dead)
    return frozenset(one for one in found if one.exit is not None and one.exit.signal)


def _read_exit(process: procfs.Process) -> Exit | None:
    """How a zombie ended; None when it was reaped meanwhile."""
    try:
        text = (procfs.PROC / str(process.pid) / "stat").read_text(errors="replace")
        state, *fields = text.rpartition(") ")[2].split()
        return from_wait_status(int(fields[_EXIT_STATUS - 1])) if state == "Z" else None
    except (OSError, ValueError, IndexError):
        return None


class DescendantTracker:
    """Descendants of this process."""

    def __init__(self) -> None:
        self._known: dict[int, procfs.Process] = {}

    @property
    def pids(self) -> frozenset[int]:
        """Who was there when I looked last."""
        return frozenset(self._known)

    def list_current(self, spared: Collection[int], *, born: bool) -> list[procfs.Process]:
        """Return who is there, ``spared`` ones and their kin left out; ``born``: there may be others now."""
        found = {one.pid: one for one in procfs.find_descendants(os.getpid(), spared)} if born else {}
        for pid, old in self._known.items():
            if pid not in found and (now := procfs.read_process(pid)) is not None and now.ticks == old.ticks:
                found[pid] = now
        self._known = found
        return list(found.values())


class RequiredProcesses:
    """The vital processes of one workload."""

    def __init__(self, names: Collection[str] = ()) -> None:
        self._names = tuple(names)
        self._before: frozenset[tuple[int, int]] = frozenset()
        self._known: dict[tuple[int, int], Process] = {}

    @property
    def pids(self) -> frozenset[int]:
        """Who is to stay alive."""
        return frozenset(pid for pid, _ in self._known)

    def find_missing(self, family: Sequence[Process]) -> Process | None:
        """Return one that is gone from the descendants of this process; None while there is none."""
        names = {process.pid: process.name for process in family}
        alive = {(one.pid, one.ticks): one for one in family if one.alive}
        now = {key for key, one in alive.items() if self._is_required(one, names.get(one.parent))}
        gone = next((one for key, one in self._known.items() if key not in alive), None)
        # One that became ours meanwhile, because its parent died, is told of when we reap it.
        self._known = {key: alive[key] for key in now & (self._before | self._known.keys())}
        self._before = frozenset(now)
        return gone

    def _is_required(self, process: Process, parents_name: str | None) -> bool:
        """Whether it counts: named so, with a parent of its own among our descendants that is not like it."""
        return process.name.startswith(self._names) and parents_name not in (None, process.name)


class LivenessCheck:
    """Looks now and then, and names a corpse that lies there at two looks in a row, or who was needed.

    Attributes:
        quick: the last look took so little that the event loop can take the next one.

    """

    def __init__(self) -> None:
        self.is_quick = False
        self._required_names: tuple[str, ...] = ()
        self._required = RequiredProcesses()
        self._before: frozenset[DeadProcess] = frozenset()
        self._fallen: DeadProcess | None = None
        self._births = BirthCounter()
        self._tracker = DescendantTracker()
        self._watched: frozenset[int] = frozenset()
        self._born = self._open = True
        self._searches_at = self._reads_at = -math.inf
        self._vain = 0.0

    def is_due(self, *, died: bool) -> bool:
        """Whether a look may find what the last one did not; ``died``: somebody who is watched."""
        self._born = self._births.has_increased() or self._born
        self._open = self._open or died
        now = time.monotonic()
        reads, searches = self._open and now >= self._reads_at, self._born and now >= self._searches_at
        return self._fallen is not None or reads or searches

    def find_dead(self, spared: Collection[int]) -> DeadProcess | None:
        """Return a process of the workload that is dead for certain, None while there is none. Blocks."""
        if self._fallen is not None:
            return self._fallen
        began = time.thread_time()
        searches = self._born and time.monotonic() >= self._searches_at
        if searches:
            self._births.has_increased()  # the thread that this runs in was one, perhaps
            self._born = False
        known = self._tracker.pids
        dead = self._select_dead(self._tracker.list_current(spared, born=searches))
        self._schedule_next(
            time.thread_time() - began, searches=searches, found=not self._tracker.pids <= known
        )
        return dead

    def _schedule_next(self, took: float, *, searches: bool, found: bool) -> None:
        """Wait with the next look of that kind; with a search the longer, the more have found nobody."""
        self.is_quick = took < _QUICK
        rest = 0.0 if self.is_quick else min(_SHARE * took, _LONGEST)
        if searches:
            self._vain = 0.0 if found else min(2 * self._vain or 1.0, _VAIN)
            self._searches_at = time.monotonic() + max(rest, self._vain)
        else:
            self._reads_at = time.monotonic() + rest

    def _select_dead(self, relatives: Sequence[procfs.Process]) -> DeadProcess | None:
        if (lost := self._required.find_missing(relatives)) is not None:
            self._fallen = DeadProcess(lost.pid, lost.name, lost.ticks, _read_exit(lost), _NEEDED)
            return self._fallen
        now = find_killed_zombies(relatives)
        lasting, self._before = now & self._before, now
        self._open = bool(now or self._required_names)  # a name may be given, or taken, at any time
        me = os.getpid()
        strangers = frozenset(one.pid for one in relatives if one.alive and one.parent != me)
        self._watched = strangers | self._required.pids
        return next(iter(lasting), None)

    @property
    def watched_pids(self) -> frozenset[int]:
        """Pids of those whose end is worth a look, and is not told to us as their parent."""
        return self._watched

    @property
    def required_pids(self) -> frozenset[int]:
        """Pids of those whose end is to be told at once."""
        return self._required.pids

    def note_orphan_exit(self, pid: int, name: str, ended: Exit) -> None:
        """Note the end of a process that was reaped by us."""
        if name.startswith(self._required_names) and ended.status not in _STOPPED and self._fallen is None:
            self._fallen = DeadProcess(pid, name, 0, ended, _NEEDED)

    def begin_workload(self, required: Collection[str] = (), pid: int = 0) -> None:
        """Begin with a new workload, born as ``pid`` just now.

        It cannot do without processes whose names begin like the ``vital`` ones.
        """
        self._required_names = tuple(required)
        self._births.calibrate(pid)
        self._born = self._open = True
        self._watched = frozenset()
        self._searches_at = self._reads_at = -math.inf
        self._vain = 0.0
        self._required = RequiredProcesses(required)
        self._before = frozenset()
        self._fallen = None


class LivenessMonitor:
    """Over one workload at a time.

    Args:
        reaper: who tells of orphans, and whose service children are spared.
        family: the processes of the workload; blocks.

    """

    def __init__(
        self, reaper: Reaper, oom: OomCounter, shm: SharedMemory, family: Callable[[], Sequence[Process]]
    ) -> None:
        self._reaper, self._oom, self._shm, self._list_members = reaper, oom, shm, family
        self._check = LivenessCheck()
        self._notifier = ExitNotifier()
        reaper.on_orphan = self._check.note_orphan_exit

    def begin_workload(self, required: Collection[str], pid: int) -> None:
        """Begin with a new workload; see :meth:`Inside.begin`."""
        self._check.begin_workload(required, pid)

    async def wait_for_death(self, seconds: float) -> None:
        """Wait so long, or until somebody has died whose death is to be told at once."""
        await self._notifier.wait(seconds)

    async def find_dead_process(self, main: Callable[[], int | None]) -> DeadProcess | None:
        """Find a process whose death the workload has not noticed; ``main`` tells the pid that it has now."""
        self._oom.sample_if_due()
        pid = main()
        if pid is None:
            self._notifier.watch_pids(())
            return None
        if self._shm.has_changed():  # a crash comes without warning, and nobody tells later whose it was
            await run_in_daemon_thread(self._sample_growth)
        if not self._check.is_due(died=self._notifier.died):
            return None
        dead = await self._check_processes(frozenset(self._reaper.services))
        if main() != pid:  # what was looked at has ended meanwhile
            dead = None
        self._watch_exits(main() is not None and dead is None)
        if dead is None or not self._oom.killed_recently():
            return dead
        return replace(dead, exit=replace(dead.exit or Exit(None, signal.SIGKILL), oom=True))

    def _sample_growth(self) -> None:
        if self._shm.has_new_files():
            self._shm.sample_writers(one.pid for one in self._list_members())

    async def _check_processes(self, spared: frozenset[int]) -> DeadProcess | None:
        if self._check.is_quick:
            return self._check.find_dead(spared)
        return await run_in_daemon_thread(lambda: self._check.find_dead(spared))

    def _watch_exits(self, lives: bool) -> None:
        watched = self._check.watched_pids if lives else frozenset()
        self._notifier.watch_pids(watched, silent=watched - self._check.required_pids)
