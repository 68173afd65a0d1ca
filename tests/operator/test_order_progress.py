"""When an order counts as carried out: by what the store tells, at a made-up clock."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from unitagent.core.model import InstanceState, Order, OrderKind, Record
from unitagent.operator.order_progress import OrderProgress
from unitagent.operator.unit_cli import _has_started
from unitagent.store.protocol import UnitSnapshot

LEASE = 5.0
HEALTHY, RUNNING, IDLE = InstanceState.HEALTHY, InstanceState.RUNNING, InstanceState.IDLE


def record(rank: int, **others: Any) -> Record:
    return Record(rank=rank, incarnation=f"i{rank}", ip="10.0.0.1", port=0, **{"size": 2, **others})


def told(*records: Record, **ages: float) -> UnitSnapshot:
    """All records, with heartbeats of this moment but where ``rN`` says otherwise."""
    beats = {one.rank: ages.get(f"r{one.rank}", 0.0) for one in records}
    return UnitSnapshot(generation=1, records={one.rank: one for one in records}, ages=beats)


def outcome(kind: OrderKind, *, started: bool = True) -> OrderProgress:
    return OrderProgress(Order(kind=kind, generation=1), LEASE, now=0, started=started)


LEFT = record(0, has_left=True)


@pytest.mark.parametrize(
    ("snapshot", "done"),
    [
        (told(LEFT, record(1)), False),
        (told(LEFT, record(1, has_left=True)), True),
        (told(LEFT, record(1), r1=LEASE + 1), False),  # it may have yet to stop
        (told(LEFT, record(1), r1=LEASE + 2), True),
        (told(), False),
    ],
)
def test_a_unit_is_drained_when_all_have_left_or_are_gone(snapshot: UnitSnapshot, done: bool) -> None:
    assert outcome(OrderKind.DRAIN).observe_snapshot(snapshot, 0.1) is done


@pytest.mark.parametrize("nothing", [None, told()], ids=["the store has ended", "the store is empty"])
def test_nobody_is_told_of_for_long_enough(nothing: UnitSnapshot | None) -> None:
    seen = outcome(OrderKind.DRAIN)
    assert not seen.observe_snapshot(told(record(0), record(1)), 10)
    assert not seen.observe_snapshot(nothing, 16.9)
    assert seen.observe_snapshot(nothing, 17.1)


def test_an_order_that_the_store_forgets_is_lost_unless_a_rank_has_read_it() -> None:
    given = Order(kind=OrderKind.DRAIN, generation=1, number=7)
    unread, read = told(record(0), record(1)), told(record(0), record(1, order=7))
    progress = OrderProgress(given, LEASE, now=0)
    assert not progress.is_lost(replace(unread, order=given), 10)
    assert not progress.is_lost(unread, 11.9)
    assert not progress.is_lost(read, 13)
    assert not progress.is_lost(None, 20)
    assert progress.is_lost(replace(unread, order=replace(given, number=6)), 20)


def test_a_store_that_was_away_has_to_tell_of_nobody_for_as_long_again() -> None:
    seen = outcome(OrderKind.DRAIN)
    seen.note_outage(100)
    assert not seen.observe_snapshot(told(), 101)
    assert seen.observe_snapshot(told(), 107.1)


@pytest.mark.parametrize(
    ("records", "done"),
    [
        ((record(0, generation=2, state=HEALTHY), record(1, generation=2, state=RUNNING)), True),
        ((record(0, generation=2, state=RUNNING), record(1, generation=2, state=RUNNING)), False),
        ((record(0, generation=2, state=HEALTHY), record(1, generation=2, state=IDLE)), False),
        ((record(0, generation=1, state=HEALTHY), record(1, generation=1, state=RUNNING)), False),
        ((record(0, generation=2, state=HEALTHY),), False),
        ((record(0, size=1, generation=2, state=HEALTHY), record(1, generation=1, has_left=True)), True),
        ((record(1, generation=2, state=RUNNING),), False),
        ((), False),
    ],
)
def test_a_unit_is_restarted_when_all_its_ranks_serve(records: tuple[Record, ...], done: bool) -> None:
    assert outcome(OrderKind.RESTART).observe_snapshot(told(*records), 100) is done


@pytest.mark.parametrize(
    ("generation", "states", "done"),
    [
        (1, (HEALTHY, RUNNING), True),
        (2, (HEALTHY, RUNNING), True),
        (1, (RUNNING, RUNNING), False),
        (1, (HEALTHY, IDLE), False),
        (0, (HEALTHY, RUNNING), False),
    ],
)
def test_a_restart_ordered_at_the_barrier_is_fulfilled_by_that_very_start(
    generation: int, states: tuple[InstanceState, InstanceState], done: bool
) -> None:
    seen = outcome(OrderKind.RESTART, started=False)
    ranks = [record(rank, generation=generation, state=state) for rank, state in enumerate(states)]
    assert seen.observe_snapshot(told(*ranks), 100) is done


@pytest.mark.parametrize(
    ("leader", "started"),
    [
        (record(0, generation=1, state=RUNNING), True),
        (record(0, generation=1, state=InstanceState.STARTING), True),
        (record(0, generation=1, state=IDLE), False),
        (record(0, generation=1, state=InstanceState.STOPPING), False),
        (record(0, generation=0, state=HEALTHY), False),  # it has yet to hear that this one has ended
        (record(1, generation=1, state=RUNNING), False),
    ],
)
def test_whether_the_unit_ran_when_the_order_was_given(leader: Record, started: bool) -> None:
    assert _has_started(told(leader), Order(kind=OrderKind.RESTART, generation=1)) is started


@pytest.mark.parametrize(
    ("kind", "snapshot", "hopeless"),
    [
        (OrderKind.RESTART, told(LEFT, record(1, has_left=True)), True),
        (OrderKind.RESTART, told(LEFT, record(1), r1=LEASE + 2), True),
        (OrderKind.RESTART, told(LEFT, record(1), r1=LEASE + 1), False),
        (OrderKind.RESTART, told(), False),  # a store that was emptied is filled again
        (OrderKind.RESTART, None, False),
        (OrderKind.DRAIN, told(LEFT, record(1, has_left=True)), False),
    ],
)
def test_nobody_is_left_to_restart(kind: OrderKind, snapshot: UnitSnapshot | None, hopeless: bool) -> None:
    assert outcome(kind).is_hopeless(snapshot) is hopeless


def test_progress_names_who_is_silent_and_no_trouble_of_the_generation_before() -> None:
    refuses = "http://127.0.0.1:8000/health: connection refused"
    seen = outcome(OrderKind.RESTART)
    old = told(
        record(0, state=RUNNING, generation=1, failed_check=refuses), record(1, state=RUNNING, generation=1)
    )
    assert seen.describe(old) == "0 of 2 ranks run in generation 2 or later"
    new = told(record(0, state=RUNNING, generation=2, failed_check=refuses), r1=LEASE + 2)
    assert seen.describe(new) == (
        "1 of 2 ranks run in generation 2 or later, not responding: rank 1, "
        f"waiting for rank 0's health {refuses}"
    )


def test_a_rank_is_gone_by_the_lease_that_it_publishes() -> None:
    long = tuple(record(rank, lease=60.0) for rank in (0, 1))
    seen = outcome(OrderKind.DRAIN)
    assert not seen.observe_snapshot(told(*long, r0=30, r1=30), 0.1)
    assert seen.quiet == 62
    assert seen.observe_snapshot(told(LEFT, long[1], r1=62), 0.2)
    assert (
        seen.outcome
        == "drained: every rank has stopped, or has been silent for longer than its lease (rank 1)"
    )
