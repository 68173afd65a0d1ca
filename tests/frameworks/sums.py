"""What the processes of ``programs/all_reduce.py`` have computed together."""

from __future__ import annotations

import itertools
from pathlib import Path

from tests.network.lab import Lab
from tests.network.lives import Life

STEPS = 10
PATIENCE = 150.0  # seconds for a generation to compute; four imports of PyTorch on a machine with other work


def wait_for_sums(lab: Lab, processes: int, generation: int) -> None:
    """Wait until every process has computed ``STEPS`` sums."""

    def done() -> bool:
        steps = [line for line in lab.events("sum", generation=generation) if line["step"] == STEPS]
        return len(steps) == processes

    lab.until(done, f"{processes} processes computed {STEPS} sums in generation {generation}", PATIENCE)


def hold_sums(lab: Lab, instances: int, each: int) -> None:
    """All sums so far are right, in a world of the right size and in order of rank."""
    processes = instances * each
    for generation, step in itertools.product((1, 2), range(1, STEPS + 1)):
        lines = [line for line in lab.events("sum", generation=generation) if line["step"] == step]
        assert sorted(line["process"] for line in lines) == list(range(processes))
        assert {line["world"] for line in lines} == {processes}
        assert {line["sum"] for line in lines} == {sum(range(1, processes + 1)) * step * generation}
        assert all(line["process"] // each == line["rank"] for line in lines)


def worker(lab: Lab, rank: int, local_rank: int) -> Life:
    """The living process that a launcher started with this local rank."""
    mark = f"LOCAL_RANK={local_rank}".encode()
    found = [
        life
        for life in lab.watched(rank)
        if mark in Path(f"/proc/{life.pid}/environ").read_bytes().split(b"\0")
    ]
    assert len(found) == 1, found
    return found[0]
