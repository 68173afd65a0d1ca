"""What each event adds to the facts. Nothing is decided here."""

from __future__ import annotations

from dataclasses import replace

from unitagent.core.events import (
    Drained,
    Event,
    Exchanged,
    HealthChecked,
    Opinion,
    PeerAnswered,
    PeerHungUp,
    PeersReached,
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
from unitagent.core.model import Failure, InstanceState, Mode, Reason, Record
from unitagent.core.state import State, Work, members, mine, name

RETRY = 0.25  # seconds between tries of a store that does not answer
SECOND_SIGNAL = 1.0  # seconds; a terminal and a process manager may both deliver the first one


def absorb(state: State, event: Event) -> State:
    """The state with the facts of this event in it."""
    slept = event.now - state.now > state.rules.lease / 2
    state = replace(
        state,
        now=max(state.now, event.now),
        current=False,
        last_to_act=False,
        answered=frozenset() if slept else state.answered,
    )
    match event:
        case Tick():
            return state
        case Pushed():
            return replace(state, look=True)
        case Exchanged():
            return _exchanged(state, event)
        case StoreFailed():
            return _store_failed(state)
        case PortFound():
            return _port_found(state, event)
        case PeersReached():
            return _peers_reached(state, event)
        case PeerAnswered():
            return _peer_answered(state, event)
        case PeerHungUp():
            return _peer_hung_up(state, event)
        case _:
            return _of_workload(state, event)


def _of_workload(state: State, event: Event) -> State:
    match event:
        case Spawned() if state.work is not Work.ALIVE or not state.me.state.started:
            return mine(state, pid=event.pid)
        case Spawned():
            settled = InstanceState.RUNNING if _unproven(state) else InstanceState.HEALTHY
            marks = replace(state.marks, spawned=state.now)
            return mine(replace(state, spawned=state.now, marks=marks), pid=event.pid, state=settled)
        case WorkloadExited():
            return _workload_exited(state, event)
        case WorkloadGone():
            return _workload_gone(state)
        case WorkloadStuck():
            return replace(state, stuck=event.detail)
        case HealthChecked():
            return _health_checked(state, event)
        case WorkloadSick():
            current = event.failure.generation == state.me.generation
            return replace(state, ended=state.ended or event.failure) if current else state
        case Drained():
            return replace(state, drained=True)
        case StopAsked():
            return _stop_asked(state)
    return state


def _unproven(state: State) -> bool:
    """Whether a started workload has yet to show that it is healthy: only rank 0 is asked."""
    return state.rules.rank != 0 or state.rules.health


def _exchanged(state: State, event: Exchanged) -> State:
    reply, sent = event.reply, state.exchanging
    holds = reply.holder == state.me.incarnation
    known = [reply.generation, *(record.generation for record in reply.records.values())]
    failure, stored = _newer_failure(state.failure, reply.failure)
    return replace(
        state,
        in_flight=False,
        exchanging=None,
        looked=True,
        current=True,
        last_to_act=holds and sent is not None and sent != state.published,
        published=sent if holds else None,
        holder=reply.holder,
        joined=state.joined or holds,
        fenced=state.fenced or (state.joined and not holds),
        records={**_remembered(state), **reply.records},
        generation=max(state.generation, *known),
        failure=failure,
        failure_stored=stored,
        order=reply.order,
        leases=state.leases.seen(reply.beats, state.now, gap=state.rules.lease / 2),
        doubts={},
        suspects=state.suspects if state.rules.probes else {},
    )


def _remembered(state: State) -> dict[int, Record]:
    """While I run, a store that forgot a member of my gang does not make me forget it; its lease is judged on."""
    return {peer.rank: peer for peer in members(state)} if state.in_gang and state.up else {}


def _newer_failure(mine: Failure | None, stored: Failure | None) -> tuple[Failure | None, bool]:
    """The failure to remember, and whether the store has it: of one generation the store's is the first."""
    if mine is None or (stored is not None and stored.generation >= mine.generation):
        return stored, True
    return mine, False


def _store_failed(state: State) -> State:
    return replace(
        state,
        in_flight=False,
        exchanging=None,
        published=None,
        failure_stored=state.failure is None,
        leases=state.leases.broken(),
        suspects={},
        answered=frozenset() if state.connected else state.answered,
        next_beat=state.now + min(RETRY, state.rules.heartbeat),
    )


def _port_found(state: State, event: PortFound) -> State:
    if event.generation != state.me.generation or state.me.state is not InstanceState.IDLE:
        return state
    return mine(state, master_port=event.port)


def _peers_reached(state: State, event: PeersReached) -> State:
    if event.gang != state.checking:
        return state
    roster = {rank: state.records[rank].incarnation for rank in event.reached if rank in state.records}
    return replace(
        state,
        checking="",
        look=True,  # to go on from here takes a snapshot of the store
        check_again=state.now + state.rules.heartbeat,
        reached=state.reached | frozenset(roster.items()),
        unreached=event.unreached,
    )


def _about(state: State, rank: int, incarnation: str) -> Record | None:
    """The record of the incarnation that an event is about, if that is still the one I know."""
    record = state.records.get(rank)
    return record if record is not None and record.incarnation == incarnation else None


def _peer_answered(state: State, event: PeerAnswered) -> State:
    ask_again = {**state.ask_again, event.rank: state.now + state.rules.heartbeat}
    state = replace(
        state, asking=state.asking - {event.rank}, ask_again=ask_again, answered=state.answered | {event.rank}
    )
    record = _about(state, event.rank, event.incarnation)
    if record is None:
        return replace(state, hung_up=state.hung_up - {event.rank})
    refused = event.incarnation if event.opinion is Opinion.REFUSED else ""
    state = replace(state, refused={**state.refused, event.rank: refused})
    if event.opinion is Opinion.ALIVE:
        state = _heard(state, event)
    return _judge(state, event, record)


def _heard(state: State, event: PeerAnswered) -> State:
    """A living peer vouches for itself, and tells of a generation that I may have missed."""
    heard = {**state.heard, event.rank: state.now}
    return replace(state, heard=heard, generation=max(state.generation, event.generation))


def _judge(state: State, event: PeerAnswered, record: Record) -> State:
    """Weigh an answer: ``doubts`` turn readiness off, ``suspects`` may end the generation."""
    hung_up = event.rank in state.hung_up
    state = replace(state, hung_up=state.hung_up - {event.rank})
    against = _against(state, event, hung_up=hung_up)
    doubts = {rank: why for rank, why in state.doubts.items() if rank != event.rank}
    if against:
        doubts[event.rank] = against
    if not state.connected:
        return replace(state, doubts=doubts)
    if not against:
        suspects = {rank: why for rank, why in state.suspects.items() if rank != event.rank}
        return replace(state, suspects=suspects)
    if not state.in_gang or record.generation != state.me.generation:
        return state
    return replace(state, suspects={**state.suspects, event.rank: against}, look=True)


def _against(state: State, event: PeerAnswered, *, hung_up: bool) -> str:
    # The question was asked a heartbeat early; an answer that comes a blink before the lease ends counts.
    late = state.leases.unchanged(event.rank) > state.rules.lease - state.rules.heartbeat / 4
    match event.opinion:
        case Opinion.ALIVE if event.generation == state.me.generation and not event.working:
            untold = (late or not state.connected) and state.rules.mode is Mode.SERVICE  # a job's may be done
            return "its workload is down and it cannot tell the store" if untold else ""
        case Opinion.ALIVE if event.rank == 0 and not event.ready and not state.connected:
            return "it knows that the Unit does not serve"
        case Opinion.ALIVE:
            return ""
        case Opinion.OTHER:
            return "another incarnation answers at its address"
        case Opinion.REFUSED if _answered_before(state, event) or late:
            return "its address refuses connections, so its agent is dead"
        case Opinion.SILENT if late:
            return f"no sign of life for {state.rules.lease:g} s, and it does not answer"
        case _:
            silent_for = state.now - state.heard.get(event.rank, state.leases.last or state.now)
            lost = not state.connected and silent_for > state.rules.lease
            return "it does not answer" if lost and not hung_up else ""


def _answered_before(state: State, event: PeerAnswered) -> bool:
    """An address that never answered may be a firewall that rejects; one that did has lost its agent."""
    return (event.rank, event.incarnation) in state.reached


def _peer_hung_up(state: State, event: PeerHungUp) -> State:
    if _about(state, event.rank, event.incarnation) is None:
        return state
    return replace(state, hung_up=state.hung_up | {event.rank})


def _workload_exited(state: State, event: WorkloadExited) -> State:
    over = Work.OVER if state.work is Work.ALIVE else state.work
    state = mine(replace(state, work=over, exit=event.exit), exit_code=event.exit.status)
    if over is not Work.OVER or state.draining is not None or state.asked is not None:
        return state
    if state.rules.mode is Mode.JOB and event.exit.status == 0:
        return state
    return replace(state, ended=state.ended or _exit_failure(state, event))


def _exit_failure(state: State, event: WorkloadExited) -> Failure:
    return Failure(
        generation=state.me.generation,
        rank=state.rules.rank,
        ip=state.me.ip,
        reason=Reason(event.exit.reason),
        detail=f"{name(state, state.rules.rank)} {event.exit.describe()}",
        exit_code=event.exit.code,
        signal=event.exit.signal,
        at=state.now + state.rules.epoch,
    )


def _workload_gone(state: State) -> State:
    marks = replace(state.marks, stopped=state.now) if state.marks.stopped is None else state.marks
    state = replace(state, work=Work.ABSENT, marks=marks)
    return mine(state, state=InstanceState.WAITING if state.cut_off else InstanceState.EXITED, pid=None)


def _health_checked(state: State, event: HealthChecked) -> State:
    if state.work is not Work.ALIVE or not state.me.state.started:
        return state
    if event.healthy:
        return mine(state, state=InstanceState.HEALTHY)
    sick = Failure(
        generation=state.me.generation,
        rank=state.rules.rank,
        ip=state.me.ip,
        reason=Reason.UNHEALTHY,
        detail=f"{name(state, state.rules.rank)} failed its health check: {event.detail}",
        at=state.now + state.rules.epoch,
    )
    return replace(state, ended=state.ended or sick)


def _stop_asked(state: State) -> State:
    if state.asked is None:
        return mine(replace(state, asked=state.now), asked=True)
    again = state.now - state.asked >= SECOND_SIGNAL
    return replace(state, hurry=state.hurry or again)
