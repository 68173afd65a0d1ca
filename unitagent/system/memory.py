"""Memory that this container may still use, by its control groups of either version (cgroups(7)), and
whether GPUs share it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from unitagent.system.mounts import read_mounts

_ROOT = Path("/")
# By version: the files of a group's limit and use, and the fields of the page cache in its memory.stat.
_FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_{}_file"),
    2: ("memory.max", "memory.current", "{}_file"),
}
_UNIFIED = re.compile(r"\b(GB10|Thor|Orin|Xavier)\b")  # NVIDIA systems whose GPU uses the machine's memory


def read_available(root: Path = _ROOT) -> int | None:
    """Return how many bytes may be used before something has to go; None where the kernel does not say.

    It is the least of what the machine has available and what each control group above leaves. The
    page cache of clean files counts as free: the kernel drops it for whoever needs memory.
    """
    return min(_list_limits(root), default=None)


def _list_limits(root: Path) -> Iterator[int]:
    if (available := _read_field(root / "proc/meminfo", "MemAvailable:", 1024)) is not None:
        yield available
    for group in find_memory_groups(root / "proc/self"):
        names = _FILES[group.version]
        for folder in (group.folder, *group.folder.parents):
            if folder.is_relative_to(group.top) and (left := _read_group(folder, *names)) is not None:
                yield left


def _read_group(folder: Path, limit: str, used: str, clean: str) -> int | None:
    """Return what a control group leaves; None without a limit."""
    try:
        left = int((folder / limit).read_text()) - int((folder / used).read_text())
    except (OSError, ValueError):
        return None
    kinds = (clean.format(kind) for kind in ("active", "inactive"))
    return max(0, left + sum(_read_field(folder / "memory.stat", kind, 1) or 0 for kind in kinds))


def _read_field(file: Path, name: str, unit: int) -> int | None:
    try:
        lines = file.read_text().splitlines()
        return next((int(line.split()[1]) * unit for line in lines if line.split()[0] == name), None)
    except (OSError, ValueError, IndexError):
        return None


def _read_word(file: Path, prefix: str) -> str | None:
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    return next((line.removeprefix(prefix) for line in lines if line.startswith(prefix)), None)


def find_unified_gpu(root: Path = _ROOT) -> str:
    """Return the name of a GPU that shares the machine's memory; empty if there is none."""
    for file in sorted(root.glob("proc/driver/nvidia/gpus/*/information")):
        if found := _UNIFIED.search(_read_word(file, "Model:") or ""):
            return found[0]
    return ""


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
