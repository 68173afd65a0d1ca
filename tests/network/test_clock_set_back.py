"""The clock of the store's server was set back, so its board was born in the future."""

from __future__ import annotations

import time

import pytest

from tests.network.conftest import MakeLab
from tests.network.lab import Lab

BOARD = "unitagent:{lab}:board"
HOUR = 3600


def born_in(lab: Lab, seconds: float) -> None:
    """The board's birth, in microseconds of the server's clock, and who made it."""
    lab.store.client.hset(BOARD, "born", f"{int((time.time() + seconds) * 1e6)} 00000000deadbeef")


@pytest.mark.slow
@pytest.mark.parametrize("lease", [5, 14])
def test_a_table_from_the_future_delays_a_claim_by_a_lease_at_most(make_lab: MakeLab, lease: int) -> None:
    """With the long lease it has time to say why it waits, and that is not that ranks are held."""
    lab = make_lab(1)
    born_in(lab, HOUR)
    began = time.monotonic()
    box = lab.start(0, RANK_ID="auto", UNIT_LEASE_SECONDS=lease)
    lab.until(lambda: box.said("joined Unit lab as rank 0"), "it has its rank", 3 * lease + 10)
    assert time.monotonic() - began < 2 * lease
    assert not box.said("are held")
    assert not box.said("the store is new")  # nobody can know that
    assert box.said("waiting for a free rank", "one lease") is (lease > 10)


def test_a_table_that_is_old_delays_nothing(make_lab: MakeLab) -> None:
    lab = make_lab(1)
    born_in(lab, -HOUR)
    lab.form(RANK_ID="auto", UNIT_LEASE_SECONDS=60)
    assert not lab.agents[0].said("waiting for a free rank")
