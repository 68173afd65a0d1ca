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
from unitagent.system.mounts import read_mounts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PROC_SELF = Path("/proc/self")

# proc(5): id, parent, device, root, mount point, options, optional fields, "-", type, source, super options.
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
        found = _COUNT.search(procfs.read_line(path))
    except OSError:
        return None
    return int(found[1]) if found else None


def _find_counter_files(proc_self: Path) -> Iterator[Path]:
    try:
        groups = dict(_parse_groups((proc_self / "cgroup").read_text()))
        mounts = list(read_mounts(proc_self / "mountinfo"))
    except (OSError, ValueError):
        return
    for mount in mounts:
        if mount.kind == "cgroup2" and "" in groups:
            yield _locate_group(mount.point, mount.root, groups[""]) / "memory.events"
        elif mount.kind == "cgroup" and "memory" in mount.options.split(",") and "memory" in groups:
            yield _locate_group(mount.point, mount.root, groups["memory"]) / "memory.oom_control"


def _parse_groups(text: str) -> Iterator[tuple[str, str]]:
    """Yield controller and path; the empty name is v2's (cgroups(7): lines of ``id:controllers:path``)."""
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            yield controller, path


def _locate_group(point: str, root: str, group: str) -> Path:
    """Return the path of a control group below a mount that shows only the tree below ``root``."""
    if group == root or not group.startswith(root.rstrip("/") + "/"):
        return Path(point)  # a container's mount often shows just its own group
    return Path(point) / group[len(root.rstrip("/")) + 1 :]
