"""Which members of my gang count as lost, and why: by a snapshot of the store and by their own answers.

A member is asked when it is quiet, or when the connection that watches it breaks (:func:`ask_quiet_members`).
It is lost (:func:`find_lost_member`) if it is *silent* (``members.is_silent``), or if its own answer, or an
address that refuses connections, makes it *presumed lost* (:func:`_weigh_answer`). With guard, another
incarnation in its rank is a failure, too.

*Silent* means both: its lease has expired, by the age of its last heartbeat on the store's clock, as far as I
have watched; and it did not answer when asked, nor within the lease. A Unit without probe addresses asks
nobody: there it is enough that the heartbeat has not changed for a lease on my own clock. In a Unit of more
than 32 ranks I judge only my two neighbours in the ring; ranks 1 to 32 judge rank 0, too
(``members.judged_members``).

The invariants: an expired lease is one witness, and never enough if the peer itself can be asked. No answer
alone ends a generation, either. It adds a doubt (``readiness_doubts``), which turns readiness off while the
store is away, or makes the member presumed lost, which ends the generation only together with a snapshot of
the store.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from unitagent.core import plausibility
from unitagent.core.actions import AskPeer, WatchPeers
from unitagent.core.config import Mode
from unitagent.core.events import PeerAnswered, PeerDisconnected, ProbeResult
from unitagent.core.leases import NEVER
from unitagent.core.members import (
    ALL_BEATS,
    find_relay,
    is_overdue,
    is_silent,
    judged_members,
    seconds_late,
    watched_peers,
)
from unitagent.core.model import Failure, InstanceState, Reason, Record
from unitagent.core.state import Result, State, describe_rank, longest_takeover, make_failure, update_record


def ask_quiet_members(state: State) -> Result:
    """Ask members that are quiet, or whose connection broke, before they count as lost."""
    if not (state.up and state.connected and state.config.probes):
        return state, ()
    quiet = [peer for peer in _list_participants(state) if _worth_asking(state, peer)]
    if not quiet:
        return state, ()
    return ask_peers(state, quiet)


def may_ask(state: State, rank: int) -> bool:
    """Whether no question to this rank is open, and the last one was long enough ago."""
    return rank not in state.peers.awaiting_answer and state.now >= state.peers.ask_again_at.get(rank, 0.0)


def ask_peers(state: State, peers: Collection[Record]) -> Result:
    """Ask these peers whether they are alive."""
    ranks = frozenset(peer.rank for peer in peers)
    again = {**state.peers.ask_again_at, **dict.fromkeys(ranks, state.now + state.config.timing.ask_every)}
    return state.with_peers(awaiting_answer=state.peers.awaiting_answer | ranks, ask_again_at=again), tuple(
        map(AskPeer, peers)
    )


def _list_participants(state: State) -> tuple[Record, ...]:
    """The members that I judge, that are in my generation and that nobody has asked to stop."""
    return tuple(
        peer
        for peer in judged_members(state)
        if not (peer.has_left or peer.stop_requested) and peer.generation == state.me.generation
    )


def publish_lost(state: State) -> Result:
    """Without guard nobody restarts for a lost member: publish its rank for those who do not judge it."""
    if not state.store.is_new_snapshot or state.config.guard or state.config.size <= ALL_BEATS:
        return state, ()
    gone = (
        peer.rank
        for peer in judged_members(state)
        if peer.rank in state.peers.presumed_lost or seconds_late(state, peer)
    )
    return update_record(state, lost=tuple(gone) if state.up else ()), ()


def look_at_deadlines(state: State) -> Result:
    """Read the store when a member has been silent for long enough to ask it, and when its lease
    expires, by its heartbeats or by its last answer.
    """
    if state.store.exchange_due or not (state.up and state.connected):
        return state, ()
    due = any(at <= state.now for peer in _list_participants(state) for at in _look_deadlines(state, peer))
    return state.with_store(exchange_due=due), ()


def silence_deadlines(state: State) -> Iterator[float]:
    """When a member will have been silent for long enough to read the store, or to ask that member
    again.
    """
    for peer in _list_participants(state):
        yield from _look_deadlines(state, peer)
        if _is_quiet(state, peer):
            yield state.peers.ask_again_at.get(peer.rank, 0.0)


def _look_deadlines(state: State, peer: Record) -> Iterator[float]:
    """When to read the store because of this member, unless it has been read since."""
    leases = state.store.leases
    if not state.config.probes:  # without a second witness only what I saw counts
        yield leases.time_unchanged(peer.incarnation, state.config.lease)
        return
    yield from (leases.time_of_age(peer.incarnation, age) for age in _critical_ages(state, peer))
    if is_overdue(state, peer):  # it lives by its last answer, for a lease
        at = state.peers.known_alive_at.get(peer.incarnation, NEVER) + state.config.lease
        if (leases.last_reply_at or NEVER) < at:
            yield at


def _critical_ages(state: State, peer: Record) -> tuple[float, ...]:
    timing, lease = state.config.timing, state.config.lease
    refused = (timing.beat_due,) if peer.incarnation in state.peers.connection_refused else ()
    return (*refused, timing.ask_after, lease)


def renew_watches(state: State) -> Result:
    """Reconnect to a peer whose connection broke and that is still a member."""
    if not state.peers.reconnect_due:
        return state, ()
    state = state.with_peers(reconnect_due=False)
    return state, (WatchPeers(watched_peers(state)),) if state.up else ()


def _worth_asking(state: State, peer: Record) -> bool:
    """Whether to ask now, early enough to know its answer, or its silence, when its lease expires."""
    rank = peer.rank
    if rank in state.peers.disconnected:
        return rank not in state.peers.awaiting_answer
    return (_is_quiet(state, peer) or rank in state.peers.presumed_lost) and may_ask(state, rank)


def _is_quiet(state: State, peer: Record) -> bool:
    refused = peer.incarnation in state.peers.connection_refused  # a single refusal may come from a firewall
    return refused or state.store.leases.seconds_silent(peer.incarnation) >= state.config.timing.ask_after


def find_lost_member(state: State) -> Failure | None:
    """A member that was replaced or is lost, as one snapshot of the store shows it."""
    if not state.store.is_new_snapshot or state.workload.gang is None:
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
    """Why a member counts as lost; "" if it does not."""
    if peer.rank in state.peers.presumed_lost or not is_silent(state, peer):
        return state.peers.presumed_lost.get(peer.rank, "")
    asked = ", and it does not answer" if state.config.probes else ""
    return f"no sign of life for {state.config.lease:g} s{asked}"


def _make_loss(state: State, peer: Record, why: str) -> Failure:
    since = state.store.leases.seconds_since_beat(peer.incarnation, state.now) or 0.0
    detail = f"{describe_rank(state, peer.rank)} is lost: {why}"
    return make_failure(state, peer.rank, Reason.LOST, detail, detect=since)


# What peers answer

REFUSES = "its address refuses connections, so its agent is dead"

# These are no evidence about the peer. Another incarnation's answer may come from anywhere; if that one has
# replaced the one that I know, the store shows that, or the old lease expires.
_NO_EVIDENCE = {ProbeResult.SILENT, ProbeResult.SELF, ProbeResult.STRANGER, ProbeResult.OTHER}


def apply_peer_answer(state: State, event: PeerAnswered) -> State:
    """The state with the evidence of an answer, or of its absence."""
    starved = event.result is ProbeResult.SILENT and _was_starved(state, event.rank)
    answered = state.peers.polled if starved else state.peers.polled | {event.rank}
    state = state.with_peers(awaiting_answer=state.peers.awaiting_answer - {event.rank}, polled=answered)
    if starved:
        return state.with_peers(ask_again_at={**state.peers.ask_again_at, event.rank: state.now})
    record = find_record(state, event.rank, event.incarnation)
    if record is None:
        return state.with_peers(disconnected=state.peers.disconnected - {event.rank})
    one, peers = {event.incarnation}, state.peers
    state = state.with_peers(
        connection_refused=peers.connection_refused | one
        if event.result is ProbeResult.REFUSED
        else peers.connection_refused - one,
        unresponsive=peers.unresponsive | one if event.result in _NO_EVIDENCE else peers.unresponsive - one,
    )
    state = (
        _note_answer(state, event)
        if event.result is ProbeResult.ALIVE
        else _note_silence(state, event, record)
    )
    if event.rank == state.config.rank:  # the holder of my rank is not a member of my gang
        return state.with_peers(disconnected=state.peers.disconnected - {event.rank})
    return _weigh_answer(state, event, record)


def _was_starved(state: State, rank: int) -> bool:
    """Whether I was suspended while the question was open: the answer may have come and waited for me."""
    return state.suspended_at > _asked_at(state, rank)


def _asked_at(state: State, rank: int) -> float:
    """When a rank was asked last."""
    return state.peers.ask_again_at.get(rank, NEVER) - state.config.timing.ask_every


def _note_answer(state: State, event: PeerAnswered) -> State:
    """An answering peer confirms that it is alive, and may tell of a generation that I missed. Its word
    is as old as my question, since I may have been suspended since.
    """
    holder = state.store.records.get(state.config.rank)
    recent = state.now - longest_takeover(state, holder, state.store.forgotten_holder)
    known_alive = {one: at for one, at in state.peers.known_alive_at.items() if at >= recent}
    asked = min(state.now, _asked_at(state, event.rank))
    if asked > NEVER:  # else I have started since, and forgotten when I asked
        known_alive[event.incarnation] = asked
    if asked > NEVER and _relays_leader(state, event):
        known_alive[event.leader] = max(
            known_alive.get(event.leader, NEVER), asked - max(0.0, event.leader_age)
        )
    unanswered = {one: at for one, at in state.peers.unanswered_since.items() if one != event.incarnation}
    return plausibility.learn_generation(
        state.with_peers(known_alive_at=known_alive, unanswered_since=unanswered), event.generation
    )


def _note_silence(state: State, event: PeerAnswered, record: Record) -> State:
    """A silent peer counts as silent since the first question that it did not answer."""
    if event.result in _NO_EVIDENCE and is_overdue(state, record):  # the second witness has come late
        state = state.with_store(exchange_due=True)
    if event.incarnation in state.peers.unanswered_since:
        return state
    known = {one.incarnation for one in (*state.store.records.values(), state.store.forgotten_holder) if one}
    since = {one: at for one, at in state.peers.unanswered_since.items() if one in known}
    asked = _asked_at(state, event.rank)
    if asked > NEVER:
        since[event.incarnation] = asked
    return state.with_peers(unanswered_since=since)


def _weigh_answer(state: State, event: PeerAnswered, record: Record) -> State:
    """Weigh an answer: a doubt turns readiness off, a member presumed lost may end the generation."""
    was_disconnected = event.rank in state.peers.disconnected
    state = state.with_peers(
        disconnected=state.peers.disconnected - {event.rank},
        reconnect_due=state.peers.reconnect_due or was_disconnected,
    )
    against = _find_doubt(state, event, record, was_disconnected=was_disconnected)
    if event.result is ProbeResult.REFUSED and not against:
        state = _ask_again(state, event)
    if against:
        state = state.with_peers(readiness_doubts={**state.peers.readiness_doubts, event.rank: against})
    elif not state.connected or _reports_working(
        state, event
    ):  # with a store, its snapshots settle doubts, too
        state = state.with_peers(
            readiness_doubts={
                rank: why for rank, why in state.peers.readiness_doubts.items() if rank != event.rank
            }
        )
    if not state.connected:
        return state
    if not against:
        presumed_lost = {rank: why for rank, why in state.peers.presumed_lost.items() if rank != event.rank}
        return state.with_peers(presumed_lost=presumed_lost)
    if not state.in_gang or record.generation != state.me.generation:
        return state
    return state.with_peers(presumed_lost={**state.peers.presumed_lost, event.rank: against}).with_store(
        exchange_due=True
    )


def _reports_working(state: State, event: PeerAnswered) -> bool:
    """Whether it reports that its workload runs in my generation; for rank 0, that the Unit serves."""
    here = event.result is ProbeResult.ALIVE and event.generation == state.me.generation
    return here and event.working and (event.rank != 0 or event.ready)


def _find_doubt(state: State, event: PeerAnswered, record: Record, *, was_disconnected: bool) -> str:
    """What an answer says against the peer; "" for nothing."""
    late = is_overdue(state, record)
    match event.result:
        case ProbeResult.ALIVE if event.generation == state.me.generation and not event.working:
            unexplained = late or not state.connected
            service = state.config.mode is Mode.SERVICE  # in a job its part may be finished
            down = unexplained and service and not _has_yet_to_start(state, record)
            return "its workload is down and it cannot tell the store" if down else ""
        case ProbeResult.ALIVE if _knows_of_leader(state, event) and not event.ready and not state.connected:
            return "it knows that the Unit does not serve"
        case ProbeResult.ALIVE:
            return ""
        case ProbeResult.REFUSED if late or (_answered_before(state, event) and _misses_beat(state, event)):
            return REFUSES
        case _:
            last = state.store.leases.last_reply_at or state.now
            silent_for = state.now - state.peers.known_alive_at.get(event.incarnation, last)
            lost = not state.connected and silent_for > state.config.lease
            return "it does not answer" if lost and not was_disconnected else ""


def _relays_leader(state: State, event: PeerAnswered) -> bool:
    """Whether this peer relays rank 0's answers to me, as some peer does in a large Unit."""
    leader = state.store.records.get(0)
    known = leader is not None and leader.incarnation == event.leader
    return known and event.rank == find_relay(state.config.rank, state.config.size)


def _knows_of_leader(state: State, event: PeerAnswered) -> bool:
    return event.rank in {0, find_relay(state.config.rank, state.config.size)}


def _has_yet_to_start(state: State, record: Record) -> bool:
    """Whether it has confirmed my gang, which the store may have lost, and cannot know yet that everybody
    has: I started within a lease.
    """
    here = record.state is InstanceState.IDLE and record.generation == state.me.generation
    waits = here and record.gang in {"", state.me.gang}
    young = state.me.state is InstanceState.STARTING or (
        state.now - state.workload.spawned < state.config.lease
    )
    return waits and young


def _answered_before(state: State, event: PeerAnswered) -> bool:
    """Whether it ever answered me. An address that never did may be behind a firewall that rejects; one
    that did has lost its agent.
    """
    return event.incarnation in state.barrier.reached_at


def _misses_beat(state: State, event: PeerAnswered) -> bool:
    """Whether it has also missed a heartbeat: a firewall that is being reloaded refuses connections,
    too, while heartbeats continue. Without the store nobody can tell.
    """
    due = state.config.timing.beat_due
    return not state.connected or state.store.leases.seconds_silent(event.incarnation) >= due


def _ask_again(state: State, event: PeerAnswered) -> State:
    """Read its heartbeat at once, and ask again when the next one is overdue."""
    timing = state.config.timing
    left = timing.beat_due - (state.store.leases.seconds_since_beat(event.incarnation, state.now) or 0.0)
    at = state.now + min(timing.ask_every, max(timing.tick, left))
    state = state.with_store(exchange_due=state.connected or state.store.exchange_due)
    return state.with_peers(ask_again_at={**state.peers.ask_again_at, event.rank: at})


def apply_disconnect(state: State, event: PeerDisconnected) -> State:
    """A broken connection is a reason to ask, and nothing more."""
    if find_record(state, event.rank, event.incarnation) is None:
        return state
    return state.with_peers(disconnected=state.peers.disconnected | {event.rank})


def find_record(state: State, rank: int, incarnation: str) -> Record | None:
    """The record of this incarnation, if it is one that I still know in this rank."""
    known = (
        state.store.records.get(rank),
        state.store.forgotten_holder if rank == state.config.rank else None,
    )
    return next((one for one in known if one is not None and one.incarnation == incarnation), None)
