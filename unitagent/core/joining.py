"""Claiming my rank. One live incarnation per rank: a newcomer waits until the holder is gone for certain,
and a holder whose rank was taken is fenced.
"""

from __future__ import annotations

from dataclasses import replace

from unitagent.core import failures
from unitagent.core.actions import Action, Level, Say, Stop
from unitagent.core.exits import Code
from unitagent.core.judging import ask, may_ask
from unitagent.core.model import Reason, Record, Restart
from unitagent.core.parts import Work
from unitagent.core.state import Result, State, failure_of, go, mine, name, say

ISOLATION_MARGIN = 2.0  # seconds after its lease by which an isolated holder has stopped its workload


def fence(state: State) -> Result:
    """My rank belongs to another incarnation: end, and take the workload down at once."""
    if not state.store.fenced or (state.shutdown.leaving and state.shutdown.leaving.code == Code.FENCED):
        return state, ()
    if state.me.left:  # I gave it back
        return state, ()
    held_by = state.store.records.get(state.rules.rank)
    where = f" on {held_by.hostname or held_by.ip}" if held_by else ""
    why = f"fenced: another live instance{where} holds rank {state.rules.rank} of Unit {state.rules.unit}"
    state = go(state.with_shutdown(leaving=None), Code.FENCED, why)
    if not state.up:
        return state, ()
    return state.with_workload(work=Work.STOPPING, grace=0.0), (Say(Level.ERROR, why), Stop(0.0))


def give_up_store(state: State) -> Result:
    """The store was never reached: say so and end, because nothing was started yet."""
    if state.store.looked or state.now - state.started <= state.rules.store_timeout:
        return state, ()
    waited = f"{state.rules.store_timeout:g} s (UNIT_STORE_TIMEOUT_SECONDS)"
    return go(state, Code.STORE, f"the store could not be reached within {waited}"), ()


def agree(state: State) -> Result:
    """Ranks that can never form one Unit do not meet: the newcomer, or the higher rank, ends with 77."""
    if not state.store.current or state.up:
        return state, ()
    for record in state.store.records.values():
        at_odds = _at_odds(state, record)
        if at_odds and _must_go(state, record):
            return go(state, Code.DISAGREE, at_odds), ()
    return state, ()


def _at_odds(state: State, record: Record) -> str:
    """In which way this record and I can never stand at one barrier; "" when we can."""
    who, me = name(state, record.rank), f"rank {state.rules.rank}"
    if record.size != state.rules.size:
        said = f"{who} says UNIT_SIZE={record.size}, {me} says {state.rules.size}"
        return f"the ranks disagree on the size: {said}"
    if state.rules.strict and record.revision != state.me.revision:
        said = f"{who} has UNIT_REVISION={record.revision or 'none'}, {me} has {state.me.revision or 'none'}"
        return f"the ranks disagree on the revision, and UNIT_STRICT is set: {said}"
    return ""


def _must_go(state: State, record: Record) -> bool:
    """Whether that agent lives, and it is I who have to go."""
    if record.left or record.rank == state.rules.rank:
        return False
    alive = state.store.leases.alive(record.rank, record.incarnation)
    return alive and (not state.store.joined or record.rank < state.rules.rank)


def at_odds(state: State) -> tuple[int, ...]:
    """Ranks whose beats I watch because one of us has to go."""
    if state.up:
        return ()
    return tuple(rank for rank, record in state.store.records.items() if _at_odds(state, record))


def may_take(state: State) -> str | None:
    """The incarnation that I may put my record over ("" for a free rank); None while I have to wait."""
    if state.store.joined:  # a store that lost my writes may show my predecessor again
        return state.store.took.incarnation if state.store.took else ""
    if not state.store.looked:
        return None
    holder = state.store.records.get(state.rules.rank)
    if not state.store.holder or (holder is not None and (holder.left or _is_where_i_am(state, holder))):
        return state.store.holder
    still = state.store.leases.unchanged(state.rules.rank)
    stopped = state.rules.lease + ISOLATION_MARGIN
    vouched = state.now - state.peers.heard.get(state.rules.rank, -stopped) < stopped
    if still > stopped and not vouched:
        return state.store.holder
    refused = state.peers.refused.get(state.rules.rank) == state.store.holder
    return state.store.holder if refused and still > 2 * state.rules.heartbeat else None


def claim(state: State) -> State:
    """What I say with my first record. With guard, or at rank 0, my predecessor's generation is over, and
    this very exchange says so: I may not live to say it with the next.
    """
    took = state.store.records.get(state.rules.rank)
    return state if took is None else succeed(state, took)


def succeed(state: State, took: Record) -> State:
    """What follows from whose place I take."""
    state = state.with_store(took=took)
    if not state.leads:
        return state
    if state.rules.restart is Restart.RECREATE:  # nobody else lives on to remember
        state = mine(state, restarts=took.restarts)
    if took.state.started and not (took.asked or took.left):
        why = f"{name(state, took.rank)} was rebuilt"
        replaced = failure_of(state, took.rank, Reason.REPLACED, why)
        state = failures.remember(state, replace(replaced, generation=took.generation))
    return state.knowing(took.generation + 1)


def _is_where_i_am(state: State, holder: Record) -> bool:
    """Its probe address is mine, and it is I who listens there: so its agent is gone."""
    return state.rules.probes and (holder.ip, holder.port) == (state.me.ip, state.me.port)


def wait_for_rank(state: State) -> Result:
    """Say who holds my rank, and ask that agent whether it lives: a refusal is quicker than its lease."""
    holder = state.store.records.get(state.rules.rank)
    if state.store.joined or not state.store.looked or holder is None or may_take(state) is not None:
        return state, ()
    why = (
        f"rank {holder.rank} of Unit {state.rules.unit} is held by another instance "
        f"({holder.hostname or holder.ip}); waiting until it leaves or its lease ends"
    )
    actions: tuple[Action, ...] = ()
    if why not in state.warned:
        state = replace(state, warned=state.warned | {why})
        actions = (Say(Level.WARNING, why),)
    if state.rules.probes and holder.port and may_ask(state, holder.rank):
        state, question = ask(state, (holder,))
        return state, (*actions, *question)
    return state, actions


def joined(state: State) -> Result:
    """Say once that the rank is mine."""
    if not state.store.joined or "joined" in state.warned:
        return state, ()
    state = replace(state, warned=state.warned | {"joined"})
    return state, say(Level.INFO, f"joined Unit {state.rules.unit} as {name(state, state.rules.rank)}")
