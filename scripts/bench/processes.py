"""What processes cost: CPU and memory, as the kernel counts them."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path


def cpu(pid: int) -> float:
    """Seconds of CPU that the threads of a process have used, to the nanosecond."""
    found = 0.0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # a thread that has ended meanwhile
            found += int(path.read_text().split()[0]) / 1e9
    return found


def pss(pid: int) -> float:
    """MiB of memory, with a part of each page that others have as well."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def peak(pid: int) -> float:
    """MiB of memory that a process had at most."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def written(pid: int) -> int:
    """Bytes that a process has written, to sockets as well."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar:"))


def children(pid: int) -> Iterator[int]:
    """The processes that one has started itself."""
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        yield from map(int, path.read_text().split())


def descendants(pid: int) -> Iterator[int]:
    """The processes that one has started, and those that they have started."""
    for child in children(pid):
        yield child
        yield from descendants(child)


def cpu_of_ended() -> float:
    """Seconds of CPU of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def is_watchdog(pid: int) -> bool:
    """Whether it is what watches over an agent."""
    return b"watchdog" in Path(f"/proc/{pid}/cmdline").read_bytes()
