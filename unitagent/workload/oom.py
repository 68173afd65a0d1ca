"""Detects whether the workload ended because of an OOM kill. The kernel counts OOM kills per control group,
but not which process or when: we sample the counter, and note when it rose.

Any process counts, not only the main one: an engine whose worker was killed exits by itself a moment later,
and "exit code 1" would hide why. But only for a moment: a workload that kept running without some helper
ended for another reason. Without a readable counter (no cgroup mount, a sandbox kernel) nothing is claimed.
"""

from __future__ import annotations

import math
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from unitagent.system import procfs
from unitagent.system.memory import find_memory_groups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PROC_SELF = Path("/proc/self")

_EXACT = 0.25  # share of the aftermath within which a kill is dated
_COUNT = re.compile(rb"^oom_kill (\d+)$", re.MULTILINE)


class OomCounter:
    """The number of OOM kills in our control group: ``memory.events`` of v2, ``memory.oom_control`` of v1."""

    def __init__(
        self,
        proc_self: Path = _PROC_SELF,
        aftermath: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Find the counter; ``aftermath``: seconds after a kill in which an exit is attributed to it."""
        self._files = [
            str(path) for path in _find_counter_files(proc_self) if _read_oom_kills(str(path)) is not None
        ]
        self._aftermath = aftermath
        self._clock = clock
        self.reset_count()

    def read_count(self) -> int:
        """Return the kills since the control group was created; 0 without a counter."""
        return max((_read_oom_kills(path) or 0 for path in self._files), default=0)

    def reset_count(self) -> None:
        """Ignore earlier kills."""
        self._sampled_at = self._clock()
        self._seen, self._rose_at = self.read_count(), -math.inf

    def sample_if_due(self) -> None:
        """Take a sample if the last one is too old to date a kill precisely enough."""
        if self._clock() - self._sampled_at >= _EXACT * self._aftermath:
            self.take_sample()

    def take_sample(self) -> None:
        """Read the counter, and note when it rose."""
        self._sampled_at = self._clock()
        seen, self._seen = self._seen, self.read_count()
        if self._seen > seen:
            self._rose_at = self._sampled_at

    def killed_recently(self) -> bool:
        """Whether a kill is recent enough to be the cause of an exit now."""
        self.take_sample()
        return self._clock() - self._rose_at <= self._aftermath


def _read_oom_kills(path: str) -> int | None:
    """Read a counter; None if it does not exist."""
    try:
        match = _COUNT.search(procfs.read_line(path))
    except OSError:
        return None
    return int(match[1]) if match else None


def _find_counter_files(proc_self: Path) -> Iterator[Path]:
    for group in find_memory_groups(proc_self):
        yield group.folder / ("memory.events" if group.version > 1 else "memory.oom_control")
