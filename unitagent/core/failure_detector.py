"""Which members of my gang count as lost, and why: by a snapshot of the store and by their own word.

The invariant: a lease that is over is one witness, and never enough where the peer itself can be asked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from unitagent.core.actions import AskPeer, WatchPeers
from unitagent.core.model import Failure, Reason, Record
from unitagent.core.state import (
    ALL_BEATS,
    Result,
    State,
    describe_rank,
    is_silent,
    judged_members,
    make_failure,
    seconds_late,
    update_record,
    watched_peers,
)


def ask_quiet_members(state: State) -> Result:
    """Ask the members that are quiet, or that hung up, for their own word before they count as lost."""
    if not (state.up and state.connected and state.config.probes):
        return state, ()
    quiet = [peer for peer in _list_participants(state) if _worth_asking(state, peer)]
    if not quiet:
        return state, ()
    return ask_peers(state, quiet)


def may_ask(state: State, rank: int) -> bool:
    """Whether no question to this rank is open, and the last one was a heartbeat ago."""
    return rank not in state.peers.asking and state.now >= state.peers.ask_again.get(rank, 0.0)


def ask_peers(state: State, peers: Collection[Record]) -> Result:
    """Ask these for their own word."""
    ranks = frozenset(peer.rank for peer in peers)
    again = {**state.peers.ask_again, **dict.fromkeys(ranks, state.now + state.config.timing.ask_every)}
    return state.with_peers(asking=state.peers.asking | ranks, ask_again=again), tuple(map(AskPeer, peers))


def _list_participants(state: State) -> tuple[Record, ...]:
    """The members that I judge and that are in my generation, with no leave to end."""
    return tuple(
        peer
        for peer in judged_members(state)
        if not (peer.left or peer.asked) and peer.generation == state.me.generation
    )


def publish_lost(state: State) -> Result:
    """Without guard nobody restarts for a lost member: say who it is to those who do not judge it."""
    if not state.store.current or state.config.guard or state.config.size <= ALL_BEATS:
        return state, ()
    gone = (
        peer.rank
        for peer in judged_members(state)
        if peer.rank in state.peers.suspects or seconds_late(state, peer)
    )
    return update_record(state, lost=tuple(gone) if state.up else ()), ()


def look_at_deadlines(state: State) -> Result:
    """Look at the store when a member's silence turns long enough to ask it, and when its lease ends."""
    if state.store.look or not (state.up and state.connected):
        return state, ()
    leases = state.store.leases
    due = any(
        leases.has_reached_age(peer.incarnation, age, state.now)
        for peer in _list_participants(state)
        for age in _critical_ages(state, peer)
    )
    return state.with_store(look=due), ()


def silence_deadlines(state: State) -> Iterator[float]:
    """When the silence of a member will be long enough to look at the store, or to ask that member again."""
    leases = state.store.leases
    for peer in _list_participants(state):
        yield from (leases.time_of_age(peer.incarnation, age) for age in _critical_ages(state, peer))
        if _is_quiet(state, peer):
            yield state.peers.ask_again.get(peer.rank, 0.0)


def _critical_ages(state: State, peer: Record) -> tuple[float, ...]:
    timing, lease = state.config.timing, state.config.lease
    if not state.config.probes:
        return (lease,)
    refused = (timing.beat_due,) if peer.incarnation in state.peers.refused else ()
    return (*refused, timing.ask_after, lease)


def renew_watches(state: State) -> Result:
    """A connection that broke though its peer is still a member is held anew."""
    if not state.peers.watch_again:
        return state, ()
    state = state.with_peers(watch_again=False)
    return state, (WatchPeers(watched_peers(state)),) if state.up else ()


def _worth_asking(state: State, peer: Record) -> bool:
    """Early enough that its answer, or the absence of one, is there when its lease ends."""
    rank = peer.rank
    if rank in state.peers.hung_up:
        return rank not in state.peers.asking
    return (_is_quiet(state, peer) or rank in state.peers.suspects) and may_ask(state, rank)


def _is_quiet(state: State, peer: Record) -> bool:
    refused = peer.incarnation in state.peers.refused  # once may be a firewall's doing
    return refused or state.store.leases.seconds_silent(peer.incarnation) >= state.config.timing.ask_after


def find_lost_member(state: State) -> Failure | None:
    """A member that was replaced or is lost, as one snapshot of the store shows it."""
    if not state.store.current or state.workload.gang is None:
        return None
    for rank, incarnation in enumerate(state.workload.gang.incarnations):
        record = state.store.records.get(rank)
        if rank == state.config.rank or record is None:
            continue
        if record.incarnation != incarnation and state.config.guard:
            return make_failure(state, rank, Reason.REPLACED, f"{describe_rank(state, rank)} was rebuilt")
    if not state.config.guard:
        return None
    return next(
        (
            _make_loss(state, peer, why)
            for peer in _list_participants(state)
            if (why := _explain_loss(state, peer))
        ),
        None,
    )


def _explain_loss(state: State, peer: Record) -> str:
    """Why a member counts as lost, or nothing."""
    if peer.rank in state.peers.suspects or not is_silent(state, peer):
        return state.peers.suspects.get(peer.rank, "")
    asked = ", and it does not answer" if state.config.probes else ""
    return f"no sign of life for {state.config.lease:g} s{asked}"


def _make_loss(state: State, peer: Record, why: str) -> Failure:
    since = state.store.leases.seconds_since_beat(peer.incarnation, state.now) or 0.0
    detail = f"{describe_rank(state, peer.rank)} is lost: {why}"
    return make_failure(state, peer.rank, Reason.LOST, detail, detect=since)
