"""Which members of my gang count as lost, and why: by a snapshot of the store and by their own word.

The invariant: a lease that is over is one witness, and never enough where the peer itself can be asked.
"""

from __future__ import annotations

from collections.abc import Collection

from unitagent.core.actions import AskPeer, WatchPeers
from unitagent.core.model import Failure, Reason, Record
from unitagent.core.state import Result, State, failure_of, judged, name, overdue, silent, watched


def judge(state: State) -> Result:
    """Ask the members that are quiet, or that hung up, for their own word before they count as lost."""
    if not (state.up and state.connected and state.rules.probes):
        return state, ()
    quiet = [peer for peer in _doing_their_part(state) if _worth_asking(state, peer.rank)]
    if not quiet:
        return state, ()
    return ask(state, quiet)


def may_ask(state: State, rank: int) -> bool:
    """Whether no question to this rank is open, and the last one was a heartbeat ago."""
    return rank not in state.peers.asking and state.now >= state.peers.ask_again.get(rank, 0.0)


def ask(state: State, peers: Collection[Record]) -> Result:
    """Ask these for their own word."""
    ranks = frozenset(peer.rank for peer in peers)
    again = {**state.peers.ask_again, **dict.fromkeys(ranks, state.now + state.rules.heartbeat)}
    return state.with_peers(asking=state.peers.asking | ranks, ask_again=again), tuple(map(AskPeer, peers))


def _doing_their_part(state: State) -> tuple[Record, ...]:
    """The members that I judge and that are in my generation, with no leave to end."""
    return tuple(
        peer
        for peer in judged(state)
        if not (peer.left or peer.asked) and peer.generation == state.me.generation
    )


def look_in_time(state: State) -> Result:
    """Look at the store when the lease of a mute member ends, and not at the next heartbeat."""
    if state.store.look or not (state.up and state.connected):
        return state, ()
    ends = state.rules.lease - state.rules.heartbeat / 2
    due = any(
        (state.store.leases.age(rank, state.now) or 0.0) > ends and not overdue(state, rank)
        for rank in state.peers.mute
    )
    return state.with_store(look=due), ()


def watch_again(state: State) -> Result:
    """A connection that broke though its peer is still a member is held anew."""
    if not state.peers.watch_again:
        return state, ()
    state = state.with_peers(watch_again=False)
    return state, (WatchPeers(watched(state)),) if state.up else ()


def _worth_asking(state: State, rank: int) -> bool:
    if rank in state.peers.hung_up:
        return rank not in state.peers.asking
    # Early enough that the answer, or its absence, is there when the lease ends.
    patience = max(1.5 * state.rules.heartbeat, state.rules.lease - 3 * state.rules.heartbeat)
    quiet = state.store.leases.unchanged(rank) > patience
    return (quiet or rank in state.peers.suspects) and may_ask(state, rank)


def of_peers(state: State) -> Failure | None:
    """A member that was replaced or is lost, as one snapshot of the store shows it."""
    if not state.store.current or state.workload.gang is None:
        return None
    for rank, incarnation in enumerate(state.workload.gang.incarnations):
        record = state.store.records.get(rank)
        if rank == state.rules.rank or record is None:
            continue
        if record.incarnation != incarnation and state.rules.guard:
            return failure_of(state, rank, Reason.REPLACED, f"{name(state, rank)} was rebuilt")
    if not state.rules.guard:
        return None
    return next(
        (
            _lost(state, peer.rank, why)
            for peer in _doing_their_part(state)
            if (why := _against(state, peer.rank))
        ),
        None,
    )


def _against(state: State, rank: int) -> str:
    """Why a member counts as lost, or nothing."""
    if rank in state.peers.suspects or not silent(state, rank):
        return state.peers.suspects.get(rank, "")
    asked = ", and it does not answer" if state.rules.probes else ""
    return f"no sign of life for {state.rules.lease:g} s{asked}"


def _lost(state: State, rank: int, why: str) -> Failure:
    since = state.store.leases.age(rank, state.now) or 0.0
    return failure_of(state, rank, Reason.LOST, f"{name(state, rank)} is lost: {why}", detect=since)
