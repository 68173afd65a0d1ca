"""What is looked at while a workload runs, once a second: hardly anything, as long as nothing happens.

The invariant: how much runs, in the workload or beside it, costs nothing. A number of the kernel tells of
births, a descriptor of each death, a date of files in shared memory; processes are looked at only then.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from unitagent.core.exits import Exit
from unitagent.system.daemon_thread import run_in_daemon_thread
from unitagent.workload.liveness import DeadProcess, LivenessCheck
from unitagent.workload.liveness import ExitNotifier

if TYPE_CHECKING:
    from unitagent.workload.oom import OomCounter
    from unitagent.system.procfs import Process
    from unitagent.workload.reaper import Reaper
    from unitagent.workload.shared_memory import SharedMemory


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
        self._notifier.watch_pids(watched, muted=watched - self._check.required_pids)
