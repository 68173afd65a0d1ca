"""What each event adds to the facts. Nothing is decided here."""

from __future__ import annotations

from dataclasses import replace

from unitagent.core.credence import sift
from unitagent.core.events import (
    Drained,
    Event,
    Exchanged,
    HealthChecked,
    Opinion,
    PeerAnswered,
    PeerHungUp,
    PeersChecked,
    PortFound,
    Pushed,
    Spawned,
    StopAsked,
    StoreFailed,
    Tick,
    WorkloadExited,
    WorkloadGone,
    WorkloadSick,
    WorkloadStuck,
)
from unitagent.core.exits import Exit
from unitagent.core.leases import Leases
from unitagent.core.model import Failure, InstanceState, Mode, Reason, Record, Reply
from unitagent.core.opinions import peer_answered, peer_hung_up
from unitagent.core.parts import Work
from unitagent.core.state import State, members, mine, name

LATE_TICKS = 3  # ticks; an agent that is later than that was starved, or stood still
RETRY = 0.25  # seconds between tries of a store that does not answer
SECOND_SIGNAL = 1.0  # seconds; a terminal and a process manager may both deliver the first one


def absorb(state: State, event: Event) -> State:
    """The state with the facts of this event in it."""
    state = replace(state, now=max(state.now, event.now)).with_store(current=False, last_to_act=False)
    match event:
        case Tick():
            return _late(state, event.late)
        case Pushed():
            return state.with_store(look=True)
        case Exchanged():
            return _exchanged(state, event)
        case StoreFailed():
            return _store_failed(state, event)
        case PortFound():
            return _port_found(state, event)
        case PeersChecked():
            return _peers_checked(state, event)
        case PeerAnswered():
            return peer_answered(state, event)
        case PeerHungUp():
            return peer_hung_up(state, event)
        case _:
            return _of_workload(state, event)


def _late(state: State, seconds: float) -> State:
    """What was asked, or waited for, while I stood still has told me nothing."""
    if seconds > LATE_TICKS * state.rules.timing.tick:
        leases = state.store.leases.after_pause(seconds, state.now)
        state = replace(state, late=state.now).with_store(leases=leases)
    return state.with_peers(answered=frozenset()) if seconds > state.rules.lease / 2 else state


def _of_workload(state: State, event: Event) -> State:
    match event:
        case Spawned() if state.workload.work is not Work.ALIVE or not state.me.state.started:
            return mine(state, pid=event.pid)
        case Spawned():
            settled = InstanceState.RUNNING if _unproven(state) else InstanceState.HEALTHY
            marks = replace(state.recovery.marks, spawned=state.now)
            return mine(
                state.with_workload(spawned=state.now, proven=False).with_recovery(marks=marks),
                pid=event.pid,
                state=settled,
            )
        case WorkloadExited():
            return _workload_exited(state, event)
        case WorkloadGone():
            return _workload_gone(state)
        case WorkloadStuck():
            return state.with_workload(stuck=event.detail)
        case HealthChecked():
            return _health_checked(state, event)
        case WorkloadSick():
            current = event.failure.generation == state.me.generation
            return state.with_workload(ended=state.workload.ended or event.failure) if current else state
        case Drained():
            return state.with_shutdown(drained=True)
        case StopAsked():
            return _stop_asked(state)
    return state


def _unproven(state: State) -> bool:
    """Whether a started workload has yet to show that it is healthy: only rank 0 is asked."""
    return state.rules.rank != 0 or state.rules.health


def _exchanged(state: State, event: Exchanged) -> State:
    state, reply = sift(state, event.reply)
    timing, kept = state.rules.timing, _remembered(state)
    leases = state.store.leases.seen(
        reply.beats, state.now, timing.contact_gap, keep=kept, lost_after=timing.takeover
    )
    doubts = {} if _all_are_back(state, leases) else state.peers.doubts
    mute = frozenset(one for one in state.peers.mute if leases.unchanged(one) > 0)
    failure, stored = _newer_failure(state.recovery.failure, reply.failure)
    state = _snapshot(state, reply).with_store(leases=leases)
    state = state.knowing(max([reply.generation, *(record.generation for record in reply.records.values())]))
    return state.with_peers(doubts=doubts, mute=mute).with_recovery(failure=failure, failure_stored=stored)


def _snapshot(state: State, reply: Reply) -> State:
    """What the store shows now, and what became of my own record."""
    store = state.store
    holds = reply.holder == state.me.incarnation
    sent = store.exchanging
    return state.with_store(
        in_flight=False,
        touched=store.asked,
        exchanging=None,
        looked=True,
        trouble="",
        current=True,
        last_to_act=holds and sent is not None and sent != store.published,
        published=sent if holds else None,
        holder=reply.holder,
        joined=state.now if holds and store.joined is None else store.joined,
        clock=reply.now,
        records=_newest(state, reply.records),
        former=_former(state, reply),
        led=_led(state, reply),
        order=reply.order,
        foreign=reply.foreign,
    )


def _former(state: State, reply: Reply) -> Record | None:
    """Whom the store has forgotten in my rank, and who may live and answer."""
    known, shown = state.store.records.get(state.rules.rank), reply.records.get(state.rules.rank)
    if known is None or known.incarnation == state.me.incarnation:
        return state.store.former
    return known if shown is None or shown.incarnation != known.incarnation else state.store.former


def _led(state: State, reply: Reply) -> tuple[int, str]:
    leader = reply.records.get(0)
    started = leader is not None and leader.state.started
    return (leader.generation, leader.incarnation) if leader is not None and started else state.store.led


def _remembered(state: State) -> tuple[str, ...]:
    """Whose beats I remember although the store shows others' in their places: my gang's, and those of
    whoever held my own rank; while I serve there, only if I saw it alive.
    """
    leases, gang = state.store.leases, state.workload.gang
    here = (one for one, lease in leases.of.items() if lease.rank == state.rules.rank)
    before = (one for one in here if not state.up or leases.alive(one))
    return (*before, *(gang.incarnations if gang else ()))


def _all_are_back(state: State, leases: Leases) -> bool:
    """Whether all whose beats I see have told the store, in this contact of mine, what happened before."""
    told = (peer.incarnation for peer in members(state))
    return all(leases.unseen(one) or leases.beats(one) for one in told)


def _newest(state: State, shown: dict[int, Record]) -> dict[int, Record]:
    """The newest that I know of each rank: a store that was set back shows older ones, and that is no news.

    Of another incarnation than the shown one this is believed only while I run with it, in my gang: at a
    barrier only those count that the store shows.
    """
    known = state.store.records
    old = {rank: known[rank] for rank, record in shown.items() if _is_old_copy(record, known.get(rank))}
    if not (state.in_gang and state.up):
        return {**shown, **old}
    lost = {peer.rank: peer for peer in members(state) if _is_lost(state, shown.get(peer.rank), peer)}
    return {**shown, **old, **lost}


def _is_old_copy(shown: Record, known: Record | None) -> bool:
    return known is not None and shown.incarnation == known.incarnation and not shown.supersedes(known)


def _is_lost(state: State, shown: Record | None, member: Record) -> bool:
    """Whether the store has lost a member that the Unit still has: who is silent for long has a successor,
    and so has one in whose place another beats.
    """
    if shown is None or shown.supersedes(member):
        return shown is None
    if shown.stood_here(member) and state.store.leases.beats(shown.incarnation):
        return False
    return state.store.leases.unchanged(member.incarnation) <= state.rules.timing.takeover


def _newer_failure(mine: Failure | None, stored: Failure | None) -> tuple[Failure | None, bool]:
    """The failure to remember, and whether the store has it: of one generation the store's is the first."""
    if mine is None or (stored is not None and stored.generation >= mine.generation):
        return stored, True
    return mine, False


def _store_failed(state: State, event: StoreFailed) -> State:
    state = _ask_anew(state) if state.connected else state
    return (
        state.with_store(
            trouble=event.detail or "it does not answer",
            in_flight=False,
            exchanging=None,
            published=None,
            leases=state.store.leases.broken(),
            next_beat=state.now + min(RETRY, state.rules.heartbeat),
        )
        .with_recovery(failure_stored=state.recovery.failure is None)
        .with_peers(suspects={})
    )


def _ask_anew(state: State) -> State:
    """Without the store only answers from now on tell whether I am cut off: they are asked for at once."""
    again = state.peers.ask_again
    soon = {rank: at if rank in state.peers.asking else min(at, state.now) for rank, at in again.items()}
    return state.with_peers(answered=frozenset(), ask_again=soon)


def _port_found(state: State, event: PortFound) -> State:
    if event.generation != state.me.generation or state.me.state is not InstanceState.IDLE:
        return state
    return mine(state, master_port=event.port)


def _peers_checked(state: State, event: PeersChecked) -> State:
    if event.gang != state.barrier.checking:
        return state
    reached = {one for one, answer in event.answers.items() if answer is Opinion.ALIVE}
    state = state.with_store(look=True)  # to go on from here takes a snapshot of the store
    return state.with_barrier(
        checking="",
        check_again=state.now + state.rules.timing.ask_every,
        reached=state.barrier.reached | reached,
        found={one: answer for one, answer in event.answers.items() if one not in reached},
    )


def _workload_exited(state: State, event: WorkloadExited) -> State:
    over = Work.OVER if state.workload.work is Work.ALIVE else state.workload.work
    state = mine(state.with_workload(work=over, exit=event.exit), exit_code=event.exit.status)
    if over is not Work.OVER or state.shutdown.draining is not None or state.shutdown.asked is not None:
        return state
    if state.rules.mode is Mode.JOB and event.exit.status == 0:
        return state
    return state.with_workload(ended=state.workload.ended or _exit_failure(state, event))


def _exit_failure(state: State, event: WorkloadExited) -> Failure:
    return Failure(
        generation=state.me.generation,
        rank=state.rules.rank,
        ip=state.me.ip,
        reason=Reason(event.exit.reason),
        detail=f"{name(state, state.rules.rank)} {event.exit.describe()}{_counted(event.exit)}",
        exit_code=event.exit.code,
        signal=event.exit.signal,
        at=state.now + state.rules.epoch,
    )


def _counted(ended: Exit) -> str:
    """Why an end with 0 is a failure all the same; a start script that does not wait has such a one."""
    if ended.status:
        return ""
    several = f"{ended.left} processes" if ended.left > 1 else "a process"
    left = f"; it left {several} in the background: start what serves in the foreground" if ended.left else ""
    return f", which counts as a failure in service mode (UNIT_MODE){left}"


def _workload_gone(state: State) -> State:
    marks = state.recovery.marks
    if marks.stopped is None:
        state = state.with_recovery(marks=replace(marks, stopped=state.now))
    now = InstanceState.WAITING if state.workload.cut_off else InstanceState.EXITED
    return mine(state.with_workload(work=Work.ABSENT), state=now, pid=None)


def _health_checked(state: State, event: HealthChecked) -> State:
    if state.workload.work is not Work.ALIVE or not state.me.state.started:
        return state
    if event.healthy:
        return mine(state.with_workload(proven=True), state=InstanceState.HEALTHY)
    if not event.fatal:
        return mine(state, state=InstanceState.RUNNING)
    sick = Failure(
        generation=state.me.generation,
        rank=state.rules.rank,
        ip=state.me.ip,
        reason=Reason.UNHEALTHY,
        detail=f"{name(state, state.rules.rank)} failed its health check: {event.detail}",
        at=state.now + state.rules.epoch,
    )
    return state.with_workload(ended=state.workload.ended or sick)


def _stop_asked(state: State) -> State:
    if state.shutdown.asked is None:
        return mine(state.with_shutdown(asked=state.now), asked=True)
    again = state.now - state.shutdown.asked >= SECOND_SIGNAL
    return state.with_shutdown(hurry=state.shutdown.hurry or again)
