"""What ends a generation, and so restarts a Unit.

The failures: my main process ended (:func:`apply_workload_exit`); its health check failed too often
(``health.apply_health_event``), or it stalled or lost a process that it needs (``agent.loop`` sends
``WorkloadUnhealthy``); it was not healthy in time (``health.find_startup_timeout``); a member is lost or was
rebuilt (:func:`failure_detector.find_lost_member`); an operator asked for it (:func:`apply_operator_order`).

A generation ends without one of these when a rebuilt instance takes over a rank
(``rank_ownership.succeed_holder``), when one comes back that was isolated (:func:`report_own_isolation`) or
with whom the others have not started (:func:`restart_with_me`), when all keepers are ready, or one has
died or has stale files (``keeper_rules``), when a job whose rank 0 is done gets a rank back
(``rejoin.restart_job_for_late_joiner``), and when a barrier would open twice (``barrier.advance_barrier``).

The rule is :func:`end_generation`. With guard, any of them raises the generation that I know by one and wakes
the others, who take the highest generation that the store or a record shows (``apply_event``). On all ranks
the old generation is then *superseded*: they stop (``shutdown.stop_ended_generation``), meet at the barrier
(:mod:`barrier`), within the budget and after its pause (:mod:`restart_budget`), and start again. Without
guard a failure of my own ends only me, with the workload's code, one of another rank does not concern me, and
a rebuilt rank 0 makes all others leave (:func:`leave_with_leader`).

The invariant: a failure concerns *my* generation. N reports of one event, or of many at once, all propose the
same next generation, and a report about an older one changes nothing.
"""

from __future__ import annotations

from msgspec.structs import replace

from unitagent.core.actions import Action, Level
from unitagent.core.config import Mode
from unitagent.core.events import WorkloadExited
from unitagent.core.exits import Exit, ExitCode
from unitagent.core.failure_detector import find_lost_member
from unitagent.core.health import find_startup_timeout
from unitagent.core.keepers import has_loaded
from unitagent.core.members import gang_members
from unitagent.core.model import (
    Failure,
    InstanceState,
    Order,
    OrderKind,
    Reason,
    find_last_failure,
    find_last_order,
)
from unitagent.core.state import (
    Result,
    State,
    describe_rank,
    is_observed,
    log_line,
    make_failure,
    request_exit,
    update_record,
)
from unitagent.core.state_parts import RecoveryTimestamps, WorkloadPhase

REBUILT_WITHIN = 60  # seconds; a container that is rebuilt later belongs to a new life of the Unit


def end_generation(state: State) -> Result:
    """Find what ended my generation; with guard, tell all others by proposing the next one."""
    if state.superseded:
        return state.with_workload(pending_failure=None) if state.workload.pending_failure else state, ()
    failure = state.workload.pending_failure or find_startup_timeout(state) or find_lost_member(state)
    if failure is None:
        return state, ()
    state = state.with_workload(pending_failure=None)
    if not state.config.guard and failure.reason is not Reason.REQUESTED:
        return _fail_alone(state, failure)
    state = remember_failure(state, failure).with_generation(failure.generation + 1).with_store(notify=True)
    level = Level.INFO if failure.reason is Reason.REQUESTED else Level.ERROR
    state = state.with_recovery(reported_generation=failure.generation)
    event = "restart" if failure.requested else "failure"
    return state, log_line(level, _add_scope(state, failure).sentence, event, failure)


def apply_operator_order(state: State) -> Result:
    """Apply an operator's order once, on all agents that held their ranks when it was given."""
    order = state.store.order
    if not state.store.is_new_snapshot or not state.joined:
        return state, ()
    if not state.me.order:
        state = update_record(state, order=_last_order_before_me(state))
    if order is None or order.number <= state.me.order:
        return state, ()
    state = update_record(state, order=order.number)
    if order.kind is OrderKind.RESTART:
        return _apply_restart(state, order), ()
    if order.kind is not OrderKind.DRAIN or state.shutdown.stop_requested:
        return state, ()
    asked = state.with_shutdown(requested_at=state.now, requested_by=order.by or "an operator", ordered=True)
    return update_record(asked, stop_requested=True), log_line(Level.INFO, order.origin, "order")


def _last_order_before_me(state: State) -> int:
    """The highest number of an order that does not concern me: all orders given before I took my rank,
    also by the store's clock, since a store that is set back shows old ones. An order given just now,
    while my container was rebuilt, reached nobody, because my predecessor was not asked to stop; that
    one I apply.
    """
    former, order, now = state.store.predecessor, state.store.order, 1000 * state.store.clock
    last = max(now, order.number if order else 0)
    if former is None or former.stop_requested or order is None or order.number <= former.order:
        return last
    return former.order if order.number > now - REBUILT_WITHIN * 1_000_000 else last


def _apply_restart(state: State, order: Order) -> State:
    """End the generation in which the restart was ordered. If the Unit has yet to start in that one, it
    starts anyway, and the order is fulfilled. A store that was set back names an older generation; then
    the time decides.
    """
    runs = state.in_gang and state.up and not state.superseded
    later = order.generation < state.me.generation and order.number > 1000 * state.workload.barrier_opened_ms
    if not runs or not (later or order.generation == state.me.generation):
        return state
    by = f" by {order.by}" if order.by else ""
    why = f"a restart was requested{by}: {order.reason or 'no reason given'}"
    return state.with_workload(pending_failure=make_failure(state, state.config.rank, Reason.REQUESTED, why))


def apply_workload_exit(state: State, event: WorkloadExited) -> State:
    """Note that my main process has ended: a failure, unless it was asked to, or its job is done."""
    over = WorkloadPhase.MAIN_EXITED if state.workload.phase is WorkloadPhase.ALIVE else state.workload.phase
    state = update_record(state.with_workload(phase=over, exit=event.exit), exit_code=event.exit.status)
    if over is not WorkloadPhase.MAIN_EXITED or state.shutdown.draining or state.shutdown.stop_requested:
        return state
    if state.config.mode is Mode.JOB and event.exit.status == 0:
        return state
    return state.with_workload(
        pending_failure=state.workload.pending_failure or _make_exit_failure(state, event)
    )


def _make_exit_failure(state: State, event: WorkloadExited) -> Failure:
    rank, why = describe_rank(state, state.config.rank), _explain_exit_0(event.exit)
    return Failure(
        generation=state.me.generation,
        rank=state.config.rank,
        ip=state.me.ip,
        reason=Reason(event.exit.reason),
        detail=f"{rank} {event.exit.describe_exit()}{why}",
        exit_code=event.exit.code,
        signal=event.exit.signal,
        at=state.now + state.config.epoch,
    )


def _explain_exit_0(ended: Exit) -> str:
    """Why an exit with 0 is a failure; a start script that does not wait for its children causes this."""
    if ended.status:
        return ""
    several = f"{ended.left} processes" if ended.left > 1 else "a process"
    remedy = (
        f"it left {several} in the background: start what serves in the foreground"
        if ended.left
        else "a job that is done when it exits with 0 needs UNIT_MODE=job"
    )
    return f", which counts as a failure in service mode (UNIT_MODE); {remedy}"


def restart_with_me(state: State) -> State:
    """Some have started without me: with guard, or at rank 0, only a new generation brings the Unit
    together. Until I have held my rank for a lease in this contact, they may have started with somebody
    whom only the store has forgotten.
    """
    held = is_observed(state, state.config.lease, since=state.store.joined_at or state.now)
    if not state.ends_whole_unit or not held:
        return state
    if state.workload.gang is None:  # whom they started with in my rank, neither I nor the store knows
        why = f"{describe_rank(state, state.config.rank)} was rebuilt"
        state = remember_failure(state, make_failure(state, state.config.rank, Reason.REPLACED, why))
    return state.with_generation(state.me.generation + 1).with_store(notify=True)


def leave_with_leader(state: State) -> Result:
    """Without guard: leave with 75 when rank 0 was rebuilt, so that this container is rebuilt, too."""
    gang, leader = state.workload.gang, state.store.records.get(0)
    if state.ends_whole_unit or not state.store.is_new_snapshot or gang is None:
        return state, ()
    if leader is None or leader.incarnation == gang.incarnations[0]:
        return state, ()
    failure = make_failure(state, 0, Reason.REPLACED, f"{describe_rank(state, 0)} was rebuilt")
    why = f"{failure.detail}: without guard all other instances must be rebuilt with rank 0"
    # Its store may be as new as it is: my last record tells it which generation is over.
    state = remember_failure(state, failure).with_generation(failure.generation + 1)
    return request_exit(state, ExitCode.RECREATE, why), ()


def remember_failure(state: State, failure: Failure) -> State:
    """Keep only the first failure of a generation: later ones are its consequences."""
    if state.recovery.failure is not None and state.recovery.failure.generation >= failure.generation:
        return state
    failure = _add_earlier(_add_scope(state, failure), state.recovery.failure)
    return state.with_recovery(failure=failure, failure_stored=False)


def _add_earlier(failure: Failure, last: Failure | None) -> Failure:
    """The failure, completed by the last one of the other kind: an order or a real failure."""
    earlier = find_last_failure(last) if failure.requested else find_last_order(last)
    return replace(failure, earlier=earlier and replace(earlier, earlier=None))


def _add_scope(state: State, failure: Failure) -> Failure:
    """The failure, completed by whether it stops all other ranks."""
    everybody = failure.reason is Reason.REQUESTED or (
        failure.reason is Reason.REPLACED and failure.rank == 0
    )
    return replace(failure, stops=state.config.size if state.config.guard or everybody else 0)


def _fail_alone(state: State, failure: Failure) -> Result:
    """Without guard: what the failure means for this instance only."""
    if failure.rank == state.config.rank:
        ended = state.workload.exit
        code = ExitCode.UNEXPECTED if ended is None else ended.status or ExitCode.UNEXPECTED
        return request_exit(remember_failure(state, failure), code, failure.detail), ()
    return state, ()


def report_own_isolation(state: State) -> Result:
    """An isolated instance that comes back was itself the failure, if nobody noticed meanwhile."""
    if not state.workload.isolated or state.up or not (state.store.is_new_snapshot and state.holds_rank):
        return state, ()
    if not state.ends_whole_unit or state.superseded:
        return state, ()
    why = f"{describe_rank(state, state.config.rank)} was cut off: {state.workload.isolation_reason}"
    state = remember_failure(state, make_failure(state, state.config.rank, Reason.LOST, why))
    return state.with_generation(state.me.generation + 1).with_store(notify=True), ()


def start_recovery_timing(state: State) -> Result:
    """My generation is over because somebody proposed the next one: from here the recovery is timed."""
    over = state.in_gang and state.superseded and not state.shutdown.draining and not has_loaded(state)
    if not over or state.recovery.timestamps.generation == state.me.generation:
        return state, ()
    failure = state.recovery.failure
    detect = failure.detect if failure is not None else 0.0
    stopped = None if state.up else state.now
    marks = RecoveryTimestamps(
        generation=state.me.generation, failed=state.now, detect=detect, stopped=stopped
    )
    return state.with_recovery(timestamps=marks), _log_first_failure(state)


def _log_first_failure(state: State) -> tuple[Action, ...]:
    """The first failure in one sentence, on agents that did not find it themselves."""
    failure, generation = state.recovery.failure, state.me.generation
    if failure is None or failure.generation != generation:
        return log_line(
            Level.WARNING, f"generation {generation} ended: generation {state.generation} was proposed"
        )
    if failure.rank == state.config.rank or state.recovery.reported_generation == generation:
        return ()
    return log_line(Level.WARNING, failure.sentence, "restart" if failure.requested else "failure", failure)


def complete_job(state: State) -> Result:
    """In job mode the Unit is done when all ranks of a gang have exited with 0."""
    if not state.store.is_new_snapshot or not state.done:
        return state, ()
    others = [member for member in gang_members(state) if member.generation == state.me.generation]
    finished = all(peer.state is InstanceState.EXITED and peer.exit_code == 0 for peer in others)
    if len(others) != state.config.size - 1 or not finished:
        return state, ()
    state = state.with_shutdown(completed=True).with_store(notify=state.store.wrote_last)
    return request_exit(state, ExitCode.DONE, "all ranks of the job exited with 0"), ()
