"""Without the store: hold. Serving goes on, nothing new is started, and the peers are asked directly, so that
a death still turns readiness off. Without the store *and* without the peers for a lease I am isolated: others
may replace me, so my workload ends at once, before anybody takes my rank.
"""

from __future__ import annotations

from dataclasses import replace

from unitagent.core.actions import Level, Say, Stop
from unitagent.core.judging import ask, may_ask
from unitagent.core.leases import NEVER, neighbours
from unitagent.core.model import InstanceState, Record, ranks
from unitagent.core.parts import Work
from unitagent.core.state import ALL_BEATS, Result, State, clock_time, members, mine, name, relay, say

DECIDING = 0.75  # seconds after the lease in which an isolated agent has decided to stop, see :mod:`timing`


def tell(state: State) -> Result:
    """Say once that the store is gone, and once that it is back."""
    gone = state.store.looked and not state.connected
    told = "store" in state.warned
    if gone == told:
        return state, ()
    if gone:
        state = replace(state, warned=state.warned | {"store"})
        return state, say(Level.WARNING, "the store does not answer; serving goes on, nothing new is started")
    return replace(state, warned=state.warned - {"store"}), say(Level.INFO, "the store answers again")


def ask_around(state: State) -> Result:
    """Ask those who can tell me of the Unit, once a heartbeat, while the store is away or dawdles."""
    if _in_touch(state) or not state.up or not state.rules.probes:
        return state, ()
    due = tuple(peer for peer in _confidants(state) if may_ask(state, peer.rank))
    if not due:
        return state, ()
    return ask(state, due)


def _in_touch(state: State) -> bool:
    last = state.store.leases.last
    return state.connected and last is not None and state.now - last <= state.rules.timing.out_of_touch


def _confidants(state: State) -> tuple[Record, ...]:
    """Whom I ask: my neighbours, and whoever tells me of rank 0; all who could vouch for me where I know
    nothing new. Rank 0 asks all in a small Unit, and so can tell the others what it found.
    """
    rank, size = state.rules.rank, state.rules.size
    near = {relay(rank, size), *neighbours(rank, size)}
    if (rank == 0 and size <= ALL_BEATS) or _has_no_news(state):
        near |= {peer.rank for peer in _vouchers(state)}
    return tuple(peer for peer in members(state) if peer.rank in near and peer.port and not peer.left)


def _has_no_news(state: State) -> bool:
    """Whether it is time to ask all who could vouch for me: nobody has of late, and the store is silent."""
    heard = (state.peers.heard.get(peer.incarnation, NEVER) for peer in _vouchers(state))
    return state.now - max([state.store.touched or NEVER, *heard]) > state.rules.timing.relayed


def _vouchers(state: State) -> list[Record]:
    """Who could vouch for me: rank 0; for rank 0 those that it answers, all of them in a small Unit."""
    vouch = range(1, ALL_BEATS + 1) if state.rules.rank == 0 else (0,)
    return [peer for peer in members(state) if peer.rank in vouch and peer.port and not peer.left]


def isolate(state: State) -> Result:
    """Cut off from the store and from all who could vouch for me for a lease: stop, without grace."""
    if state.workload.cut_off or not state.up or not is_isolated(state):
        return state, ()
    alone = explain_isolation(state)
    why = f"cut off, {alone}: the workload is stopped at once, since others may replace this rank"
    state = state.with_workload(cut_off=True, alone=alone, work=Work.STOPPING, grace=0.0)
    return mine(state, state=InstanceState.STOPPING), (Say(Level.ERROR, why), Stop(0.0))


def explain_isolation(state: State) -> str:
    """Who has not answered, and since when: a peer that is dead looks like a cable that is cut."""
    last = state.store.touched or state.now
    store = f"no answer from the store since {clock_time(state, last)}"
    vouch = _vouchers(state)
    if not vouch:
        return f"{store}, and no other rank is left to ask"
    since = max(state.peers.heard.get(peer.incarnation, last) for peer in vouch)
    who = name(state, vouch[0].rank) if len(vouch) == 1 else ranks([peer.rank for peer in vouch])
    return f"{store}, nor from {who} since {clock_time(state, since)}"


def is_isolated(state: State) -> bool:
    """Whether nobody who could vouch for me answered for a lease. Where peers cannot be asked, nobody is."""
    last = state.store.touched
    if state.connected or last is None or not can_be_isolated(state):
        return False
    vouchers = _vouchers(state)
    touched = max((last, *(state.peers.heard.get(peer.incarnation, last) for peer in vouchers)))
    known = {peer.rank for peer in vouchers} <= state.peers.answered
    return known and state.now - touched > state.rules.lease


def last_touch(state: State) -> float:
    """Until when I know that nobody has taken me for lost, without the store: for whoever watches over me.

    An agent that loses touch decides some time after its lease, and must not be ended before it has. Where
    peers cannot be asked, nobody is isolated.
    """
    last = state.store.touched
    if last is None or not can_be_isolated(state):
        return state.now
    touched = max([last, *(state.peers.heard.get(peer.incarnation, last) for peer in _vouchers(state))])
    return touched + min(DECIDING, max(0.0, state.now - state.rules.lease - touched))


def can_be_isolated(state: State) -> bool:
    """Whether there is somebody to ask, be it that all have left: then nobody answers for me."""
    if not state.rules.probes:
        return False
    if state.rules.rank == 0:
        return any(one.port for rank, one in state.store.records.items() if rank != 0)
    leader = state.store.records.get(0)
    return leader is None or leader.port != 0
