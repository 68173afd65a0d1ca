"""Cut off from everything, an instance ends its workload within the lease and 2 s, whatever its heartbeat."""

from __future__ import annotations

import time

import pytest

from tests.network.conftest import MakeLab
from tests.network.lab import Lab
from tests.waiting import until

BOARD = "unitagent:{lab}:board"


def just_heard(lab: Lab, rank: int) -> None:
    """Wait until the store has got a new beat of a rank: the worst moment to cut it off right after."""

    def beat() -> object:
        return lab.store.client.hget(BOARD, f"b{rank}")

    former = beat()
    until(lambda: beat() != former, f"rank {rank} beats")


@pytest.mark.slow
@pytest.mark.parametrize("host", [0, 1])
@pytest.mark.parametrize(
    ("lease", "heartbeat"), [(6, 3), pytest.param(20, 10, marks=pytest.mark.timeout(180))]
)
def test_an_isolated_instance_ends_its_workload_in_time(
    make_lab: MakeLab, lease: int, heartbeat: int, host: int
) -> None:
    lab = make_lab(2)
    generation = lab.form(UNIT_LEASE_SECONDS=lease, UNIT_HEARTBEAT_SECONDS=heartbeat)["generation"]
    life = lab.main(host, generation)
    just_heard(lab, host)
    lab.net.cut(host)
    cut = time.monotonic()
    lab.until(lambda: not lab.watched(host), "its workload is gone", 2 * lease + 20)
    assert life.died is not None
    assert life.died - cut < lease + 2
