"""A simulation that cannot fail proves nothing: each mutant of the core is told apart from the real one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.simulation.keeper_worlds import simulate_keepers
from tests.simulation.mutants import MUTANTS, RARE, Mutant, apply_mutant, kill_mutant
from tests.simulation.run import simulate

SEARCH = range(150)  # when the known seed has lost its edge, because worlds are drawn otherwise now


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: str(mutant.wrong))
def test_a_mutant_breaks_a_guarantee(mutant: Mutant) -> None:
    assert kill_mutant(mutant, SEARCH) is not None


@pytest.mark.parametrize("seed", sorted({one.killed_by for one in MUTANTS if one.world is simulate}))
def test_the_same_world_is_well_with_the_real_core(seed: int) -> None:
    assert not simulate(seed).violations


@pytest.mark.parametrize("seed", sorted({one.killed_by for one in MUTANTS if one.world is not simulate}))
def test_the_same_world_with_keepers_is_well_with_the_real_core(seed: int) -> None:
    assert not simulate_keepers(seed).violations


@pytest.mark.parametrize(("mutant", "story"), RARE, ids=[mutant.wrong for mutant, _ in RARE])
def test_a_rare_mutant_breaks_a_story(mutant: Mutant, story: Callable[[], None]) -> None:
    story()
    with apply_mutant(mutant), pytest.raises(AssertionError):
        story()
