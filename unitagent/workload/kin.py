"""The processes of a workload, known from look to look.

The invariant: who was found once stays known until it is gone, whatever a later look misses. Only when
somebody was born are the others searched for; else each of those that are known is read, and nothing more.
"""

from __future__ import annotations

import os
from collections.abc import Collection

from unitagent.system import procfs


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
