"""Who is missing at the barrier, in a sentence that a person reads to its end."""

from __future__ import annotations

import pytest

from tests.core.unit import Unit
from unitagent.core.actions import Log
from unitagent.core.barrier import explain_missing
from unitagent.core.model import Record
from unitagent.core.probe_answers import answer_readyz, describe_absence
from unitagent.core.rank_ownership import wait_for_rank
from unitagent.core.state import State

LONGEST = 3000  # characters, of 1,024 ranks


def alone(size: int) -> State:
    unit = Unit(size)
    unit.create(0)
    return unit.agents[0]


def others(ranks: int, **changes: object) -> dict[int, Record]:
    given: dict[str, object] = {"size": ranks, "port": 9470, "generation": 1, **changes}
    return {
        rank: Record(**{"rank": rank, "incarnation": f"i{rank}", "ip": f"10.0.0.{rank}", **given})  # type: ignore[arg-type]
        for rank in range(1, ranks)
    }


def test_few_are_all_named() -> None:
    assert explain_missing(alone(4)) == "ranks 1, 2, 3 never joined"


def test_who_has_left_says_why_nobody_takes_its_place() -> None:
    state = alone(2)
    for spent, why in ((False, ""), (True, ", as the restart budget is spent")):
        records = {0: state.me, **others(2, has_left=True, budget_exhausted=spent)}
        told = explain_missing(state.with_store(records=records))
        assert told == f"rank 1 (10.0.0.1) has left{why}"


def test_of_many_the_first_are_named_and_the_others_counted() -> None:
    said = explain_missing(alone(1024))
    assert said.startswith("ranks 1, 2, 3, ")
    assert said.endswith(", 16, and 1007 more never joined")


@pytest.mark.parametrize(
    "changes", [{"generation": 0}, {"has_left": True}, {"size": 7}, {"revision": "x"}, {"ip": "10.0.0.9"}]
)
def test_whatever_is_wrong_with_all_of_them_is_read_to_its_end(changes: dict[str, object]) -> None:
    state = alone(1024)
    said = explain_missing(state.with_store(records=others(1024, **changes)))
    assert len(said) < LONGEST


def test_a_newcomer_for_a_rank_that_a_stranger_holds_says_so_once() -> None:
    held = alone(2).with_store(
        unverified_ranks=frozenset({0}), holder="stranger", joined_at=None, ever_answered=True
    )
    state, actions = wait_for_rank(held)
    assert ["is held by an instance with another UNIT_SECRET" in str(one) for one in actions] == [True]
    assert wait_for_rank(state)[1] == ()


def test_a_newcomer_that_can_read_no_record_names_the_secret_and_not_the_store_s_memory() -> None:
    found = alone(2).with_store(
        unverified_ranks=frozenset({1}), joined_at=None, ever_answered=True, records={}
    )
    _, actions = wait_for_rank(found.with_generation(3))
    (said,) = (one.text for one in actions if isinstance(one, Log))
    assert "ignoring the store's record of rank 1: " in said
    assert "signed with another UNIT_SECRET, or unsigned" in said
    assert "has run before" not in said
    _, actions = wait_for_rank(found.with_store(unverified_ranks=frozenset()).with_generation(3))
    assert any("has run before" in one.text for one in actions if isinstance(one, Log))


@pytest.mark.parametrize(
    ("foreign", "sentence"),
    [
        ({2}, "ranks 1, 3 never joined; rank 2 has another UNIT_SECRET than rank 0; all ranks need the same"),
        ({1, 2, 3}, "ranks 1, 2, 3 have another UNIT_SECRET than rank 0; all ranks need the same"),
    ],
)
def test_who_signs_with_another_secret_is_told_apart(foreign: set[int], sentence: str) -> None:
    assert explain_missing(alone(4).with_store(unverified_ranks=frozenset(foreign))) == sentence


def test_a_rank_with_another_secret_is_told_apart_by_probes_and_conditions() -> None:
    state = alone(2).with_store(unverified_ranks=frozenset({1}))
    said = "rank 1 has another UNIT_SECRET"
    assert {check.name: check.reason for check in answer_readyz(state).checks}["ranks"] == said
    assert describe_absence(state, 1) == said
