"""The restart budget: how many restarts are allowed within a window, and how long to pause before each.

A restart is charged to the generation that it ended, so each counts once, whoever reports it; an agent
that survives it charges it, or else the successor of one that did not. Every record carries the charges
that its agent knows: if a rebuilt container forgets some, the other ranks, or its predecessor's record,
still have them. If any member reports an exhausted budget, all give up together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from unitagent.core.actions import Level
from unitagent.core.config import Restart
from unitagent.core.exits import ExitCode
from unitagent.core.keepers import has_loaded
from unitagent.core.members import gang_members
from unitagent.core.model import Charge, InstanceState, Record, find_last_failure
from unitagent.core.state import Result, State, log_line, request_exit, update_record

GAVE_UP_WITHIN = 60  # seconds; a container that is rebuilt later belongs to a new life of the Unit


def count_restart(state: State) -> Result:
    """Once my workload is gone: charge the restart, then continue, exit for a rebuild, or give up. The
    store has to say first why my generation ended: a requested restart is free.
    """
    if (
        state.up
        or not state.superseded
        or state.recovery.counted_generation == state.me.generation
        or not state.connected
    ):
        return state, ()
    state = state.with_recovery(counted_generation=state.me.generation)
    if state.shutdown.draining or has_loaded(state):
        return state, ()
    state = update_record(state, restarts=state.me.restarts + 1)
    if not _was_asked_for(state, state.me.generation):
        state = _charge_restart(state)
    if state.config.guard and is_spent(state.recovery.charges, state.config.max_restarts):
        return _give_up(state), ()
    if state.config.restart is Restart.RECREATE:
        return request_exit(
            state, ExitCode.RECREATE, f"generation {state.me.generation} ended: rebuild this container"
        ), ()
    return state, log_line(Level.INFO, _describe_restart(state))


def _describe_restart(state: State) -> str:
    """Which restart this is, of how many, and when it comes."""
    if _was_asked_for(state, state.me.generation):
        return "restart on request, which the restart budget does not count"
    pause = max(0.0, state.barrier.backoff_until - state.now)
    soon = f"in {pause:.1f} s (UNIT_BACKOFF_SECONDS)" if pause else "at once"
    used = len(state.recovery.charges)
    if not state.config.guard:
        return f"restart {used} within {state.config.restart_window:g} s, {soon}"
    return (
        f"restart {used} of {state.config.max_restarts} within {state.config.restart_window:g} s "
        f"(UNIT_MAX_RESTARTS), {soon}"
    )


def _was_asked_for(state: State, generation: int) -> bool:
    failure = state.recovery.failure
    return failure is not None and failure.requested and failure.generation == generation


def _charge_restart(state: State) -> State:
    at = state.now if state.recovery.timestamps.failed is None else state.recovery.timestamps.failed
    return _set_pause(_add_charges(state, (_make_charge(state, state.me.generation, at),)))


def _make_charge(state: State, generation: int, at: float) -> Charge:
    return Charge(generation=generation, at=round(at + state.config.epoch, 3))


def _add_charges(state: State, charges: Iterable[Charge]) -> State:
    """The state with these restarts charged, without those that are older than the window."""
    now, window = state.now + state.config.epoch, state.config.restart_window
    known = merge_charges((*state.recovery.charges, *charges), now, window)
    return update_record(state.with_recovery(charges=known), charges=known[-MOST_CHARGES:])


def _set_pause(state: State) -> State:
    """The state with the pause that follows the last charge."""
    charges = state.recovery.charges
    if not charges:
        return state
    pause = pause_before(charges, state.config.backoff)
    return state.with_barrier(backoff_until=charges[-1].at - state.config.epoch + pause)


def inherit_charges(state: State, predecessor: Record) -> State:
    """Take over the charges of the former holder of my rank, and charge the end that it did not live to
    charge: perhaps nobody else did. A Unit that gave up has closed its account.
    """
    if any(record.budget_exhausted for record in state.store.records.values()):
        return state
    state = _add_charges(state, predecessor.charges)
    if state.config.guard and _left_uncharged(state, predecessor):
        state = _add_charges(state, (_make_charge(state, predecessor.generation, state.now),))
    return _set_pause(state) if state.config.restart is Restart.RECREATE else state


def _left_uncharged(state: State, predecessor: Record) -> bool:
    """Whether its agent ended in the middle of the last generation, and nobody was asked to stop."""
    ended, here = predecessor.generation, state.store.records.values()
    ran = predecessor.state.started or predecessor.state is InstanceState.STOPPING
    drained = any(
        (one.stop_requested or one.draining) and one.generation == ended for one in (predecessor, *here)
    )
    free = drained or _was_asked_for(state, ended)
    return ran and ended >= state.generation - 1 and not (predecessor.has_left or free)


def learn_charges(state: State) -> Result:
    """Learn from the others of restarts that happened while my container was rebuilt."""
    if not state.store.is_new_snapshot or not state.joined or state.shutdown.leaving:
        return state, ()
    known = {charge.generation for charge in state.recovery.charges}
    new = [
        charge
        for record in state.store.records.values()
        if not record.budget_exhausted
        for charge in record.charges
        if charge.generation not in known and charge.generation < state.me.generation
    ]
    return (_add_charges(state, new) if new else state), ()


def _give_up(state: State) -> State:
    failure = find_last_failure(state.recovery.failure)
    why = (
        f"the restart budget is exhausted: {len(state.recovery.charges) - 1} restarts within "
        f"{state.config.restart_window:g} s (UNIT_MAX_RESTARTS={state.config.max_restarts}); last: "
        f"{failure.detail if failure else 'unknown'}"
    )
    return update_record(request_exit(state, ExitCode.BUDGET, why), budget_exhausted=True)


def fail_together(state: State) -> Result:
    """If any member reports an exhausted restart budget, treat it as exhausted here too."""
    if not state.store.is_new_snapshot:
        return state, ()
    failed = [record for record in state.store.records.values() if record.budget_exhausted]
    ours = {peer.incarnation for peer in gang_members(state)}
    failed_here = any(record.incarnation in ours or _failed_without_me(state, record) for record in failed)
    if not failed_here and not _is_spent_by_predecessors(state):
        return state, ()
    failure = find_last_failure(state.recovery.failure)
    last = failure.detail if failure else "unknown"
    why = f"the restart budget of the Unit is exhausted; last: {last}"
    return update_record(request_exit(state, ExitCode.BUDGET, why), budget_exhausted=True), ()


def _failed_without_me(state: State, record: Record) -> bool:
    """Whether the Unit gave up just now, while my container was rebuilt or I was isolated. My
    predecessor may have been killed meanwhile; a Unit that somebody starts again after it failed begins
    anew.
    """
    serves = state.up and state.generation == state.me.generation
    if not state.config.guard or serves or not record.charges:
        return False
    gang, former, last = state.workload.gang, state.store.predecessor, record.charges[-1]
    outlived = gang is not None and gang.generation <= last.generation
    rebuilt = gang is None and former is not None and not (former.budget_exhausted and former.has_left)
    recent = state.now + state.config.epoch - last.at < GAVE_UP_WITHIN
    return recent and (outlived or rebuilt)


def _is_spent_by_predecessors(state: State) -> bool:
    """Whether the charges of my predecessors exhaust the budget, and they ended before one could give
    up.
    """
    anew = state.config.guard and state.workload.gang is None
    return anew and is_spent(state.recovery.charges, state.config.max_restarts)


Charges = tuple[Charge, ...]

MOST_CHARGES = 100  # charges that fit into a record; no more of them outlive a container


def merge_charges(charges: Iterable[Charge], now: float, window: float) -> Charges:
    """The restarts that still count, oldest first, each once; ``now`` in seconds since the epoch.

    If a clock is ahead of mine, its charges are dated now; otherwise they would never expire.
    """
    first: dict[int, float] = {}
    for charge in charges:
        first[charge.generation] = min(charge.at, now, first.get(charge.generation, now))
    return tuple(Charge(generation=one, at=at) for one, at in sorted(first.items()) if now - at < window)


def is_spent(charges: Charges, allowed: int) -> bool:
    """Whether the last of these restarts was one too many."""
    return len(charges) > allowed


def pause_before(charges: Charges, backoff: Sequence[float]) -> float:
    """Seconds to wait before the last of these restarts; the last value of ``backoff`` repeats."""
    if not charges or not backoff:
        return 0.0
    return backoff[min(len(charges), len(backoff)) - 1]
