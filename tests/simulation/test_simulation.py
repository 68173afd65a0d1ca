"""The production ``decide`` in seeded worlds full of trouble; ``scripts/simulate.py`` runs many more."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from functools import partial
from multiprocessing.pool import Pool
from typing import Any

import pytest

from tests.simulation.keeper_worlds import simulate_keepers
from tests.simulation.plan import Plan, Profile
from tests.simulation.run import Outcome, simulate
from tests.simulation.world import World

SEEDS, MOMENTS, KEEPERS, AT_ONCE, PROCESSES = 500, 300, 200, 50, 2


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as made:
        yield made


@pytest.mark.parametrize("start", range(0, SEEDS, AT_ONCE))
def test_every_guarantee_holds(pool: Pool, start: int) -> None:
    outcomes: list[Outcome] = pool.map(simulate, range(start, start + AT_ONCE), chunksize=5)
    bad = [f"seed {out.plan.seed}: {out.violations[0]}" for out in outcomes if out.violations]
    assert not bad


@pytest.mark.parametrize("start", range(0, MOMENTS, AT_ONCE))
def test_every_guarantee_holds_in_critical_moments(pool: Pool, start: int) -> None:
    seeds = range(start, start + AT_ONCE)
    outcomes: list[Outcome] = pool.map(partial(simulate, profile=Profile.MOMENTS), seeds, chunksize=5)
    bad = [f"seed {out.plan.seed}: {out.violations[0]}" for out in outcomes if out.violations]
    assert not bad


@pytest.mark.parametrize("start", range(0, KEEPERS, AT_ONCE))
def test_every_guarantee_holds_with_keepers(pool: Pool, start: int) -> None:
    seeds = range(start, start + AT_ONCE)
    outcomes: list[Outcome] = pool.map(simulate_keepers, seeds, chunksize=5)
    bad = [f"seed {out.plan.seed}: {out.violations[0]}" for out in outcomes if out.violations]
    assert not bad


@pytest.mark.parametrize(
    ("seed", "profile"), [(403, {}), (1525, {}), (30110, {}), (20336, {"profile": Profile.MOMENTS})]
)
def test_a_world_that_went_wrong_with_a_numbered_spare_is_well(seed: int, profile: dict[str, Any]) -> None:
    assert not simulate(seed, spares=1, **profile).violations


def test_a_world_whose_lost_holder_went_on_elsewhere_is_well() -> None:
    assert not simulate(191551, profile=Profile.MOMENTS).violations


@pytest.mark.parametrize("seed", [135547, 136690, 139220, 144430, 210962, 212797])
def test_a_world_that_went_wrong_with_keepers_is_well(seed: int) -> None:
    assert not simulate_keepers(seed).violations


def test_a_seed_is_one_story() -> None:
    one, other = simulate(7, told=True), simulate(7, told=True)
    assert one == other
    assert len(one.story) > 20


def _draw_plans(seeds: int) -> list[Plan]:
    return [World(seed).plan for seed in range(seeds)]


def test_every_kind_of_world_is_drawn() -> None:
    plans = _draw_plans(SEEDS)
    assert {plan.profile for plan in plans} == set(Profile) - {Profile.MOMENTS}
    assert any(plan.auto for plan in plans)
    assert any(plan.twins for plan in plans)
    assert max(plan.size for plan in plans) >= 32


def test_every_lease_and_heartbeat_may_be_drawn() -> None:
    pairs = {(plan.lease, plan.heartbeat) for plan in _draw_plans(SEEDS)}
    assert {(2.0, 1.0), (10.0, 5.0), (1.0, 0.5), (60.0, 30.0), (5.0, 1.0)} <= pairs
    assert min(heartbeat for _, heartbeat in pairs) < 0.3
    assert max(lease for lease, _ in pairs) >= 300
