"""Resource usage of the workload's processes, read with psutil.

The invariant: it costs nothing until someone asks. psutil is imported for the first question, nothing is
sampled on a timer, and nothing is kept between two questions.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import psutil


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessUsage:
    """What one process uses now.

    Attributes:
        name: as the kernel has it, at most 15 characters.
        cpu_seconds: user and system time since its start.
        memory_bytes: resident memory (RSS); pages shared with other processes count for each of them.
        threads: number of its threads.
        open_files: number of its file descriptors; None if the kernel does not let us look.
        age_seconds: since its start.

    """

    pid: int
    parent: int
    name: str
    cpu_seconds: float
    memory_bytes: int
    threads: int
    open_files: int | None
    age_seconds: float


def sample_usage(pids: Iterable[int]) -> list[ProcessUsage]:
    """Return the usage of these processes, by pid, without those that are gone or zombies. Blocks."""
    usages = (_sample_process(pid) for pid in sorted(pids))
    return [usage for usage in usages if usage is not None]


def _sample_process(pid: int) -> ProcessUsage | None:
    import psutil  # noqa: PLC0415

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            cpu = process.cpu_times()
            return ProcessUsage(
                pid=pid,
                parent=process.ppid(),
                name=process.name()[:15],
                cpu_seconds=round(cpu.user + cpu.system, 2),
                memory_bytes=process.memory_info().rss,
                threads=process.num_threads(),
                open_files=_count_open_files(process),
                age_seconds=round(max(0.0, time.time() - process.create_time()), 1),
            )
    except psutil.Error:  # it has ended, or is hidden from us
        return None


def _count_open_files(process: psutil.Process) -> int | None:
    import psutil  # noqa: PLC0415

    try:
        return process.num_fds()
    except psutil.AccessDenied:
        return None
