"""What each event adds to the facts in the state. Nothing is decided here.

The end of the workload is in :mod:`failures`, a signal to stop in :mod:`shutdown`, and the answers of peers
in :mod:`failure_detector`, each with the rules that act on it.
"""

from __future__ import annotations

from msgspec.structs import replace

from unitagent.core.events import (
    Drained,
    Event,
    Exchanged,
    HealthChecked,
    HealthProbed,
    KeeperExited,
    KeeperGone,
    KeeperReady,
    KeeperStale,
    KeeperStuck,
    PeerAnswered,
    PeerDisconnected,
    PeersChecked,
    PortFound,
    ProbeResult,
    Spawned,
    StopRequested,
    StoreFailed,
    StoreNotified,
    Tick,
    WorkloadExited,
    WorkloadGone,
    WorkloadStuck,
    WorkloadUnhealthy,
)
from unitagent.core.failure_detector import apply_disconnect, apply_peer_answer
from unitagent.core.failures import apply_workload_exit
from unitagent.core.health import apply_health_event, set_failed_checks
from unitagent.core.keepers import apply_keeper_event
from unitagent.core.leases import Leases
from unitagent.core.members import gang_members
from unitagent.core.model import Failure, InstanceState, Record, Reply
from unitagent.core.plausibility import drop_implausible
from unitagent.core.rank_ownership import is_gone
from unitagent.core.shutdown import apply_stop_request
from unitagent.core.state import State, update_record
from unitagent.core.state_parts import WorkloadPhase

LATE_TICKS = 3  # ticks; an agent that is later than that was starved of CPU, or suspended
RETRY = 0.25  # seconds between attempts to reach the store


def apply_event(state: State, event: Event) -> State:
    """The state with the facts of this event."""
    state = replace(state, now=max(state.now, event.now)).with_store(is_new_snapshot=False, wrote_last=False)
    match event:
        case Tick():
            return _apply_suspension(state, event.late)
        case StoreNotified():
            return state.with_store(exchange_due=True)
        case Exchanged():
            return _apply_reply(state, event)
        case StoreFailed():
            return _apply_store_failure(state, event)
        case PortFound():
            return _apply_port(state, event)
        case PeersChecked():
            return _apply_peer_checks(state, event)
        case PeerAnswered():
            return apply_peer_answer(state, event)
        case PeerDisconnected():
            return apply_disconnect(state, event)
        case KeeperReady() | KeeperExited() | KeeperGone() | KeeperStuck() | KeeperStale():
            return apply_keeper_event(state, event)
        case _:
            return _apply_workload_event(state, event)


def _apply_suspension(state: State, seconds: float) -> State:
    """After a suspension, discard what I asked or waited for meanwhile: it proves nothing. Nor does it count
    for how long I have waited at the barrier, or for the workload to become ready.
    """
    if seconds > LATE_TICKS * state.config.timing.tick:
        leases = state.store.leases.after_suspension(seconds, state.now)
        state = replace(state, suspended_at=state.now).with_store(leases=leases)
        state = state.with_barrier(entered=min(state.now, state.barrier.entered + seconds))
        state = state.with_workload(suspended_seconds=state.workload.suspended_seconds + seconds)
    return state.with_peers(polled=frozenset()) if seconds > state.config.lease / 2 else state


def _apply_workload_event(state: State, event: Event) -> State:
    match event:
        case Spawned() if state.workload.phase is not WorkloadPhase.ALIVE or not state.me.state.started:
            return update_record(state, pid=event.pid)
        case Spawned():
            settled = InstanceState.RUNNING if _awaits_health(state) else InstanceState.HEALTHY
            marks = replace(state.recovery.timestamps, spawned=state.now)
            return update_record(
                state.with_workload(
                    spawned=state.now, suspended_seconds=0.0, start=event.start, was_healthy=False
                ).with_recovery(timestamps=marks),
                pid=event.pid,
                state=settled,
            )
        case WorkloadExited():
            return apply_workload_exit(state, event)
        case WorkloadGone():
            return _apply_workload_gone(state)
        case WorkloadStuck():
            return state.with_workload(stuck=event.detail)
        case HealthChecked() | HealthProbed():
            return apply_health_event(state, event)
        case WorkloadUnhealthy():
            current = event.failure.generation == state.me.generation
            return (
                state.with_workload(pending_failure=state.workload.pending_failure or event.failure)
                if current
                else state
            )
        case Drained():
            return state.with_shutdown(drained=True)
        case StopRequested():
            return apply_stop_request(state, event.signal)
    return state


def _awaits_health(state: State) -> bool:
    """Whether a started workload has yet to pass a health check; only rank 0 has one."""
    return state.config.rank != 0 or state.config.health


def _apply_reply(state: State, event: Exchanged) -> State:
    state, reply = drop_implausible(state, event.reply)
    timing, kept = state.config.timing, _list_remembered(state)
    latency = timing.operation_timeout + 2 * timing.tick
    leases = state.store.leases.after_reply(
        reply.beats,
        state.now,
        timing.contact_gap,
        keep=kept,
        lost_after=timing.takeover,
        answered=min(state.now, state.store.exchange_started + latency),  # a later one would have failed
        latency=latency,
    )
    if state.up and state.workload.gang is not None:
        members = dict(enumerate(state.workload.gang.incarnations))
        members.pop(state.config.rank)
        leases = leases.add_missing(members, reply.beats.keys())
    readiness_doubts = {} if _all_are_back(state, leases) else state.peers.readiness_doubts
    unresponsive = frozenset(one for one in state.peers.unresponsive if leases.seconds_unchanged(one) > 0)
    failure, stored = _pick_first_failure(state.recovery.failure, reply.failure)
    state = _note_departures(_take_snapshot(state, reply), reply).with_store(leases=leases)
    state = state.with_generation(
        max([reply.generation, *(record.generation for record in reply.records.values())])
    )
    return state.with_peers(readiness_doubts=readiness_doubts, unresponsive=unresponsive).with_recovery(
        failure=failure, failure_stored=stored
    )


def _take_snapshot(state: State, reply: Reply) -> State:
    """What the store shows now, and what became of my own record."""
    store = state.store
    holds = reply.holder == state.me.incarnation
    sent = store.exchanging
    return state.with_store(
        in_flight=False,
        last_contact_at=store.exchange_started,
        exchanging=None,
        ever_answered=True,
        last_error="",
        is_new_snapshot=True,
        wrote_last=holds and sent not in (None, store.published) and reply.newest == state.config.rank,
        previous_record=_find_own_record(state),
        published=sent if holds else None,
        holder=reply.holder,
        joined_at=_find_claim_time(state) if holds and store.joined_at is None else store.joined_at,
        clock=reply.now,
        records=_keep_newest(state, reply.records),
        forgotten_holder=_find_forgotten_holder(state, reply),
        last_started_leader=_find_started_leader(state, reply),
        order=reply.order,
        unverified_ranks=reply.unverified_ranks,
    )


def _note_departures(state: State, reply: Reply) -> State:
    """A member that left stays gone, even if the store forgets it."""
    left = {one.incarnation for one in reply.records.values() if one.has_left}
    confirmed = state.barrier.confirmed_members
    if not any(one.incarnation in left for one in confirmed if not one.has_left):
        return state
    members = (replace(one, has_left=one.has_left or one.incarnation in left) for one in confirmed)
    return state.with_barrier(confirmed_members=tuple(members))


def _find_claim_time(state: State) -> float:
    """The earliest time at which I may have claimed my rank, when the store first shows it as mine. If
    contact was lost meanwhile, I may have claimed it before that, and somebody else since.
    """
    contact = state.store.leases.contact_since
    return state.started if contact is None and state.store.ever_answered else state.now


def _find_own_record(state: State) -> Record | None:
    mine = state.store.records.get(state.config.rank)
    return mine if mine is not None and mine.incarnation == state.me.incarnation else None


def _find_forgotten_holder(state: State, reply: Reply) -> Record | None:
    """The last other holder of my rank that the store no longer shows: it may be alive and answer."""
    known, shown = state.store.records.get(state.config.rank), reply.records.get(state.config.rank)
    if known is None or known.incarnation == state.me.incarnation:
        return state.store.forgotten_holder
    return known if shown is None or shown.incarnation != known.incarnation else state.store.forgotten_holder


def _find_started_leader(state: State, reply: Reply) -> tuple[int, str]:
    leader = reply.records.get(0)
    started = leader is not None and leader.state.started
    return (
        (leader.generation, leader.incarnation)
        if leader is not None and started
        else state.store.last_started_leader
    )


def _list_remembered(state: State) -> tuple[str, ...]:
    """Incarnations whose heartbeats I remember although the store shows others in their places: my
    gang, the one that I confirmed last, and former holders of my own rank; while I serve there, only those
    that I saw alive.
    """
    leases, gang = state.store.leases, state.workload.gang
    here = (one for one, lease in leases.by_incarnation.items() if lease.rank == state.config.rank)
    before = (one for one in here if not state.up or leases.was_alive(one))
    confirmed = (one.incarnation for one in state.barrier.confirmed_members)
    return (*before, *confirmed, *(gang.incarnations if gang else ()))


def _all_are_back(state: State, leases: Leases) -> bool:
    """Whether all members whose heartbeats I read have written to the store during this contact."""
    everybody = (peer.incarnation for peer in gang_members(state))
    return all(leases.is_unknown(one) or leases.is_beating(one) for one in everybody)


def _keep_newest(state: State, shown: dict[int, Record]) -> dict[int, Record]:
    """The newest known record of each rank. A store that was set back shows older copies, and those are
    ignored.

    Records of other incarnations than the shown ones are kept only while I run with them in my gang; at
    a barrier only the records in the store count.
    """
    known = state.store.records
    old = {rank: known[rank] for rank, record in shown.items() if _is_old_copy(record, known.get(rank))}
    if not (state.in_gang and state.up):
        return {**shown, **old}
    lost = {
        peer.rank: peer
        for peer in gang_members(state)
        if _is_lost_by_store(state, shown.get(peer.rank), peer)
    }
    return {**shown, **old, **lost}


def _is_old_copy(shown: Record, known: Record | None) -> bool:
    return known is not None and shown.incarnation == known.incarnation and not shown.supersedes(known)


def _is_lost_by_store(state: State, shown: Record | None, member: Record) -> bool:
    """Whether the store has lost a member that the Unit still has. One that was silent for long, also when
    it was asked, has a successor, and so has one in whose place another one has beaten since.
    """
    if shown is None:
        return True
    if shown.supersedes(member) and (shown.incarnation == member.incarnation or shown.tenure > member.tenure):
        return False
    if shown.had_address_of(member) and state.store.leases.has_followed(
        shown.incarnation, member.incarnation
    ):
        return False
    return not is_gone(state, member.incarnation)


def _pick_first_failure(mine: Failure | None, stored: Failure | None) -> tuple[Failure | None, bool]:
    """The failure to remember, and whether the store has it; of one generation the store's is the
    first.
    """
    if mine is None or (stored is not None and stored.generation >= mine.generation):
        return stored, True
    return mine, False


def _apply_store_failure(state: State, event: StoreFailed) -> State:
    state = _schedule_peer_questions(state) if state.connected else state
    return (
        state.with_store(
            last_error=event.detail or "it does not answer",
            in_flight=False,
            exchanging=None,
            published=None,
            leases=state.store.leases.after_lost_contact(),
            next_beat=state.now + min(RETRY, state.config.heartbeat),
        )
        .with_recovery(failure_stored=state.recovery.failure is None)
        .with_peers(presumed_lost={})
    )


def _schedule_peer_questions(state: State) -> State:
    """Ask the witnesses at once: without the store, only answers from now on tell whether I am cut off."""
    again = state.peers.ask_again_at
    soon = {
        rank: at if rank in state.peers.awaiting_answer else min(at, state.now) for rank, at in again.items()
    }
    return state.with_peers(polled=frozenset(), ask_again_at=soon)


def _apply_port(state: State, event: PortFound) -> State:
    if event.generation != state.me.generation or state.me.state is not InstanceState.IDLE:
        return state
    return update_record(state, master_port=event.port, next_port=event.next_port)


def _apply_peer_checks(state: State, event: PeersChecked) -> State:
    if event.gang != state.barrier.probing_gang:
        return state
    reached = {one: state.now for one, answer in event.answers.items() if answer is ProbeResult.ALIVE}
    state = state.with_store(exchange_due=True)  # the next step needs a snapshot of the store
    return state.with_barrier(
        probing_gang="",
        probe_again_at=state.now + state.config.timing.ask_every,
        reached_at={**state.barrier.reached_at, **reached},
        probe_results={one: answer for one, answer in event.answers.items() if one not in reached},
    )


def _apply_workload_gone(state: State) -> State:
    marks = state.recovery.timestamps
    if marks.stopped is None:
        state = state.with_recovery(timestamps=replace(marks, stopped=state.now))
    now = InstanceState.WAITING if state.workload.isolated else InstanceState.EXITED
    state = set_failed_checks(state.with_workload(phase=WorkloadPhase.GONE), {})
    return update_record(state, state=now, pid=None)
