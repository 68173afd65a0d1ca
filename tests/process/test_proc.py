"""A table of processes: kinship in it, and what it costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from unitagent.workload import proc
from unitagent.workload.proc import Process, has_known_origin

SOME = 20  # processes that come and go, and the looks at the count itself


def table(*pairs: tuple[int, int]) -> dict[int, Process]:
    return {pid: Process(pid, "p", "S", parent, 1, 0) for pid, parent in pairs}


@pytest.mark.parametrize(
    ("pid", "known"),
    [
        (1, True),
        (2, True),
        (9, True),  # it was brought into this namespace of pids from outside
        (4, False),  # its parent, 3, came and went while the table was made
        (5, False),
    ],
)
def test_whose_a_process_is_can_be_told_when_all_ancestors_were_seen(pid: int, known: bool) -> None:
    assert has_known_origin(table((1, 0), (2, 1), (4, 3), (5, 4), (9, 0)), pid) is known


def test_a_look_at_all_processes_costs_one_read_of_each() -> None:
    """Every agent does it once a second: it is most of what an idle one costs."""
    proc.table()
    before = reads()
    processes = proc.table()
    assert reads() - before <= len(processes) + SOME


def reads() -> int:
    """How often this thread has asked the kernel to read."""
    lines = Path("/proc/thread-self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("syscr:"))
