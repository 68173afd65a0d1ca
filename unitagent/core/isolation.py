"""Without the store: hold. Serving continues, nothing new is started, and peers are asked directly, so
that a death still turns readiness off. Without the store *and* without the peers for a lease, I am
isolated: others may replace me, so my workload is killed before anybody takes my rank.
"""

from __future__ import annotations

from msgspec.structs import replace

from unitagent.core.actions import Level, Log, Stop
from unitagent.core.failure_detector import ask_peers, may_ask
from unitagent.core.keepers import stop_keeper_at_once
from unitagent.core.leases import NEVER, find_neighbours
from unitagent.core.members import ALL_BEATS, find_relay, gang_members
from unitagent.core.model import InstanceState, Record, format_ranks
from unitagent.core.state import (
    Result,
    State,
    describe_rank,
    describe_trouble,
    format_clock,
    log_line,
    update_record,
)
from unitagent.core.state_parts import WorkloadPhase

DECIDING = 0.75  # seconds after the lease in which an isolated agent has decided to stop, see :mod:`timing`


def log_store_outage(state: State) -> Result:
    """Log once that the store is gone, and once that it is back."""
    gone = state.store.ever_answered and not state.connected
    logged = "store" in state.warned
    if gone == logged:
        return state, ()
    if gone:
        state = replace(state, warned=state.warned | {"store"})
        trouble = describe_trouble(state)
        why = f"the store does not answer{trouble}; the workload continues, but no new generation can start"
        return state, log_line(Level.WARNING, why, "store-lost")
    back = replace(state, warned=state.warned - {"store"})
    return back, log_line(Level.INFO, "the store answers again", "store-back")


def ask_status_peers(state: State) -> Result:
    """While the store is away or slow, ask the peers that can tell me about the Unit, once per
    heartbeat.
    """
    if _is_in_touch(state) or not state.occupied or not state.config.probes:
        return state, ()
    due = tuple(peer for peer in _list_peers_to_ask(state) if may_ask(state, peer.rank))
    if not due:
        return state, ()
    return ask_peers(state, due)


def _is_in_touch(state: State) -> bool:
    last = state.store.leases.last_reply_at
    return state.connected and last is not None and state.now - last <= state.config.timing.out_of_touch


def _list_peers_to_ask(state: State) -> tuple[Record, ...]:
    """The peers that I ask: my neighbours, and the relay that tells me about rank 0; all witnesses if I
    know nothing new. In a small Unit rank 0 asks everybody, so it can tell the others what it found.
    """
    rank, size = state.config.rank, state.config.size
    near = {find_relay(rank, size), *find_neighbours(rank, size)}
    if (rank == 0 and size <= ALL_BEATS) or _has_no_news(state):
        near |= {peer.rank for peer in _list_witnesses(state)}
    return tuple(peer for peer in gang_members(state, near) if peer.port and not peer.has_left)


def _has_no_news(state: State) -> bool:
    """Whether it is time to ask all witnesses: neither one of them nor the store has answered of late."""
    alive = (state.peers.known_alive_at.get(peer.incarnation, NEVER) for peer in _list_witnesses(state))
    return (
        state.now - max([state.store.last_contact_at or NEVER, *alive]) > state.config.timing.relay_patience
    )


def _list_witnesses(state: State) -> list[Record]:
    """The peers whose answer proves that nobody has replaced me: rank 0; for rank 0 those that it
    answers, which in a small Unit are all.
    """
    vouch = range(1, ALL_BEATS + 1) if state.config.rank == 0 else (0,)
    return [peer for peer in gang_members(state, vouch) if peer.port and not peer.has_left]


def stop_when_isolated(state: State) -> Result:
    """Isolated from the store and from all witnesses for a lease: stop without grace."""
    if state.workload.isolated or not state.occupied or not is_isolated(state):
        return state, ()
    reason = explain_isolation(state)
    state, actions = stop_keeper_at_once(state)
    if not state.up:
        why = f"cut off, {reason}: the keeper is stopped at once, since others may replace this rank"
        return state, (*log_line(Level.ERROR, why), *actions) if actions else ()
    why = f"cut off, {reason}: the workload is stopped at once, since others may replace this rank"
    state = state.with_workload(
        isolated=True, isolation_reason=reason, phase=WorkloadPhase.STOPPING, grace=0.0
    )
    state = update_record(state, state=InstanceState.STOPPING)
    return state, (Log(Level.ERROR, why, "isolated"), Stop(0.0), *actions)


def explain_isolation(state: State) -> str:
    """Who has not answered, and since when; a dead peer looks the same as a broken cable."""
    last = state.store.last_contact_at or state.now
    store = f"no answer from the store since {format_clock(state, last)}"
    vouch = _list_witnesses(state)
    if not vouch:
        return f"{store}, and no other rank is left to ask"
    since = max(state.peers.known_alive_at.get(peer.incarnation, last) for peer in vouch)
    who = (
        describe_rank(state, vouch[0].rank)
        if len(vouch) == 1
        else format_ranks([peer.rank for peer in vouch])
    )
    return f"{store}, nor from {who} since {format_clock(state, since)}"


def is_isolated(state: State) -> bool:
    """Whether no peer that could vouch for me has answered for a lease. If peers cannot be asked,
    nobody is isolated.
    """
    last = state.store.last_contact_at
    if state.connected or last is None or not can_be_isolated(state):
        return False
    witnesses = _list_witnesses(state)
    contact = max((last, *(state.peers.known_alive_at.get(peer.incarnation, last) for peer in witnesses)))
    known = {peer.rank for peer in witnesses} <= state.peers.polled
    return known and state.now - contact > state.config.lease


def last_contact(state: State) -> float:
    """Until when I know that nobody has considered me lost; for the watchdog.

    Without the store an isolated agent decides some time after its lease expires, and must not be killed
    before it has. If peers cannot be asked then, nobody is isolated.
    """
    last = state.store.last_contact_at
    if last is None or not (state.connected or can_be_isolated(state)):
        return state.now
    contact = max(
        [
            last,
            *(state.peers.known_alive_at.get(peer.incarnation, last) for peer in _list_witnesses(state)),
        ]
    )
    if state.connected:
        return contact
    return contact + min(DECIDING, max(0.0, state.now - state.config.lease - contact))


def can_be_isolated(state: State) -> bool:
    """Whether peers can be asked. If all have left, or a wiped store shows none, nobody vouches for me."""
    if not state.config.probes:
        return False
    if state.config.rank == 0:
        others = [one for rank, one in state.store.records.items() if rank != 0]
        return any(one.port for one in others) or (not others and state.config.size > 1)
    leader = state.store.records.get(0)
    return leader is None or leader.port != 0
