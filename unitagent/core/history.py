"""The history of a Unit: the events of one step of an agent, derived from its states before and after
it.

The invariant: the history only observes. One agent reports what concerns the whole Unit: rank 0, or,
for the first failure of a generation, the agent whose report the store kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from unitagent.core.actions import Action, Quit
from unitagent.core.exits import ExitCode
from unitagent.core.model import Failure, InstanceState, Order, Reason
from unitagent.core.state import State, describe_rank


class EventKind(StrEnum):
    """What an event of the history is about."""

    JOINED = "joined"
    TAKEOVER = "takeover"  # joined, and replaced another incarnation
    GENERATION = "generation"  # an instance is at the barrier of a new one
    BARRIER = "barrier"  # it has opened
    STATE = "state"  # of an instance
    KEEPER = "keeper"  # of an instance: it started, is ready, is out of date, or has ended
    READY = "ready"  # the Unit serves
    ENGINE = "engine"  # what the start of rank 0's engine was made of
    FAILURE = "failure"  # the first of a generation
    EVIDENCE = "evidence"  # what the ranks of a generation that failed were doing
    ORDER = "order"  # an operator's order, a pause of restarts included; reported by the command
    RESTART = "restart"  # an operator ended a generation
    DRAIN = "drain"  # a drain begins
    DRAINED = "drained"  # no request is in flight any more
    ISOLATED = "isolated"
    FENCED = "fenced"
    STORE_LOST = "store-lost"
    STORE_BACK = "store-back"
    QUIT = "quit"  # an agent has ended
    GAP = "gap"  # events were lost


class HistoryEvent(Struct, frozen=True, kw_only=True):
    """One event of the history.

    Attributes:
        at: Seconds since the epoch; by the clock of the reporting agent, until the store dates it.
        generation: The generation that it belongs to.
        rank: The rank that it concerns; 0 if it concerns the whole Unit.
        incarnation: The reporting agent; a command has an incarnation, too.
        kind: What it is about.
        detail: A sentence for people.
        state: State of that rank from here on; None if unchanged.
        number: How many events this incarnation has reported before; incarnation and number identify an
            event.
        phases: Seconds of each phase of the engine's start, if it is about one.

    """

    at: float
    generation: int
    rank: int
    incarnation: str
    kind: EventKind
    detail: str
    state: InstanceState | None = None
    number: int = 0
    phases: dict[str, float] | None = None


def describe_event(event: HistoryEvent) -> dict[str, Any]:
    """An event for programs, with fixed keys."""
    return {
        "at": round(event.at, 3),
        "generation": event.generation,
        "rank": event.rank,
        "incarnation": event.incarnation,
        "kind": event.kind.value,
        "state": event.state.value if event.state else None,
        "detail": event.detail,
        "phases": event.phases,
    }


Derived = Iterator[tuple[EventKind, str]]


def derive_events(
    mine: Failure | None, before: State, after: State, actions: Sequence[Action]
) -> tuple[Failure | None, list[HistoryEvent]]:
    """The events of this step.

    Args:
        mine: The failure that this agent found and the store has not kept yet; the updated one is returned.
        before: The state before the step.
        after: The state that ``decide`` returned.
        actions: The actions that ``decide`` returned.

    """
    derived = [one for rule in _RULES for one in rule(before, after)]
    derived += _derive_quit(after, actions)
    if not derived and after.me.state is not before.me.state:
        derived.append((EventKind.STATE, _describe_state(before, after)))
    events = [_make_event(after, kind, detail) for kind, detail in derived]
    if after.recovery.failure != before.recovery.failure and not after.recovery.failure_stored:
        mine = after.recovery.failure
    if mine is None or not after.recovery.failure_stored:
        return mine, events
    kept = after.recovery.failure is not None and _identify_failure(
        after.recovery.failure
    ) == _identify_failure(mine)
    return None, [_make_failure_event(after, mine), *events] if kept else events


def _make_event(state: State, kind: EventKind, detail: str) -> HistoryEvent:
    return HistoryEvent(
        at=state.now + state.config.epoch,
        generation=state.me.generation,
        rank=state.config.rank,
        incarnation=state.config.incarnation,
        kind=kind,
        detail=detail,
        state=state.me.state,
    )


def _make_failure_event(state: State, failure: Failure) -> HistoryEvent:
    lost = failure.reason is Reason.LOST and failure.rank != state.config.rank
    return HistoryEvent(
        at=failure.at,
        generation=failure.generation,
        rank=failure.rank,
        incarnation=state.config.incarnation,
        kind=EventKind.RESTART if failure.reason is Reason.REQUESTED else EventKind.FAILURE,
        detail=failure.sentence,
        state=InstanceState.LOST if lost else None,
    )


def make_evidence_event(state: State, failure: Failure, at: float, detail: str) -> HistoryEvent:
    """The event for what was found out about a failure later, ``at`` seconds since the epoch."""
    return HistoryEvent(
        at=at,
        generation=failure.generation,
        rank=failure.rank,
        incarnation=state.config.incarnation,
        kind=EventKind.EVIDENCE,
        detail=detail,
    )


def make_engine_event(state: State, detail: str, phases: dict[str, float]) -> HistoryEvent:
    """The event for a start of the engine, which has just ended."""
    return replace(_make_event(state, EventKind.ENGINE, detail), state=None, phases=phases)


def make_order_event(order: Order, at: float, incarnation: str) -> HistoryEvent:
    """The event for an operator's order, reported by the command."""
    return HistoryEvent(
        at=at,
        generation=order.generation,
        rank=0,
        incarnation=incarnation,
        kind=EventKind.ORDER,
        detail=order.origin,
    )


def _identify_failure(failure: Failure) -> tuple[int, int, float]:
    return failure.generation, failure.rank, failure.at


def _describe_self(state: State) -> str:
    return describe_rank(state, state.config.rank)


def _derive_joined(before: State, after: State) -> Derived:
    if before.joined or not after.joined:
        return
    took = after.store.predecessor
    if took is None:
        yield EventKind.JOINED, f"{_describe_self(after)} joined"
    else:
        former = f"incarnation {took.incarnation} on {took.hostname or took.ip}"
        yield EventKind.TAKEOVER, f"{_describe_self(after)} joined and replaced {former}"


def _derive_generation(before: State, after: State) -> Derived:
    if after.me.generation != before.me.generation and after.me.state is InstanceState.IDLE:
        yield (
            EventKind.GENERATION,
            f"{_describe_self(after)} is at the barrier of generation {after.me.generation}",
        )


def _derive_barrier(before: State, after: State) -> Derived:
    new, old = after.workload.gang, before.workload.gang
    if after.config.rank == 0 and new is not None and (old is None or old.generation != new.generation):
        place = f"rank 0 is {new.master_address}, port {new.master_port}"
        many = f"{after.config.size} instance{'s' if after.config.size > 1 else ''}"
        yield EventKind.BARRIER, f"the barrier of generation {new.generation} opened for {many}: {place}"


def _derive_start(before: State, after: State) -> Derived:
    if after.workload.start and after.workload.spawned != before.workload.spawned:
        yield (
            EventKind.STATE,
            f"{_describe_state(before, after)}: its workload started {after.workload.start}",
        )


def _derive_keeper(before: State, after: State) -> Derived:
    old, new, me = before.keeper, after.keeper, _describe_self(after)
    if new.gang is not None and new.gang is not old.gang:
        yield EventKind.KEEPER, f"{me} starts its keeper in generation {new.gang.generation}"
    if new.ready and not old.ready:
        took = f"{after.now - new.since:.1f} s after its start"
        yield EventKind.KEEPER, f"{me}: its keeper is ready, {took}"
    if new.stale and not old.stale:
        yield EventKind.KEEPER, f"{me}: {new.stale}"
    if new.gang is None and old.gang is not None:
        yield EventKind.KEEPER, f"{me}: its keeper of generation {old.gang.generation} has ended"


def _derive_ready(before: State, after: State) -> Derived:
    marks = after.recovery.timestamps
    if after.config.rank == 0 and marks.ready is not None and before.recovery.timestamps.ready != marks.ready:
        took = ""
        if marks.failed is not None:
            seconds = marks.detect + marks.ready - marks.failed
            took = f", {seconds:.2f} s after generation {marks.generation} ended"
        yield EventKind.READY, f"the Unit serves in generation {after.me.generation}{took}"


def _derive_drain(before: State, after: State) -> Derived:
    if after.config.rank != 0:
        return
    if not before.shutdown.draining and after.shutdown.draining:
        yield EventKind.DRAIN, "the Unit drains: no new requests, then rank 0's workload stops first"
    if after.shutdown.drained and not before.shutdown.drained:
        yield EventKind.DRAINED, "no request is in flight any more"


def _derive_isolation(before: State, after: State) -> Derived:
    if after.workload.isolated and not before.workload.isolated:
        yield (
            EventKind.ISOLATED,
            f"{_describe_self(after)} is cut off, {after.workload.isolation_reason}: its workload stops",
        )
    code = after.shutdown.leaving.code if after.shutdown.leaving else None
    if code == ExitCode.FENCED and (before.shutdown.leaving is None or before.shutdown.leaving.code != code):
        yield EventKind.FENCED, f"{_describe_self(after)} is fenced: another incarnation holds its rank"


def _derive_store(before: State, after: State) -> Derived:
    lost, was = "store" in after.warned, "store" in before.warned
    if lost and not was:
        yield (
            EventKind.STORE_LOST,
            f"{_describe_self(after)} lost the store: serving continues, nothing new is started",
        )
    if was and not lost:
        yield EventKind.STORE_BACK, f"{_describe_self(after)} reaches the store again"


_RULES = (
    _derive_joined,
    _derive_generation,
    _derive_barrier,
    _derive_start,
    _derive_keeper,
    _derive_ready,
    _derive_drain,
    _derive_isolation,
    _derive_store,
)


def _derive_quit(state: State, actions: Sequence[Action]) -> Derived:
    for action in actions:
        if isinstance(action, Quit):
            yield (
                EventKind.QUIT,
                f"the agent of {_describe_self(state)} ended with {action.code}: {action.why}",
            )


def _describe_state(before: State, after: State) -> str:
    ended = after.workload.exit if after.me.state is InstanceState.EXITED else None
    stopped = before.me.state is InstanceState.STOPPING
    how = f": its workload {ended.describe_exit(stopped=stopped)}" if ended else ""
    return f"{_describe_self(after)} is {after.me.state}, was {before.me.state}{how}"
