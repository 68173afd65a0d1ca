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
from unitagent.workload.background import in_background
from unitagent.workload.inside import Corpse, Inside
from unitagent.workload.vital import Bells

if TYPE_CHECKING:
    from unitagent.workload.oom import OomCounter
    from unitagent.workload.proc import Process
    from unitagent.workload.reaper import Reaper
    from unitagent.workload.shm import SharedMemory


class Lookout:
    """Over one workload at a time.

    Args:
        reaper: who tells of orphans, and whose service children are spared.
        family: the processes of the workload; blocks.

    """

    def __init__(
        self, reaper: Reaper, oom: OomCounter, shm: SharedMemory, family: Callable[[], Sequence[Process]]
    ) -> None:
        self._reaper, self._oom, self._shm, self._family = reaper, oom, shm, family
        self._inside = Inside()
        self._bells = Bells()
        reaper.on_orphan = self._inside.orphan_died

    def begin(self, vital: Collection[str], pid: int) -> None:
        """Begin with a new workload; see :meth:`Inside.begin`."""
        self._inside.begin(vital, pid)

    async def rest(self, seconds: float) -> None:
        """Wait so long, or until somebody has died whose death is to be told at once."""
        await self._bells.wait(seconds)

    async def look(self, main: Callable[[], int | None]) -> Corpse | None:
        """Find a process whose death the workload has not noticed; ``main`` tells the pid that it has now."""
        self._oom.glance()
        pid = main()
        if pid is None:
            self._bells.hang(())
            return None
        if self._shm.changed():  # a crash comes without warning, and nobody tells later whose it was
            await in_background(self._sample_growth)
        if not self._inside.is_due(died=self._bells.died):
            return None
        corpse = await self._look_inside(frozenset(self._reaper.services))
        if main() != pid:  # what was looked at has ended meanwhile
            corpse = None
        self._watch(main() is not None and corpse is None)
        if corpse is None or not self._oom.struck():
            return corpse
        return replace(corpse, exit=replace(corpse.exit or Exit(None, signal.SIGKILL), oom=True))

    def _sample_growth(self) -> None:
        if self._shm.grown():
            self._shm.sample(one.pid for one in self._family())

    async def _look_inside(self, spared: frozenset[int]) -> Corpse | None:
        if self._inside.quick:
            return self._inside.look(spared)
        return await in_background(lambda: self._inside.look(spared))

    def _watch(self, lives: bool) -> None:
        watched = self._inside.watched if lives else frozenset()
        self._bells.hang(watched, muted=watched - self._inside.vital)
