"""How long an agent may sleep: until the clock alone can change something, or for as long as nothing comes.

The invariant: whoever serves and waits for nobody's answer loses nothing by a sleep until then, since a look
at the clock before would change nothing but the time. The simulator holds every look against that. Who is
not at rest looks at the clock again and again, and is told no time.
"""

from __future__ import annotations

from collections.abc import Iterator

from unitagent.core.failure_detector import silence_deadlines
from unitagent.core.failures import startup_deadline
from unitagent.core.stage import Stage, find_stage
from unitagent.core.state import State
from unitagent.core.state_parts import Shutdown, WorkloadPhase

_UP = Shutdown()


def next_wakeup(state: State) -> float | None:
    """When the clock has to be looked at next; None for as often as ever."""
    return min(_list_deadlines(state)) if _is_at_rest(state) else None


def _is_at_rest(state: State) -> bool:
    """Whether it serves, has said all that it has to say, and has no question open."""
    store, peers, me = state.store, state.peers, state.me
    serves = (
        state.workload.phase is WorkloadPhase.ALIVE
        and find_stage(state) is Stage.RUNNING
        and not state.superseded
    )
    if not (serves and state.connected and state.shutdown == _UP):
        return False
    record = store.records.get(me.rank)
    holds = store.holder == me.incarnation and (record is None or record.incarnation == me.incarnation)
    told = store.published == me and not (store.in_flight or store.look or store.notify)
    return holds and told and not (peers.asking or peers.hung_up or peers.suspects)


def _list_deadlines(state: State) -> Iterator[float]:
    """When the next heartbeat is due, when the store or a peer has been silent for too long, and a start."""
    yield state.store.next_beat
    yield from silence_deadlines(state)
    yield startup_deadline(state)
