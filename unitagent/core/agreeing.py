"""Ranks that can never form one Unit, since they were told different sizes or revisions, do not meet."""

from __future__ import annotations

from unitagent.core.exits import ExitCode
from unitagent.core.model import Record
from unitagent.core.state import Result, State, describe_rank, request_exit


def refuse_disagreement(state: State) -> Result:
    """Ranks that can never form one Unit do not meet: the newcomer, or the higher rank, ends with 77."""
    if not state.store.current or state.up:
        return state, ()
    for record in state.store.records.values():
        at_odds = _explain_disagreement(state, record)
        if at_odds and _must_leave(state, record):
            return request_exit(state, ExitCode.DISAGREE, at_odds), ()
    return state, ()


def _explain_disagreement(state: State, record: Record) -> str:
    """In which way this record and I can never stand at one barrier; "" when we can."""
    who, me = describe_rank(state, record.rank), f"rank {state.config.rank}"
    if record.size != state.config.size:
        said = f"{who} says UNIT_SIZE={record.size}, {me} says {state.config.size}"
        return f"the ranks disagree on the size: {said}"
    if state.config.strict and record.revision != state.me.revision:
        said = f"{who} has UNIT_REVISION={record.revision or 'none'}, {me} has {state.me.revision or 'none'}"
        return f"the ranks disagree on the revision, and UNIT_STRICT is set: {said}"
    return ""


def _must_leave(state: State, record: Record) -> bool:
    """Whether that agent lives, and it is I who have to go."""
    if record.left or record.rank == state.config.rank:
        return False
    alive = state.store.leases.was_alive(record.incarnation)
    return alive and (not state.joined or record.rank < state.config.rank)


def find_ranks_at_odds(state: State) -> tuple[int, ...]:
    """Ranks whose beats I watch because one of us has to go."""
    if state.up:
        return ()
    return tuple(rank for rank, record in state.store.records.items() if _explain_disagreement(state, record))
