"""Detects a workload that is alive but broken: its main process runs, but a process that it needs is dead.

Without knowing the engine, one case is visible from outside: a *killed zombie*, a descendant that a fatal
signal ended (SIGKILL by the OOM killer, a segmentation fault) and that its parent has not reaped. A parent
that reaps has noticed and can react; one that does not will wait forever. A zombie that exited by itself
means nothing.

Other processes count only if the launcher has named them as required. Required daemons are reaped by us: an
exit as after SIGTERM counts as an intended stop, any other exit as a failure. Required processes with a
parent of their own count however they ended, if they were seen in two checks in a row and are missing in a
later one: their parent sees them die as well, but some clean up for seconds before they give up, or never do.
A fork has the name of its parent until it executes something else, and does not count.

The invariant: the cost does not grow with the number of processes, inside or outside the workload. A kernel
counter reports births, a descriptor each death, the timestamp of a folder new shared memory; processes are
read only then, or if the previous check left something open, for at most a thousandth of the time.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from unitagent.core.exits import Exit, from_wait_status
from unitagent.system import procfs
from unitagent.system.threads import run_in_thread_or_here

if TYPE_CHECKING:
    from unitagent.system.procfs import Process
    from unitagent.workload.oom import OomCounter
    from unitagent.workload.reaper import Reaper
    from unitagent.workload.resource_release import SharedMemory


TEMPLATE = "unit-template"
"""The name of a process that a warm workload's children are forked from; it is not part of the workload."""

_QUICK = 0.001  # seconds; a check that is faster may run in the event loop
_SHARE, _LONGEST = (
    1000,
    30.0,
)  # pause after a check: this multiple of its duration, and at most this many seconds
_MAX_SEARCH_PAUSE = 4.0  # seconds of pause at most after a search that found nothing: the births were foreign
_STOPPED = (0, 128 + signal.SIGTERM)
_NEEDED = "the workload cannot run without it"
_EXIT_STATUS = 49  # index in /proc/PID/stat after the name, proc(5) field 52: the wait status of a zombie


class DeadProcess(Struct, frozen=True):
    """A dead descendant that the workload has not noticed, or cannot run without.

    Attributes:
        exit: how it ended; None if only its parent knows.
        consequence: why it matters.

    """

    pid: int
    name: str
    ticks: int
    exit: Exit | None
    consequence: str = "its parent has not reaped it"

    def describe_death(self) -> str:
        """Return one sentence without a full stop."""
        ended = self.exit.describe_exit() if self.exit is not None else "ended"
        return f"process {self.pid} ({self.name}) {ended}, and {self.consequence}"


def find_killed_zombies(relatives: Sequence[procfs.Process]) -> frozenset[DeadProcess]:
    """Return the killed zombies among our descendants, except our own children. Blocks."""
    me = os.getpid()
    dead = (one for one in relatives if one.state == "Z" and one.parent != me and one.name != TEMPLATE)
    zombies = (DeadProcess(one.pid, one.name, one.ticks, _read_exit(one)) for one in dead)
    return frozenset(one for one in zombies if one.exit is not None and one.exit.signal)


def _read_exit(process: procfs.Process) -> Exit | None:
    """Return how a zombie ended; None if it has been reaped meanwhile."""
    try:
        text = (procfs.PROC / str(process.pid) / "stat").read_text(errors="replace")
        state, *fields = text.rpartition(") ")[2].split()
        return from_wait_status(int(fields[_EXIT_STATUS - 1])) if state == "Z" else None
    except (OSError, ValueError, IndexError):
        return None


class DescendantTracker:
    """The descendants of this process.

    The invariant: a process that was found once stays known until it is gone, whatever a later look misses.
    Only after a birth are others searched for; otherwise each known process is read, and nothing else.
    """

    def __init__(self) -> None:
        self._known: dict[int, procfs.Process] = {}

    @property
    def pids(self) -> frozenset[int]:
        """Pids found by the last look."""
        return frozenset(self._known)

    def list_current(self, spared: Collection[int], *, born: bool) -> list[procfs.Process]:
        """Return the descendants, except ``spared`` ones and theirs; ``born``: search for new ones."""
        descendants = {one.pid: one for one in procfs.find_descendants(os.getpid(), spared)} if born else {}
        for pid, old in self._known.items():
            if (
                pid not in descendants
                and (now := procfs.read_process(pid)) is not None
                and now.ticks == old.ticks
            ):
                descendants[pid] = now
        self._known = descendants
        return list(descendants.values())


class RequiredProcesses:
    """The required processes of one workload, known by the prefixes of their names."""

    def __init__(self, names: Collection[str] = ()) -> None:
        self._names = tuple(names)
        self._before: frozenset[tuple[int, int]] = frozenset()
        self._known: dict[tuple[int, int], Process] = {}

    @property
    def pids(self) -> frozenset[int]:
        """Pids that must stay alive."""
        return frozenset(pid for pid, _ in self._known)

    def find_missing(self, family: Sequence[Process]) -> Process | None:
        """Return one that is missing among the descendants of this process; None if there is none."""
        names = {process.pid: process.name for process in family}
        alive = {(one.pid, one.ticks): one for one in family if one.alive}
        now = {key for key, one in alive.items() if self._is_required(one, names.get(one.parent))}
        gone = next((one for key, one in self._known.items() if key not in alive), None)
        # One that became our child meanwhile, because its parent died, is reported when we reap it.
        self._known = {key: alive[key] for key in now & (self._before | self._known.keys())}
        self._before = frozenset(now)
        return gone

    def _is_required(self, process: Process, parents_name: str | None) -> bool:
        """Whether it is required: by its name, with a parent among our descendants that has another name."""
        return process.name.startswith(self._names) and parents_name not in (None, process.name)


class LivenessCheck:
    """Finds a killed zombie that is there in two checks in a row, or a required process that is gone.

    Attributes:
        is_quick: the last check was so fast that the next one can run in the event loop.

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
        self._again = False

    def is_due(self, *, died: bool) -> bool:
        """Whether a check may find something new; ``died``: a watched process may have died."""
        self._born = self._births.has_increased() or self._born
        self._open = self._open or died
        now = time.monotonic()
        reads, searches = self._open and now >= self._reads_at, self._born and now >= self._searches_at
        return self._fallen is not None or reads or searches

    def find_dead(self, spared: Collection[int]) -> DeadProcess | None:
        """Return a process of the workload that is certainly dead; None if there is none. Blocks."""
        if self._fallen is not None:
            return self._fallen
        began = time.thread_time()
        searches = self._born and time.monotonic() >= self._searches_at
        if searches:
            self._births.has_increased()  # the thread that runs this may have been a birth
            self._born = False
        known, again = self._tracker.pids, False
        dead = self._select_dead(self._tracker.list_current(spared, born=searches))
        if searches:  # search again after a change: a process that ended may have hidden its child meanwhile
            again, self._again = self._again, self._tracker.pids != known
            self._born = self._born or self._again
        has_new = again or not self._tracker.pids <= known
        self._schedule_next(time.thread_time() - began, searches=searches, has_new=has_new)
        return dead

    def _schedule_next(self, took: float, *, searches: bool, has_new: bool) -> None:
        """Schedule the next check of this kind; searches that find nothing become rarer."""
        self.is_quick = took < _QUICK
        rest = 0.0 if self.is_quick else min(_SHARE * took, _LONGEST)
        if searches:
            self._vain = 0.0 if has_new else min(2 * self._vain or 1.0, _MAX_SEARCH_PAUSE)
            self._searches_at = time.monotonic() + max(rest, self._vain)
        else:
            self._reads_at = time.monotonic() + rest

    def _select_dead(self, relatives: Sequence[procfs.Process]) -> DeadProcess | None:
        if (lost := self._required.find_missing(relatives)) is not None:
            self._fallen = DeadProcess(lost.pid, lost.name, lost.ticks, _read_exit(lost), _NEEDED)
            return self._fallen
        now = find_killed_zombies(relatives)
        lasting, self._before = now & self._before, now
        self._open = bool(now or self._required_names)  # a process may change its name at any time
        me = os.getpid()
        strangers = frozenset(one.pid for one in relatives if one.alive and one.parent != me)
        self._watched = strangers | self._required.pids
        return next(iter(lasting), None)

    @property
    def watched_pids(self) -> frozenset[int]:
        """Pids of other processes' children whose death is worth a check."""
        return self._watched

    @property
    def required_pids(self) -> frozenset[int]:
        """Pids whose death must be reported at once."""
        return self._required.pids

    def note_orphan_exit(self, pid: int, name: str, ended: Exit) -> None:
        """Note how an orphan ended that we have reaped."""
        if name.startswith(self._required_names) and ended.status not in _STOPPED and self._fallen is None:
            self._fallen = DeadProcess(pid, name, 0, ended, _NEEDED)

    def begin_workload(self, required: Collection[str] = (), pid: int = 0) -> None:
        """Begin with a new workload, just spawned as ``pid``.

        ``required``: prefixes of the names of processes that it cannot run without.
        """
        self._required_names = tuple(required)
        self._births.calibrate_counter(pid)
        self._born = self._open = True
        self._watched = frozenset()
        self._searches_at = self._reads_at = -math.inf
        self._vain = 0.0
        self._required = RequiredProcesses(required)
        self._before = frozenset()
        self._fallen = None


class LivenessMonitor:
    """Checks the processes of one workload at a time, once a second.

    Args:
        reaper: reports orphans; its service children are spared.
        oom: counter of OOM kills.
        shm: shared memory of the workload.
        family: lists the processes of the workload; blocks.

    """

    def __init__(
        self, reaper: Reaper, oom: OomCounter, shm: SharedMemory, family: Callable[[], Sequence[Process]]
    ) -> None:
        self._reaper, self._oom, self._shm, self._list_members = reaper, oom, shm, family
        self._check = LivenessCheck()
        self._notifier = ExitNotifier()
        reaper.orphan_listeners.append(self._check.note_orphan_exit)

    def begin_workload(self, required: Collection[str], pid: int) -> None:
        """Begin with a new workload; see :meth:`LivenessCheck.begin_workload`."""
        self._check.begin_workload(required, pid)

    async def wait_for_death(self, seconds: float) -> None:
        """Wait this long, or until a required process has died."""
        await self._notifier.wait_for_death(seconds)

    async def find_dead_process(self, main: Callable[[], int | None]) -> DeadProcess | None:
        """Return a dead process that matters; ``main`` returns the current pid of the workload, if any."""
        self._oom.sample_if_due()
        pid = main()
        if pid is None:
            self._notifier.watch_pids(())
            return None
        if (
            self._shm.has_changed()
        ):  # a crash comes without warning, and later nothing shows whose file it was
            await run_in_thread_or_here(self._sample_growth)
        if not self._check.is_due(died=self._notifier.died):
            return None
        dead = await self._check_processes(self._reaper.list_services())
        if main() != pid:  # the workload that was checked has ended meanwhile
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
        return await run_in_thread_or_here(lambda: self._check.find_dead(spared))

    def _watch_exits(self, lives: bool) -> None:
        watched = self._check.watched_pids if lives else frozenset()
        self._notifier.watch_pids(watched, silent=watched - self._check.required_pids)


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

    def calibrate_counter(self, pid: int) -> None:
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

    async def wait_for_death(self, seconds: float) -> None:
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
