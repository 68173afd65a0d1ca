"""The history of a Unit: what one agent tells of each step, made of nothing but its state before and after.

The invariant: it only observes. What concerns the whole Unit is told by one rank: by rank 0, and the first
failure of a generation by the agent whose report the store has kept as the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from unitagent.core.actions import Action, Quit
from unitagent.core.exits import Code
from unitagent.core.model import Failure, InstanceState, Order, Reason
from unitagent.core.state import State, name


class Kind(StrEnum):
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
class Moment:
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
    kind: Kind
    detail: str
    state: InstanceState | None = None
    number: int = 0


Said = Iterator[tuple[Kind, str]]


def tell(
    mine: Failure | None, before: State, after: State, actions: Sequence[Action]
) -> tuple[Failure | None, list[Moment]]:
    """What this step adds to the history.

    Args:
        mine: the failure that this agent found and the store has not kept yet; what came of it is returned.
        before: the state that an event met.
        after: what ``decide`` made of it.
        actions: what else it made of it.

    """
    said = [one for rule in _RULES for one in rule(before, after)]
    said += _quit(after, actions)
    if not said and after.me.state is not before.me.state:
        said.append((Kind.STATE, _state(before, after)))
    moments = [_moment(after, kind, detail) for kind, detail in said]
    if after.recovery.failure != before.recovery.failure and not after.recovery.failure_stored:
        mine = after.recovery.failure
    if mine is None or not after.recovery.failure_stored:
        return mine, moments
    kept = after.recovery.failure is not None and _name(after.recovery.failure) == _name(mine)
    return None, [_failure(after, mine), *moments] if kept else moments


def _moment(state: State, kind: Kind, detail: str) -> Moment:
    return Moment(
        at=state.now + state.rules.epoch,
        generation=state.me.generation,
        rank=state.rules.rank,
        incarnation=state.rules.incarnation,
        kind=kind,
        detail=detail,
        state=state.me.state,
    )


def _failure(state: State, failure: Failure) -> Moment:
    lost = failure.reason is Reason.LOST and failure.rank != state.rules.rank
    return Moment(
        at=failure.at,
        generation=failure.generation,
        rank=failure.rank,
        incarnation=state.rules.incarnation,
        kind=Kind.RESTART if failure.reason is Reason.REQUESTED else Kind.FAILURE,
        detail=failure.sentence,
        state=InstanceState.LOST if lost else None,
    )


def ordered(order: Order, at: float, incarnation: str, by: str) -> Moment:
    """What the command that leaves an order tells of it."""
    return Moment(
        at=at,
        generation=order.generation,
        rank=0,
        incarnation=incarnation,
        kind=Kind.ORDER,
        detail=f"{by} asked for a {order.kind}: {order.reason or 'no reason given'}",
    )


def _name(failure: Failure) -> tuple[int, int, float]:
    return failure.generation, failure.rank, failure.at


def _who(state: State) -> str:
    return name(state, state.rules.rank)


def _joined(before: State, after: State) -> Said:
    if before.joined or not after.joined:
        return
    took = after.store.predecessor
    if took is None:
        yield Kind.JOINED, f"{_who(after)} joined"
    else:
        former = f"incarnation {took.incarnation} on {took.hostname or took.ip}"
        yield Kind.TAKEOVER, f"{_who(after)} joined in the place of {former}"


def _entered(before: State, after: State) -> Said:
    if after.me.generation != before.me.generation and after.me.state is InstanceState.IDLE:
        yield Kind.GENERATION, f"{_who(after)} is at the barrier of generation {after.me.generation}"


def _opened(before: State, after: State) -> Said:
    new, old = after.workload.gang, before.workload.gang
    if after.rules.rank == 0 and new is not None and (old is None or old.generation != new.generation):
        place = f"rank 0 is {new.master_address}, port {new.master_port}"
        many = f"{after.rules.size} instance{'s' if after.rules.size > 1 else ''}"
        yield Kind.BARRIER, f"the barrier of generation {new.generation} opened for {many}: {place}"


def _ready(before: State, after: State) -> Said:
    marks = after.recovery.marks
    if after.rules.rank == 0 and marks.ready is not None and before.recovery.marks.ready != marks.ready:
        took = ""
        if marks.failed is not None:
            seconds = marks.detect + marks.ready - marks.failed
            took = f", {seconds:.2f} s after generation {marks.generation} ended"
        yield Kind.READY, f"the Unit serves in generation {after.me.generation}{took}"


def _draining(before: State, after: State) -> Said:
    if after.rules.rank != 0:
        return
    if before.shutdown.draining is None and after.shutdown.draining is not None:
        yield Kind.DRAIN, "the Unit drains: no new requests, then rank 0's workload stops first"
    if after.shutdown.drained and not before.shutdown.drained:
        yield Kind.DRAINED, "no request is in flight any more"


def _cut_off(before: State, after: State) -> Said:
    if after.workload.cut_off and not before.workload.cut_off:
        yield Kind.ISOLATED, f"{_who(after)} is cut off, {after.workload.alone}: its workload stops"
    code = after.shutdown.leaving.code if after.shutdown.leaving else None
    if code == Code.FENCED and (before.shutdown.leaving is None or before.shutdown.leaving.code != code):
        yield Kind.FENCED, f"{_who(after)} is fenced: another incarnation holds its rank"


def _store(before: State, after: State) -> Said:
    lost, was = "store" in after.warned, "store" in before.warned
    if lost and not was:
        yield Kind.STORE_LOST, f"{_who(after)} lost the store: serving goes on, nothing new is started"
    if was and not lost:
        yield Kind.STORE_BACK, f"{_who(after)} reaches the store again"


_RULES = (_joined, _entered, _opened, _ready, _draining, _cut_off, _store)


def _quit(state: State, actions: Sequence[Action]) -> Said:
    for action in actions:
        if isinstance(action, Quit):
            yield Kind.QUIT, f"the agent of {_who(state)} ended with {action.code}: {action.why}"


def _state(before: State, after: State) -> str:
    ended = after.workload.exit if after.me.state is InstanceState.EXITED else None
    stopped = before.me.state is InstanceState.STOPPING
    how = f": its workload {ended.describe(stopped=stopped)}" if ended else ""
    return f"{_who(after)} is {after.me.state}, was {before.me.state}{how}"
