"""From a signal to the exit: stopping the workload in the right order, and leaving the Unit.

What SIGTERM or SIGINT does, in order:

1. Until ``Agent.run`` has installed its handler, ``agent.startup.run_agent`` ends the instance with 0.
   Afterwards ``agent.loop`` ends the collection of evidence and queues the event ``StopRequested``
   (:func:`apply_stop_request`); a second signal, a second later, ends every wait (:func:`force_stop`).
2. If nothing runs, I leave at once (:func:`leave_without_workload`). With guard, or at rank 0, the Unit
   drains (:func:`begin_drain`): ``/readyz`` and ``/traffic`` turn requests away, and the others learn of it
   from my record. Without guard another rank stops alone (:func:`stop_alone`).
3. Rank 0 waits for balancers to notice and for its requests in flight, then stops (:func:`drain_in_turn`);
   the others stop once it has: an engine's followers that end first would break the requests that rank 0
   still answers. All of it fits into the stop grace.
4. On the action ``Stop``, ``agent.loop`` has ``workload.lifecycle`` send SIGTERM, and SIGKILL once its grace
   is over (at once on ranks whose engine ignores SIGTERM).
5. The keeper stops once the workload has, if there is one (:func:`keeper_rules.end_keeper`).
6. :func:`leave_unit` publishes the last record, so that the rank is free at once, and quits with 0.
7. Ranks that drained without being asked to stop do not end: they enter the next generation
   (``barrier.enter_generation``) and wait at its barrier for a replacement of those that left.
"""

from __future__ import annotations

from msgspec.structs import replace

from unitagent.core.actions import Action, AwaitDrain, Level, Log, Quit, Stop
from unitagent.core.config import Mode
from unitagent.core.exits import ExitCode, signal_name
from unitagent.core.failure_detector import REFUSES
from unitagent.core.keepers import leave_loading
from unitagent.core.members import confirmed_alive, gang_members, is_silent
from unitagent.core.model import InstanceState, Reason, Record
from unitagent.core.rank_ownership import was_taken
from unitagent.core.state import Result, State, describe_rank, log_line, request_exit, update_record
from unitagent.core.state_parts import WorkloadPhase

# Fractions of the stop grace: for rank 0's own stop; that the other ranks wait for rank 0, since they may get
# SIGTERM earlier; that a lone instance waits to learn whether rank 0 stops too.
LEADER_STOP_FRACTION, FOLLOWER_WAIT_FRACTION, LONE_WAIT_FRACTION = 0.8, 0.9, 0.2
LAST_LOOK = 1.0  # more seconds for the store to answer, since a wake-up may have been lost
SECOND_SIGNAL = 1.0  # seconds; a terminal and a process manager may both deliver the first signal
FAREWELL = 1.0  # seconds to wait until the store has the last record


def apply_stop_request(state: State, number: int) -> State:
    """Note a signal to stop, or a second one. After an order to drain the first one changes nothing:
    the platform ends a container that has been drained.
    """
    first = state.shutdown.signalled_at
    if first is not None:
        again = state.now - first >= SECOND_SIGNAL
        return state.with_shutdown(force_stop=state.shutdown.force_stop or again)
    state = state.with_shutdown(signalled_at=state.now)
    if state.shutdown.stop_requested:
        return state
    by = signal_name(number) if number else "a signal"
    return update_record(state.with_shutdown(requested_at=state.now, requested_by=by), stop_requested=True)


def leave_without_workload(state: State) -> Result:
    """Asked to stop while nothing runs: end at once."""
    if not state.shutdown.stop_requested or state.up:
        return state, ()
    return request_exit(state, ExitCode.DONE, f"asked to stop by {state.shutdown.requested_by}"), ()


def force_stop(state: State) -> Result:
    """A second signal ends every wait."""
    at_once = state.workload.phase is WorkloadPhase.STOPPING and state.workload.grace == 0
    if not state.shutdown.force_stop or not state.up or at_once:
        return state, ()
    state = state.with_workload(phase=WorkloadPhase.STOPPING, grace=0.0)
    return update_record(state, state=InstanceState.STOPPING), (Stop(0.0),)


def begin_drain(state: State) -> Result:
    """The Unit drains when rank 0 or, with guard, any member was asked to stop."""
    if state.shutdown.draining or not state.in_gang or state.superseded:
        return state, ()
    others = [
        peer.rank
        for peer in gang_members(state)
        if peer.stop_requested
        and peer.generation == state.me.generation
        and (state.config.guard or peer.rank == 0)
    ]
    if not others and not (state.shutdown.stop_requested and state.ends_whole_unit):
        return state, ()
    since = state.now if state.shutdown.requested_at is None else state.shutdown.requested_at
    state = update_record(state.with_shutdown(draining_since=since).with_store(notify=True), draining=True)
    by = state.shutdown.requested_by
    why = f"asked by {by}" if by else f"since {describe_rank(state, others[0])} was asked to stop"
    limit = f"within {state.config.stop_grace:g} s"
    return state, log_line(
        Level.INFO, f"draining, {why}: the workload of rank 0 stops first, {limit}", "drain"
    )


def drain_in_turn(state: State) -> Result:
    """In a drain, stop when it is the turn of this rank."""
    if (
        state.shutdown.draining_since is None
        or not state.up
        or state.workload.phase is WorkloadPhase.STOPPING
    ):
        return state, ()
    return (
        _drain_leader(state)
        if state.config.rank == 0
        else _drain_follower(state, state.shutdown.draining_since)
    )


def _drain_leader(state: State) -> Result:
    shutdown = state.shutdown
    since = shutdown.draining_since or state.now
    deadline = since + LEADER_STOP_FRACTION * state.config.stop_grace
    if _has_traffic(state):
        turned_away = since + state.config.deregister
        if state.now < turned_away:
            return state, ()
        if not shutdown.awaiting_drain:
            return state.with_shutdown(awaiting_drain=True), (AwaitDrain(),)
        if not shutdown.drained and state.now < min(turned_away + state.config.drain, deadline):
            return state, ()
    return _stop_workload(state, max(0.0, deadline - state.now))


def _has_traffic(state: State) -> bool:
    """Whether requests may be in flight that can still be answered."""
    whole = (
        all(peer.state.started for peer in gang_members(state))
        and state.workload.phase is WorkloadPhase.ALIVE
    )
    return whole and state.config.mode is Mode.SERVICE and state.me.state is InstanceState.HEALTHY


def _drain_follower(state: State, since: float) -> Result:
    held_until = since + FOLLOWER_WAIT_FRACTION * state.config.stop_grace
    if not _leader_stopped(state) and state.now < held_until and state.workload.phase is WorkloadPhase.ALIVE:
        return state, ()
    return _stop_workload(state, max(0.0, since + state.config.stop_grace - state.now))


def _hears_of_leader(state: State) -> bool:
    """Whether the store, or rank 0 itself, tells me what becomes of it."""
    leader = _find_leader(state)
    return state.connected or (leader is not None and confirmed_alive(state, leader))


def _find_leader(state: State) -> Record | None:
    return next(iter(gang_members(state, (0,))), None)


def _leader_stopped(state: State) -> bool:
    """Whether rank 0's workload of my generation is certainly gone."""
    leader = _find_leader(state)
    if leader is None:
        return True
    if not state.connected and state.peers.readiness_doubts.get(0) == REFUSES:
        return True
    moved_on = (
        leader.has_left or leader.generation > state.me.generation or leader.state is InstanceState.EXITED
    )
    return moved_on or 0 in state.peers.presumed_lost or is_silent(state, leader)


def stop_alone(state: State) -> Result:
    """Without guard an instance other than rank 0 stops alone, unless rank 0 turns out to stop, too.
    After an operator's order rank 0 stops, too, though it may have yet to hear of it. Without the store its
    own answer decides: if it reports that the Unit does not serve, I take it to be draining.
    """
    stops_alone = state.shutdown.stop_requested and not state.shutdown.draining and not state.ends_whole_unit
    if not stops_alone or not state.up or state.workload.phase is WorkloadPhase.STOPPING:
        return state, ()
    since = state.shutdown.requested_at or state.now
    drains = state.shutdown.ordered or (not state.connected and 0 in state.peers.readiness_doubts)
    hold = since + (FOLLOWER_WAIT_FRACTION if drains else LONE_WAIT_FRACTION) * state.config.stop_grace
    if _hears_of_leader(state) and not _leader_stopped(state):
        if state.now < hold:
            return state, ()
        if state.connected and not state.store.is_new_snapshot and state.now < hold + LAST_LOOK:
            return state.with_store(exchange_due=True), ()
    return _stop_workload(state, max(0.0, since + state.config.stop_grace - state.now))


def _stop_workload(state: State, grace: float) -> Result:
    state = state.with_workload(phase=WorkloadPhase.STOPPING, grace=grace)
    return update_record(state, state=InstanceState.STOPPING), (Stop(grace),)


def stop_ended_generation(state: State) -> Result:
    """The generation is over for me, by a failure, because I leave, or because the main process ended:
    stop.
    """
    if state.workload.phase is WorkloadPhase.STOPPING or not state.up:
        return state, ()
    over = state.superseded and not state.shutdown.draining
    if state.loads_keepers and (over or state.shutdown.leaving):
        return leave_loading(state), ()
    if over or state.shutdown.leaving or state.workload.phase is WorkloadPhase.MAIN_EXITED:
        return _stop_workload(state, _choose_restart_grace(state))
    return state, ()


def _choose_restart_grace(state: State) -> float:
    """Return the grace of a restart: engines may ignore SIGTERM after a failure, so that one may be short."""
    failure, shorter = state.recovery.failure, state.config.failure_grace
    current = failure is not None and failure.generation == state.me.generation
    ordered = failure is not None and current and failure.reason is Reason.REQUESTED
    if shorter is None or ordered or state.shutdown.leaving:
        return state.config.restart_grace
    return min(shorter, state.config.restart_grace)


def request_rebuild(state: State) -> Result:
    """A process cannot be killed: only the platform can remove it, by rebuilding the container."""
    stuck = state.workload.stuck or state.keeper.stuck
    if not stuck or (state.shutdown.leaving and state.shutdown.leaving.code == ExitCode.RECREATE):
        return state, ()
    why = f"{stuck}; this container must be rebuilt"
    return request_exit(state.with_shutdown(leaving=None), ExitCode.RECREATE, why), ()


def is_left_running(state: State) -> bool:
    """Whether something of the workload or of the keeper runs that can be stopped yet."""
    workload = state.up and not state.workload.stuck
    return workload or (state.keeper.phase is not WorkloadPhase.GONE and not state.keeper.stuck)


def leave_unit(state: State) -> Result:
    """Give my rank back in the store, so that it is free at once, then end."""
    leaving = state.shutdown.leaving
    if leaving is None or is_left_running(state):
        return state, ()
    if state.fenced or state.workload.stuck or state.keeper.stuck or not state.joined or was_taken(state):
        return state, _build_quit(state)
    if leaving.until == float("inf"):
        leaving = replace(leaving, until=_farewell_until(state))
        state = state.with_shutdown(leaving=leaving).with_store(notify=True)
        last = InstanceState.EXITED if state.me.generation else InstanceState.WAITING
        return update_record(state, has_left=True, state=last), ()
    force_stop = state.shutdown.force_stop
    published = state.store.published == state.me and (force_stop or not _is_needed(state))
    if published or state.now >= leaving.until:
        return state, _build_quit(state)
    if force_stop:  # ends every wait except that for the record that gives the rank back
        soon = replace(leaving, until=min(leaving.until, state.now + FAREWELL))
        return state.with_shutdown(leaving=soon), ()
    return state, ()


def _farewell_until(state: State) -> float:
    """How long to wait for the store. Rank 0 may have it in its container, so it stays until the others
    have read what they need.
    """
    if not _is_needed(state):
        return state.now + FAREWELL
    draining = state.shutdown.draining_since
    end = float("inf") if draining is None else draining + state.config.stop_grace
    return max(state.now + FAREWELL, min(state.now + state.config.lease, end - FAREWELL))


def _is_needed(state: State) -> bool:
    """Whether a member has yet to read my last record from the store."""
    if state.config.rank != 0:
        return False
    if state.shutdown.completed or state.me.budget_exhausted:
        return any(not peer.has_left for peer in gang_members(state))
    ends_for_all = state.config.guard or state.shutdown.draining
    here = state.me.generation
    return ends_for_all and any(
        peer.generation == here and peer.state.started for peer in gang_members(state)
    )


def _build_quit(state: State) -> tuple[Action, ...]:
    leaving = state.shutdown.leaving
    if leaving is None:
        return ()
    level = Level.INFO if leaving.code == ExitCode.DONE else Level.ERROR
    code = int(leaving.code)
    last = state.recovery.failure
    mine = last is not None and (last.generation, last.rank) == (state.me.generation, state.config.rank)
    ended = Log(level, f"exit {code}: {leaving.why}", "quit", last if mine and code else None, code)
    return (ended, Quit(code, leaving.why))
