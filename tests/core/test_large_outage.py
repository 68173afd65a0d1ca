"""A large Unit without its store: nobody's life hangs on two ranks."""

from __future__ import annotations

from tests.core.unit import Unit

CALM = {"backoff": (0.0,)}


def test_rank_0_is_not_isolated_while_any_of_those_it_answers_answers_it() -> None:
    """Its neighbours are gone, as two ranks of one machine are."""
    unit = Unit(40, **CALM).formed()
    unit.cut = set(range(40))
    unit.kill(1)
    unit.kill(2)
    unit.wait(12)
    assert unit.take() == []
