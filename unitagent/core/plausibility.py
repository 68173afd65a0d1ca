"""Which generations and orders are plausible. A generation that no number of restarts can have led to
is forged or corrupt; accepting it would make it the last one, since a store counts no further than a
double does.

The invariant: an implausible value is ignored, so the next value of its owner corrects it.
"""

from __future__ import annotations

from msgspec.structs import replace

from unitagent.core.actions import Level
from unitagent.core.model import LEAP, YEAR, Reply
from unitagent.core.state import Result, State, log_line


def is_plausible(state: State, generation: int) -> bool:
    """Whether restarts can have led from the generation that I know to this one."""
    return generation <= state.generation + LEAP


def drop_implausible(state: State, reply: Reply) -> tuple[State, Reply]:
    """The reply without its implausible values, and the state that remembers that there were some."""
    if reply.order is not None and reply.order.number > reply.now * 1000 + YEAR:
        reply = replace(reply, order=None)
    known = [reply.generation, *(record.generation for record in reply.records.values())]
    known += [reply.failure.generation] if reply.failure else []
    if is_plausible(state, max(known)):
        return state, reply
    records = {rank: one for rank, one in reply.records.items() if is_plausible(state, one.generation)}
    failure = reply.failure if reply.failure and is_plausible(state, reply.failure.generation) else None
    generation = reply.generation if is_plausible(state, reply.generation) else state.generation
    state = state.with_store(implausible_generation=max(known))
    return state, replace(reply, generation=generation, records=records, failure=failure)


def learn_generation(state: State, generation: int) -> State:
    """The state that has heard of this generation from a peer."""
    if not is_plausible(state, generation):
        return state.with_store(implausible_generation=generation)
    return state.with_generation(generation)


def warn_implausible(state: State) -> Result:
    """Warn once that an impossible generation was reported."""
    if not state.store.implausible_generation or "incredible" in state.warned:
        return state, ()
    state = replace(state, warned=state.warned | {"incredible"})
    named = f"generation {state.store.implausible_generation}, reported by the store or by a peer"
    why = f"ignored {named}: restarts cannot lead there from generation {state.generation}"
    return state, log_line(Level.WARNING, why)
