"""Processes inside a workload that it cannot do without, known by the beginnings of their names.

Their parent sees them die as well, but some clean up for seconds before they give up, or never do. The
invariant: one that stood there at two looks in a row and is gone at a later one is told, however it ended. A
fork has its parent's name until it executes something else, and counts for nothing.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Sequence

from unitagent.workload.proc import Process, open_pidfd

_MOST = 64  # bells; each takes an open file


class Vital:
    """The vital processes of one workload."""

    def __init__(self, names: Collection[str] = ()) -> None:
        self._names = tuple(names)
        self._before: frozenset[tuple[int, int]] = frozenset()
        self._known: dict[tuple[int, int], Process] = {}

    @property
    def pids(self) -> frozenset[int]:
        """Who is to stay alive."""
        return frozenset(pid for pid, _ in self._known)

    def look(self, family: Sequence[Process]) -> Process | None:
        """Return one that is gone from the descendants of this process; None while there is none."""
        names = {process.pid: process.name for process in family}
        alive = {(one.pid, one.ticks): one for one in family if one.alive}
        now = {key for key, one in alive.items() if self._matches(one, names.get(one.parent))}
        gone = next((one for key, one in self._known.items() if key not in alive), None)
        # One that became ours meanwhile, because its parent died, is told of when we reap it.
        self._known = {key: alive[key] for key in now & (self._before | self._known.keys())}
        self._before = frozenset(now)
        return gone

    def _matches(self, process: Process, parents_name: str | None) -> bool:
        """Whether it counts: named so, with a parent of its own among our descendants that is not like it."""
        return process.name.startswith(self._names) and parents_name not in (None, process.name)


class Bells:
    """Rings when one of some processes ends.

    Attributes:
        died: one may have: it rang, or not everybody has a bell, since they are many or the kernel has none.

    """

    def __init__(self) -> None:
        self.died = False
        self._handles: dict[int, int] = {}
        self._muted: Collection[int] = ()
        self._rung = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Return after so long, or when it rings."""
        timer = asyncio.get_running_loop().call_later(seconds, self._rung.set)
        try:
            await self._rung.wait()
        finally:
            timer.cancel()
        self._rung.clear()

    def hang(self, pids: Collection[int], muted: Collection[int] = ()) -> None:
        """Ring for these from now on, and for no others; ``muted`` ones wake nobody."""
        self._muted = muted
        for pid in self._handles.keys() - pids:
            self._take_down(pid)
        for pid in sorted(pids - self._handles.keys(), key=lambda one: one in muted):
            if len(self._handles) < _MOST and (handle := open_pidfd(pid)) is not None:
                self._put_up(pid, handle)
        self.died = len(self._handles) < len(pids)

    def _ring(self, pid: int) -> None:
        self._take_down(pid)
        self.died = True
        if pid not in self._muted:
            self._rung.set()

    def _put_up(self, pid: int, handle: int) -> None:
        try:
            asyncio.get_running_loop().add_reader(handle, self._ring, pid)
        except OSError:  # too many are waited for on this machine, or none of this kind can be
            os.close(handle)
        else:
            self._handles[pid] = handle

    def _take_down(self, pid: int) -> None:
        handle = self._handles.pop(pid)
        asyncio.get_running_loop().remove_reader(handle)
        os.close(handle)
