"""A generation that restarts cannot lead to is logged once and ignored, whoever reports it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from tests.core.unit import Unit
from unitagent.core.events import PeerAnswered, ProbeResult
from unitagent.core.model import LEAP, Failure, Reason

LAST = 2**53 - 1


def in_the_counter(unit: Unit) -> None:
    unit.store.board.generation = LAST


def in_a_record(unit: Unit) -> None:
    records = unit.store.board.records
    records[1] = replace(records[1], generation=LAST)


def in_a_failure(unit: Unit) -> None:
    unit.store.board.failure = Failure(generation=LAST, rank=1, ip="10.0.0.1", reason=Reason.EXIT)


def by_a_peer(unit: Unit) -> None:
    peer = unit.agents[1].me
    unit.tell(0, PeerAnswered, 1, peer.incarnation, ProbeResult.ALIVE, LAST, True)


@pytest.mark.parametrize("lie", [in_the_counter, in_a_record, in_a_failure, by_a_peer])
def test_the_unit_goes_on_and_a_later_failure_is_acted_on(lie: Callable[[Unit], None]) -> None:
    unit = Unit(3, guard=True, backoff=(0.0,)).formed()
    lie(unit)
    for _ in range(12):
        unit.wait(0.25)
        assert unit.ready() == {0, 1, 2}
    assert unit.take() == []
    unit.crash(2)
    unit.wait(2)
    assert unit.ready() == {0, 1, 2}
    assert unit.generations() == {2}
    assert {state.recovery.failure and state.recovery.failure.rank for state in unit.agents.values()} == {2}


def test_it_is_said_once_by_each() -> None:
    unit = Unit(2).formed()
    for _ in range(3):
        in_a_record(unit)
        unit.wait(2)
    told = [text for text in unit.said if "restarts cannot lead there" in text]
    assert 0 < len(told) <= len(unit.agents)
    assert all(text.startswith(f"ignored generation {LAST}, reported") for text in told)


def test_a_newcomer_believes_a_unit_that_has_restarted_a_million_times() -> None:
    unit = Unit(2, guard=True)
    unit.store.board.generation = 10**6
    unit.create(0, 1)
    unit.wait(8)  # somebody may hold the ranks that the store has forgotten
    assert unit.generations() == {10**6 + 1}
    assert LEAP > 10**6
