"""When keepers start the workload, and when they end (:mod:`keepers` says what they are).

A keeper ends when its main process does; when it was not ready before its generation was over; when what it
has loaded has changed and no workload uses it; when its group is broken, since their rendezvous is collective
and a single one cannot join again; when another instance took the rank and no workload runs here; when its
agent leaves, after the workload; and at once when its agent is isolated (:mod:`isolation`) or fenced. It does
not end with a generation of the workload.
"""

from __future__ import annotations

from msgspec import UNSET

from unitagent.core.actions import Action, Level
from unitagent.core.barrier import counts_at_barrier, is_present
from unitagent.core.failures import remember_failure
from unitagent.core.keepers import set_keeper, stop_keeper, stop_keeper_at_once
from unitagent.core.members import gang_members
from unitagent.core.model import InstanceState, Record
from unitagent.core.restart_budget import count_restart
from unitagent.core.state import Result, Stage, State, find_stage, log_line
from unitagent.core.state_parts import Shutdown, WorkloadPhase

UNASKED = Shutdown()


def finish_loading(state: State) -> Result:
    """All keepers of my gang are ready: propose the generation whose workload uses them."""
    if (
        not state.store.is_new_snapshot
        or state.superseded
        or not state.loads_keepers
        or not state.keeper.ready
    ):
        return state, ()
    ready = [one for one in gang_members(state) if one.keeper == state.me.keeper]
    if len(ready) != state.config.size - 1:
        return state, ()
    took = state.now - state.keeper.since
    state = state.with_generation(state.me.generation + 1).with_store(notify=True)
    return state, log_line(Level.INFO, f"all keepers are ready after {took:.1f} s", "keeper")


def report_dead_keeper(state: State) -> Result:
    """My keeper has ended while I wait at a barrier: what others confirmed there cannot start. It is charged
    as a restart, so that a keeper which ends again and again spends the budget.
    """
    failure = state.workload.pending_failure
    if failure is None or not state.connected or state.superseded:
        return state, ()
    state = remember_failure(state.with_workload(pending_failure=None), failure)
    state = state.with_generation(state.me.generation + 1).with_store(notify=True)
    state = state.with_recovery(reported_generation=failure.generation)
    state, actions = count_restart(state)
    return state, (*log_line(Level.ERROR, failure.sentence, "failure", failure), *actions)


def renew_stale_keeper(state: State) -> Result:
    """What my keeper has loaded has changed, and no workload runs here: all keepers start again. Others may
    have confirmed this generation with it, so it cannot start.
    """
    if not (state.keeper.stale and state.keeper.ready) or state.superseded:
        return state, ()
    state = set_keeper(state, ready=False)
    state = state.with_generation(state.me.generation + 1).with_store(notify=True)
    return state, log_line(Level.WARNING, f"all keepers start again: {state.keeper.stale}", "keeper")


def end_keeper(state: State) -> Result:
    """Stop the keeper when it is over, broken, or the last to go."""
    view = state.keeper
    if view.phase is WorkloadPhase.GONE:
        return state, ()
    if view.phase is WorkloadPhase.MAIN_EXITED or state.fenced or state.shutdown.force_stop:
        state, actions = _end_at_once(state)
        return state, (*_log_loss(state), *actions) if view.phase is WorkloadPhase.MAIN_EXITED else actions
    if view.phase is WorkloadPhase.STOPPING:
        return state, ()
    if state.shutdown.leaving is not None:
        over = not state.up or bool(state.workload.stuck)
        return stop_keeper(state, _choose_last_grace(state)) if over else (state, ())
    why = _explain_end(state) if find_stage(state) is Stage.AT_BARRIER else ""
    if why:
        state, actions = stop_keeper(state, state.config.restart_grace)
        return state, (*log_line(Level.INFO, f"the keeper is stopped: {why}", "keeper"), *actions)
    return state, ()


def _explain_end(state: State) -> str:
    """Why the keeper ends at this barrier, in words; empty if it stays."""
    if not state.keeper.ready:
        stale = state.keeper.stale
        return "what it holds is out of date" if stale else "its generation ended before it was ready"
    if _is_succeeded(state):
        return f"another instance holds rank {state.config.rank}"
    return "its group is no longer whole" if _is_broken(state) else ""


def _is_succeeded(state: State) -> bool:
    """Whether another instance took my rank after me. It may be gone already, and its successor would start
    a keeper without knowing of mine.
    """
    holder = state.store.records.get(state.config.rank)
    if holder is None or not state.store.is_new_snapshot:
        return False
    return holder.incarnation != state.me.incarnation and holder.outranks(state.me)


def _log_loss(state: State) -> tuple[Action, ...]:
    """That the keeper of a workload which runs on has ended; else that is logged as a failure."""
    runs_on = state.up and not state.superseded and state.shutdown == UNASKED and not state.loads_keepers
    why = "the keeper has ended; the workload runs on, and all keepers start again with the next restart"
    return log_line(Level.WARNING, why, "keeper") if runs_on else ()


def _end_at_once(state: State) -> Result:
    """A keeper whose main process is over has nothing to say goodbye for; who is hurried waits for the
    workload only.
    """
    if state.shutdown.force_stop and state.up and state.keeper.phase is WorkloadPhase.ALIVE:
        return state, ()
    return stop_keeper_at_once(state)


def _choose_last_grace(state: State) -> float:
    """The grace of a keeper whose agent leaves: the rest of that of the whole stop."""
    asked = state.shutdown.requested_at
    if asked is None:
        return state.config.restart_grace
    return max(0.0, asked + state.config.stop_grace - state.now)


def _is_broken(state: State) -> bool:
    """Whether another rank stands at my barrier, and it is certain that it is not of my keeper's group, or a
    member of that has left.
    """
    gang = state.keeper.gang
    if gang is None or not state.store.is_new_snapshot or not state.holds_rank:
        return False
    others = (one for one in state.store.records.values() if one.rank != state.config.rank)
    return any(
        _stands_apart(state, one) or (one.has_left and one.incarnation in gang.incarnations) for one in others
    )


def _stands_apart(state: State, record: Record) -> bool:
    """Whether that rank waits at my barrier with another keeper than those of my group, or with none. What
    a store that was set back shows may be over.
    """
    here = record.state is InstanceState.IDLE and counts_at_barrier(state, record)
    return here and is_present(state, record) and record.keeper not in (state.me.keeper, UNSET)
