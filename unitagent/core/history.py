"""The history of a Unit: what one agent tells of each step, made of nothing but its state before and after.

The invariant: it only observes. What concerns the whole Unit is told by one rank: by rank 0, and the first
failure of a generation by the agent whose report the store has kept as the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from unitagent.core.actions import Action, Quit
from unitagent.core.exits import ExitCode
from unitagent.core.model import Failure, InstanceState, Order, Reason
from unitagent.core.state import State, describe_rank


class EventKind(StrEnum):
    """What a moment of the history is about."""

    JOINED = "joined"
    TAKEOVER = "takeover"  # joined, in the place of another incarnation
    GENERATION = "generation"  # an instance stands at the barrier of a new one
    BARRIER = "barrier"  # it has opened
    STATE = "state"  # of an instance
    READY = "ready"  # the Unit serves
    FAILURE = "failure"  # the first of a generation
    ORDER = "order"  # what an operator asks for; told by the command
    RESTART = "restart"  # a generation ended because it was asked to
    DRAIN = "drain"  # it begins
    DRAINED = "drained"  # no request is in flight any more
    ISOLATED = "isolated"
    FENCED = "fenced"
    STORE_LOST = "store-lost"
    STORE_BACK = "store-back"
    QUIT = "quit"  # an agent has ended
    GAP = "gap"  # moments were lost


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEvent:
    """One entry of the history.

    Attributes:
        at: seconds since the epoch; by the clock of the agent that tells it, until the store has dated it.
        rank: whom it is about; 0 where that is the whole Unit.
        incarnation: that tells it; a command has one too.
        number: how many this incarnation has told before; with it the name of the moment.
        state: of that rank from here on; None when this says nothing about it.
        detail: a sentence for a person.

    """

    at: float
    generation: int
    rank: int
    incarnation: str
    kind: EventKind
    detail: str
    state: InstanceState | None = None
    number: int = 0


Derived = Iterator[tuple[EventKind, str]]


def derive_events(
    mine: Failure | None, before: State, after: State, actions: Sequence[Action]
) -> tuple[Failure | None, list[HistoryEvent]]:
    """What this step adds to the history.

    Args:
        mine: the failure that this agent found and the store has not kept yet; what came of it is returned.
        before: the state that an event met.
        after: what ``decide`` made of it.
        actions: what else it made of it.

    """
    said = [one for rule in _RULES for one in rule(before, after)]
    said += _derive_quit(after, actions)
    if not said and after.me.state is not before.me.state:
        said.append((EventKind.STATE, _describe_state(before, after)))
    moments = [_make_event(after, kind, detail) for kind, detail in said]
    if after.recovery.failure != before.recovery.failure and not after.recovery.failure_stored:
        mine = after.recovery.failure
    if mine is None or not after.recovery.failure_stored:
        return mine, moments
    kept = after.recovery.failure is not None and _identify_failure(
        after.recovery.failure
    ) == _identify_failure(mine)
    return None, [_make_failure_event(after, mine), *moments] if kept else moments


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


def make_order_event(order: Order, at: float, incarnation: str, by: str) -> HistoryEvent:
    """What the command that leaves an order tells of it."""
    return HistoryEvent(
        at=at,
        generation=order.generation,
        rank=0,
        incarnation=incarnation,
        kind=EventKind.ORDER,
        detail=f"{by} asked for a {order.kind}: {order.reason or 'no reason given'}",
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
        yield EventKind.TAKEOVER, f"{_describe_self(after)} joined in the place of {former}"


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
    if before.shutdown.draining is None and after.shutdown.draining is not None:
        yield EventKind.DRAIN, "the Unit drains: no new requests, then rank 0's workload stops first"
    if after.shutdown.drained and not before.shutdown.drained:
        yield EventKind.DRAINED, "no request is in flight any more"


def _derive_isolation(before: State, after: State) -> Derived:
    if after.workload.cut_off and not before.workload.cut_off:
        yield (
            EventKind.ISOLATED,
            f"{_describe_self(after)} is cut off, {after.workload.alone}: its workload stops",
        )
    code = after.shutdown.leaving.code if after.shutdown.leaving else None
    if code == ExitCode.FENCED and (before.shutdown.leaving is None or before.shutdown.leaving.code != code):
        yield EventKind.FENCED, f"{_describe_self(after)} is fenced: another incarnation holds its rank"


def _derive_store(before: State, after: State) -> Derived:
    lost, was = "store" in after.warned, "store" in before.warned
    if lost and not was:
        yield (
            EventKind.STORE_LOST,
            f"{_describe_self(after)} lost the store: serving goes on, nothing new is started",
        )
    if was and not lost:
        yield EventKind.STORE_BACK, f"{_describe_self(after)} reaches the store again"


_RULES = (
    _derive_joined,
    _derive_generation,
    _derive_barrier,
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
    how = f": its workload {ended.describe(stopped=stopped)}" if ended else ""
    return f"{_describe_self(after)} is {after.me.state}, was {before.me.state}{how}"
