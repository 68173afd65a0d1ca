"""What the history of a Unit says: exact stories, told once each."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from tests.core.unit import Unit
from unitagent.core.events import Drained
from unitagent.core.history import EventKind, HistoryEvent, derive_events, make_order_event
from unitagent.core.model import Failure, InstanceState, OrderKind


class Told(Unit):
    """A Unit whose agents tell their history."""

    def __init__(self, size: int, **rules: Any) -> None:
        super().__init__(size, **rules)
        self.events: list[HistoryEvent] = []
        self._found: dict[str, Failure | None] = {}

    def stepped(self, before: Any, after: Any, actions: Any) -> None:
        incarnation = after.config.incarnation
        found = self._found.get(incarnation)
        self._found[incarnation], told = derive_events(found, before, after, actions)
        self.events += told

    def story(self) -> list[str]:
        """What was told since somebody last looked, as ``rank kind state``."""
        moments, self.events = self.events, []
        return [f"{one.rank} {one.kind} {one.state or '-'}" for one in moments]

    def of(self, kind: EventKind) -> list[HistoryEvent]:
        return [one for one in self.events if one.kind is kind]


def formed(size: int = 2, **rules: Any) -> Told:
    unit = Told(size, guard=True, backoff=(0.0,), **rules)
    unit.formed()
    unit.events.clear()
    return unit


def test_a_unit_that_forms() -> None:
    unit = Told(2, guard=True)
    unit.formed()
    assert unit.story() == [
        "0 joined idle",
        "0 generation idle",
        "1 joined idle",
        "1 generation idle",
        "0 barrier starting",
        "0 state healthy",
        "1 state starting",
        "1 state running",
        "0 ready healthy",
    ]


def test_nothing_is_told_while_nothing_happens() -> None:
    unit = formed()
    unit.wait(60)
    assert unit.story() == []


def test_a_failure_is_told_once_by_whoever_found_it_before_what_it_caused() -> None:
    unit = formed(3)
    at = unit.now
    unit.crash(2, 7)
    unit.wait(1)
    (failure,) = unit.of(EventKind.FAILURE)
    assert (failure.generation, failure.rank, failure.incarnation, failure.at) == (1, 2, "i3", at)
    assert failure.detail == "generation 1 ended: rank 2 (10.0.0.2) exited with code 7; ranks 0, 1 stopped"
    assert [one.generation for one in unit.of(EventKind.BARRIER)] == [2]
    assert unit.of(EventKind.BARRIER)[0].detail == (
        "the barrier of generation 2 opened for 3 instances: rank 0 is 10.0.0.0, port 20002"
    )
    assert (
        unit.of(EventKind.READY)[0].detail
        == "the Unit serves in generation 2, 0.00 s after generation 1 ended"
    )
    rank2 = [
        (one.kind, one.state) for one in unit.events if one.rank == 2 and one.kind is not EventKind.FAILURE
    ]
    assert rank2 == [
        (EventKind.STATE, InstanceState.STOPPING),
        (EventKind.GENERATION, InstanceState.IDLE),
        (EventKind.STATE, InstanceState.STARTING),
        (EventKind.STATE, InstanceState.RUNNING),
    ]


def test_failures_that_come_together_are_one() -> None:
    unit = formed(3)
    unit.cut.update({1, 2})
    unit.crash(1, 1)
    unit.crash(2, 1)
    unit.crash(0, 1)
    unit.cut.clear()
    unit.wait(5)
    assert [(one.rank, one.generation) for one in unit.of(EventKind.FAILURE)] == [(0, 1)]


def test_an_old_failure_is_not_told_again_after_an_outage() -> None:
    unit = formed(2)
    unit.crash(1, 1)
    unit.wait(5)
    unit.events.clear()
    unit.cut.update({0, 1})
    unit.wait(3)
    unit.store.wipe()
    unit.cut.clear()
    unit.wait(3)
    assert [one.split()[1] for one in unit.story()] == ["store-lost"] * 2 + ["store-back"] * 2


def test_a_failure_found_in_an_outage_is_told_when_the_store_has_it() -> None:
    unit = formed(2)
    unit.cut.update({0, 1})
    unit.wait(1)
    at = unit.now
    unit.crash(1, 1)
    unit.wait(2)
    assert unit.of(EventKind.FAILURE) == []
    unit.cut.clear()
    unit.wait(3)
    assert [(one.rank, one.at) for one in unit.of(EventKind.FAILURE)] == [(1, at)]


def test_a_rank_that_is_lost_is_told_by_another_and_its_replacement_takes_over() -> None:
    unit = formed(2)
    unit.kill(1)
    unit.wait(10)
    (failure,) = unit.of(EventKind.FAILURE)
    assert (failure.rank, failure.incarnation, failure.state) == (1, "i1", InstanceState.LOST)
    unit.create(1, hostname="new")
    unit.wait(5)
    (takeover,) = unit.of(EventKind.TAKEOVER)
    assert (takeover.rank, takeover.incarnation) == (1, "i3")
    assert takeover.detail == "rank 1 (10.0.0.1) joined and replaced incarnation i2 on 10.0.0.1"


def test_a_rebuilt_instance_tells_that_it_was_the_failure() -> None:
    unit = formed(2)
    unit.kill(1)
    unit.create(1)
    unit.wait(8)
    (failure,) = unit.of(EventKind.FAILURE)
    assert failure.rank == 1
    assert [one.incarnation for one in unit.of(EventKind.TAKEOVER)] == ["i3"]


def test_a_restart_that_was_asked_for_is_no_failure() -> None:
    unit = formed(2)
    order = unit.order(OrderKind.RESTART, "new weights")
    unit.wait(5)
    (restart,) = unit.of(EventKind.RESTART)
    assert restart.generation == 1
    assert restart.detail == "generation 1 ended: a restart was requested: new weights; ranks 0, 1 stopped"
    assert unit.of(EventKind.FAILURE) == []
    told = make_order_event(replace(order, by="ops@bastion"), 7.0, "id")
    assert (told.at, told.generation, told.incarnation, told.state) == (7.0, 1, "id", None)
    assert told.detail == "ops@bastion asked for a restart: new weights"


def test_a_drain_to_its_end() -> None:
    unit = formed(2)
    unit.order(OrderKind.DRAIN)
    unit.wait(4)
    unit.tell(0, Drained)
    unit.wait(30)
    exited = "rank 1 (10.0.0.1) is exited, was stopping: its workload was killed by signal 15 (SIGTERM)"
    assert exited in [one.detail for one in unit.events]
    assert [one for one in unit.story() if one.split()[1] != "state"] == [
        "0 drain healthy",
        "0 drained stopping",
        "1 quit exited",
        "0 quit exited",
    ]


def test_who_is_cut_off_or_fenced_says_so() -> None:
    unit = formed(3)
    unit.cut.add(2)
    unit.silent.add(2)
    unit.wait(12)
    (isolated,) = unit.of(EventKind.ISOLATED)
    assert (isolated.rank, isolated.state) == (2, InstanceState.STOPPING)
    unit.cut.clear()
    unit.rival(2, beats=3)
    assert [one.rank for one in unit.of(EventKind.FENCED)] == [2]
    assert unit.of(EventKind.QUIT)[0].detail.startswith(
        "the agent of rank 2 (10.0.0.2) ended with 76: fenced"
    )


def test_how_a_workload_was_started_is_told_where_that_could_be_in_two_ways() -> None:
    before = formed().agents[0]
    for start, told in (("warm (forked in 0.010 s)", 1), ("", 0)):
        after = before.with_workload(spawned=before.workload.spawned + 1, start=start)
        _, events = derive_events(None, before, after, ())
        assert len(events) == told
        assert all(one.kind is EventKind.STATE and one.detail.endswith(start) for one in events)
    assert derive_events(None, after, after, ())[1] == []
