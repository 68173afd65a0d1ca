"""The control groups of this process that account for memory, of either version (cgroups(7))."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from unitagent.system.mounts import read_mounts

_PROC_SELF = Path("/proc/self")


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    """A control group that this process sees.

    Attributes:
        folder: its files.
        top: the highest folder of it and its parents that can be seen.
        version: 1 or 2.

    """

    folder: Path
    top: Path
    version: int


def find_memory_groups(proc_self: Path = _PROC_SELF) -> Iterator[MemoryGroup]:
    """Yield the groups of this process that account for memory; none where the kernel shows none."""
    try:
        groups = dict(_parse_groups((proc_self / "cgroup").read_text()))
        mounts = list(read_mounts(proc_self / "mountinfo"))
    except (OSError, ValueError):
        return
    for mount in mounts:
        if mount.kind == "cgroup2" and "" in groups:
            yield MemoryGroup(_locate_group(mount.point, mount.root, groups[""]), Path(mount.point), 2)
        elif mount.kind == "cgroup" and "memory" in mount.options.split(",") and "memory" in groups:
            folder = _locate_group(mount.point, mount.root, groups["memory"])
            yield MemoryGroup(folder, Path(mount.point), 1)


def _parse_groups(text: str) -> Iterator[tuple[str, str]]:
    """Yield controller and path; the empty name is that of version 2 (lines of ``id:controllers:path``)."""
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            yield controller, path


def _locate_group(point: str, root: str, group: str) -> Path:
    """Return the path of a control group below a mount that shows only the tree below ``root``."""
    if group == root or not group.startswith(root.rstrip("/") + "/"):
        return Path(point)  # a container's mount often shows just its own group
    return Path(point) / group[len(root.rstrip("/")) + 1 :]
