"""The restart budget: each restart counts once, whoever tells of it and however often."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from unitagent.core import restart_budget
from unitagent.core.model import Charge

NOW, WINDOW = 1000.0, 60.0


def charges(**at: float) -> restart_budget.Charges:
    """``g3=900`` is the restart that ended generation 3."""
    return tuple(Charge(generation=int(name[1:]), at=when) for name, when in at.items())


def test_restarts_leave_the_window() -> None:
    known = charges(g1=NOW - 100, g2=NOW - 60, g3=NOW - 59, g4=NOW)
    assert restart_budget.merge_charges(known, NOW, WINDOW) == charges(g3=NOW - 59, g4=NOW)


def test_a_restart_counts_once_and_from_when_it_was_first_told_of() -> None:
    told = (*charges(g2=990, g1=980), *charges(g1=985), *charges(g1=970, g2=995))
    assert restart_budget.merge_charges(told, NOW, WINDOW) == charges(g1=970, g2=990)


def test_a_clock_that_is_ahead_dates_nothing_later_than_now() -> None:
    ahead = restart_budget.merge_charges(charges(g1=NOW + 1e9), NOW, WINDOW)
    assert ahead == charges(g1=NOW)
    assert restart_budget.merge_charges(ahead, NOW + WINDOW, WINDOW) == ()


def test_all_are_kept_however_many() -> None:
    many = [Charge(generation=number, at=NOW) for number in reversed(range(500))]
    kept = restart_budget.merge_charges(many, NOW, WINDOW)
    assert [charge.generation for charge in kept] == list(range(500))


def test_the_last_allowed_restart_is_allowed() -> None:
    assert not restart_budget.is_spent((), allowed=0)
    assert restart_budget.is_spent(charges(g1=1), allowed=0)
    assert not restart_budget.is_spent(charges(g1=1, g2=2), allowed=2)
    assert restart_budget.is_spent(charges(g1=1, g2=2, g3=3), allowed=2)


def test_the_last_pause_repeats() -> None:
    known = charges(g1=1, g2=2, g3=3, g4=4, g5=5)
    paused = [restart_budget.pause_before(known[:count], (0.0, 1.0, 5.0)) for count in range(6)]
    assert paused == [0.0, 0.0, 1.0, 5.0, 5.0, 5.0]


def test_no_backoff_is_no_pause() -> None:
    assert restart_budget.pause_before(charges(g1=1, g2=2), ()) == 0.0


CHARGES = st.lists(st.builds(Charge, generation=st.integers(0, 5), at=st.floats(900, 1100))).map(tuple)


@given(CHARGES, CHARGES)
def test_who_hears_the_same_restarts_knows_the_same(
    mine: restart_budget.Charges, other: restart_budget.Charges
) -> None:
    """In any order, in any parts, and however often."""

    def merged(*told: Charge) -> restart_budget.Charges:
        return restart_budget.merge_charges(told, NOW, 1000)

    whole = merged(*mine, *other)
    assert whole == merged(*other, *mine) == merged(*merged(*mine), *merged(*other)) == merged(*whole, *mine)
    assert {charge.generation for charge in whole} == {charge.generation for charge in (*mine, *other)}
