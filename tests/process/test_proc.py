"""Kinship in a table of processes."""

from __future__ import annotations

import pytest

from unitagent.workload.proc import Process, has_known_origin


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
