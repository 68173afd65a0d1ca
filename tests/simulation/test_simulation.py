"""The production ``decide`` in seeded worlds full of trouble; ``scripts/simulate.py`` runs many more."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.simulation.plan import Profile
from tests.simulation.run import simulate

SEEDS, AT_ONCE = 500, 50


@pytest.mark.parametrize("start", range(0, SEEDS, AT_ONCE))
def test_every_guarantee_holds(start: int) -> None:
    bad = [out.violations[0] for out in map(simulate, range(start, start + AT_ONCE)) if out.violations]
    assert not bad


def test_a_seed_is_one_story() -> None:
    one, other = simulate(7, told=True), simulate(7, told=True)
    assert one == other
    assert len(one.story) > 20


def test_every_kind_of_world_is_drawn() -> None:
    kinds = Counter(simulate(seed).plan.profile for seed in range(40))
    assert set(kinds) == set(Profile)
