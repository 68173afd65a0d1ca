"""A Unit of hundreds whose store is away: nobody is asked by all, and all live on."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.core.large import Large
from unitagent.core.state import ALL_BEATS, watched_peers

MOST_ASKERS = ALL_BEATS + 2  # of rank 0: whom it tells directly, and who has it as a neighbour
OF_A_RELAY = 1024 // ALL_BEATS + 3  # who is told of rank 0 by it, its neighbours, and rank 0's own question
OUTAGE = 7  # seconds, and a lease is 5


@pytest.mark.parametrize("size", [256, *(pytest.param(size, marks=pytest.mark.slow) for size in (512, 1024))])
def test_no_life_depends_on_one_rank_that_answers_all_when_the_store_is_away(size: int) -> None:
    unit = Large(size)
    unit.cut = set(range(size))
    unit.wait(OUTAGE)
    assert unit.take() == []
    assert unit.ready() == set(range(size))
    assert unit.most.pop(0) <= MOST_ASKERS
    assert max(unit.most.values()) <= OF_A_RELAY


@pytest.mark.parametrize("size", [600, 1024])
def test_rank_0_is_watched_by_few(size: int) -> None:
    unit = Large(size)
    watchers = Counter(peer.rank for state in unit.agents.values() for peer in watched_peers(state))
    assert watchers[0] <= MOST_ASKERS
    assert min(watchers[rank] for rank in range(size)) >= 2
