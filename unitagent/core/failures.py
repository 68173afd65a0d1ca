"""What ends a generation. With guard any failure of any member does, by proposing the next generation;
without guard only my own failure, or a rebuilt rank 0, ends my part in it.

A failure is always about *my* generation: N reports of one event, or of many that come together, all propose
the same next generation, and a report about an older one changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from unitagent.core import budget
from unitagent.core.actions import Action, Level
from unitagent.core.exits import Code
from unitagent.core.judging import of_peers
from unitagent.core.model import Charge, Failure, InstanceState, Order, OrderKind, Reason, Record, Restart
from unitagent.core.parts import Marks
from unitagent.core.state import Result, State, failure_of, go, members, mine, name, say

REBUILT_WITHIN = 60  # seconds; a container that is rebuilt later belongs to a new life of the Unit


def obey(state: State) -> Result:
    """An operator's order is obeyed once, by all who held their ranks when it was given."""
    order = state.store.order
    if not state.store.current or not state.joined:
        return state, ()
    if not state.me.order:
        state = mine(state, order=_last_before_me(state))
    if order is None or order.number <= state.me.order:
        return state, ()
    state = mine(state, order=order.number)
    if order.kind is OrderKind.RESTART:
        return _restart(state, order), ()
    if state.shutdown.asked is not None:
        return state, ()
    said = say(Level.INFO, f"asked to drain the Unit: {order.reason or 'no reason given'}")
    return mine(state.with_shutdown(asked=state.now), asked=True), said


def _last_before_me(state: State) -> int:
    """The highest number of an order that is none for me: all that were given before I took my rank, by the
    store's clock too, since one that is set back shows old ones. Only what was given just now, while my
    container was rebuilt, was heard by nobody: my predecessor was not asked to stop.
    """
    former, order, now = state.store.predecessor, state.store.order, 1000 * state.store.clock
    last = max(now, order.number if order else 0)
    if former is None or former.asked or order is None or order.number <= former.order:
        return last
    return former.order if order.number > now - REBUILT_WITHIN * 1_000_000 else last


def _restart(state: State, order: Order) -> State:
    """End the generation that it was given in. A Unit that has yet to start in that one starts anyway, and
    the wish is fulfilled without more.
    """
    runs = state.in_gang and state.up and not state.outrun
    if not runs or order.generation != state.me.generation:
        return state
    why = f"a restart was asked for: {order.reason or 'no reason given'}"
    return state.with_workload(ended=failure_of(state, state.rules.rank, Reason.REQUESTED, why))


def end_generation(state: State) -> Result:
    """Find what ended my generation; with guard, say so to all by proposing the next one."""
    if state.outrun:
        return state.with_workload(ended=None) if state.workload.ended else state, ()
    failure = state.workload.ended or _startup_timeout(state) or of_peers(state)
    if failure is None:
        return state, ()
    state = state.with_workload(ended=None)
    if not state.rules.guard and failure.reason is not Reason.REQUESTED:
        return _alone(state, failure)
    state = remember(state, failure).knowing(failure.generation + 1).with_store(notify=True)
    level = Level.INFO if failure.reason is Reason.REQUESTED else Level.ERROR
    state = state.with_recovery(reported=failure.generation)
    return state, say(level, _in_full(state, failure).sentence)


def follow_leader(state: State) -> Result:
    """Without guard a rebuilt rank 0 takes all others with it: their containers are rebuilt too."""
    gang, leader = state.workload.gang, state.store.records.get(0)
    if state.leads or not state.store.current or gang is None:
        return state, ()
    if leader is None or leader.incarnation == gang.incarnations[0]:
        return state, ()
    failure = failure_of(state, 0, Reason.REPLACED, f"{name(state, 0)} was rebuilt")
    why = f"{failure.detail}: without guard all other instances must be rebuilt with rank 0"
    # Its store may be as new as itself: my last words tell it which generation is over.
    state = remember(state, failure).knowing(failure.generation + 1)
    return go(state, Code.RECREATE, why), say(Level.ERROR, why)


def remember(state: State, failure: Failure) -> State:
    """Of one generation only the first failure is kept: later ones are its consequences."""
    if state.recovery.failure is not None and state.recovery.failure.generation >= failure.generation:
        return state
    return state.with_recovery(failure=_in_full(state, failure), failure_stored=False)


def _in_full(state: State, failure: Failure) -> Failure:
    """The failure, with whether it takes all the others down."""
    everybody = failure.reason is Reason.REQUESTED or (
        failure.reason is Reason.REPLACED and failure.rank == 0
    )
    return replace(failure, stops=state.rules.size if state.rules.guard or everybody else 0)


def _alone(state: State, failure: Failure) -> Result:
    """Without guard: what the failure means for this instance only."""
    if failure.rank == state.rules.rank:
        ended = state.workload.exit
        code = Code.UNEXPECTED if ended is None else ended.status or Code.UNEXPECTED
        return go(remember(state, failure), code, failure.detail), say(Level.ERROR, failure.detail)
    return state, ()


def _startup_timeout(state: State) -> Failure | None:
    if state.rules.startup <= 0 or state.me.state is not InstanceState.RUNNING or state.rules.rank != 0:
        return None
    if state.workload.proven or state.now - state.workload.spawned <= state.rules.startup:
        return None
    limit = f"{state.rules.startup:g} s (UNIT_STARTUP_SECONDS)"
    me = name(state, state.rules.rank)
    return failure_of(state, state.rules.rank, Reason.STARTUP_TIMEOUT, f"{me} was not healthy within {limit}")


def lost_contact(state: State) -> Result:
    """An isolated instance that comes back was the failure itself, if nobody noticed it meanwhile."""
    if not state.workload.cut_off or state.up or not (state.store.current and state.holds_rank):
        return state, ()
    if not state.leads or state.outrun:
        return state, ()
    why = f"{name(state, state.rules.rank)} was cut off from the store and from its peers"
    state = remember(state, failure_of(state, state.rules.rank, Reason.LOST, why))
    return state.knowing(state.me.generation + 1).with_store(notify=True), ()


def note(state: State) -> Result:
    """My generation is over because somebody proposed the next one: from here the recovery is timed."""
    over = state.in_gang and state.outrun and state.shutdown.draining is None
    if not over or state.recovery.marks.generation == state.me.generation:
        return state, ()
    failure = state.recovery.failure
    detect = failure.detect if failure is not None else 0.0
    stopped = None if state.up else state.now
    marks = Marks(generation=state.me.generation, failed=state.now, detect=detect, stopped=stopped)
    return state.with_recovery(marks=marks), _told(state)


def _told(state: State) -> tuple[Action, ...]:
    """The first failure in one sentence, for those who did not find it themselves."""
    failure, generation = state.recovery.failure, state.me.generation
    if failure is None or failure.generation != generation:
        return say(
            Level.WARNING, f"generation {generation} ended: generation {state.generation} was proposed"
        )
    if failure.rank == state.rules.rank or state.recovery.reported == generation:
        return ()
    return say(Level.WARNING, failure.sentence)


def count(state: State) -> Result:
    """Once my workload is gone: charge the restart to the budget; go on, exit for a rebuild, or give up. The
    store has to tell first why my generation ended: what was asked for is free.
    """
    if state.up or not state.outrun or state.recovery.counted == state.me.generation or not state.connected:
        return state, ()
    state = state.with_recovery(counted=state.me.generation)
    if state.shutdown.draining is not None:
        return state, ()
    state = mine(state, restarts=state.me.restarts + 1)
    if not _free_of_charge(state):
        state = _charge(state)
    if state.rules.guard and budget.is_spent(state.recovery.charges, state.rules.max_restarts):
        return _give_up(state), ()
    if state.rules.restart is Restart.RECREATE:
        return go(state, Code.RECREATE, f"generation {state.me.generation} ended: rebuild this container"), ()
    return state, ()


def _free_of_charge(state: State) -> bool:
    failure = state.recovery.failure
    asked_for = failure is not None and failure.reason is Reason.REQUESTED
    return failure is not None and asked_for and failure.generation == state.me.generation


def _charge(state: State) -> State:
    at = state.now if state.recovery.marks.failed is None else state.recovery.marks.failed
    return _pausing(_charged(state, (_dated(state, state.me.generation, at),)))


def _dated(state: State, generation: int, at: float) -> Charge:
    return Charge(generation=generation, at=round(at + state.rules.epoch, 3))


def _charged(state: State, charges: Iterable[Charge]) -> State:
    """With these restarts charged, and those forgotten that the window has left behind."""
    now, window = state.now + state.rules.epoch, state.rules.restart_window
    known = budget.merge((*state.recovery.charges, *charges), now, window)
    return mine(state.with_recovery(charges=known), charges=known[-budget.MOST :])


def _pausing(state: State) -> State:
    """With the pause that the last charge asks for."""
    charges = state.recovery.charges
    if not charges:
        return state
    pause = budget.pause_before(charges, state.rules.backoff)
    return state.with_barrier(not_before=charges[-1].at - state.rules.epoch + pause)


def inherit(state: State, predecessor: Record) -> State:
    """What the former holder of my rank knew of the budget. Its own end it could not charge, and where nobody
    has ended that generation yet, nobody else may have lived to. A Unit that gave up has closed that account.
    """
    if any(record.failed for record in state.store.records.values()):
        return state
    state = _charged(state, predecessor.charges)
    if state.rules.guard and was_cut_short(predecessor) and predecessor.generation >= state.generation:
        state = _charged(state, (_dated(state, predecessor.generation, state.now),))
    return _pausing(state) if state.rules.restart is Restart.RECREATE else state


def was_cut_short(predecessor: Record) -> bool:
    """Whether its agent ended in the midst of a generation, and not by a decision of its own."""
    return predecessor.state.started and not (predecessor.asked or predecessor.left)


def learn_charges(state: State) -> Result:
    """Of restarts that I did not live through, because my container was rebuilt, the others tell."""
    if not state.store.current or not state.joined or state.shutdown.leaving:
        return state, ()
    known = {charge.generation for charge in state.recovery.charges}
    told = [
        charge
        for record in state.store.records.values()
        if not record.failed
        for charge in record.charges
        if charge.generation not in known and charge.generation < state.me.generation
    ]
    return (_charged(state, told) if told else state), ()


def _give_up(state: State) -> State:
    failure = state.recovery.failure
    why = (
        f"{len(state.recovery.charges) - 1} restarts within {state.rules.restart_window:g} s are spent "
        f"(UNIT_MAX_RESTARTS={state.rules.max_restarts}); last: "
        f"{failure.detail if failure else 'unknown'}"
    )
    return mine(go(state, Code.BUDGET, why), failed=True)


def fail_together(state: State) -> Result:
    """Where another rank holds that the budget is spent, it is, for all."""
    if not state.store.current:
        return state, ()
    failed = [record for record in state.store.records.values() if record.failed]
    ours = {peer.incarnation for peer in members(state)}
    told = any(record.incarnation in ours or _failed_without_me(state, record) for record in failed)
    if not told and not _nobody_lived_to_tell(state):
        return state, ()
    last = state.recovery.failure.detail if state.recovery.failure else "unknown"
    why = f"the restart budget of the Unit is spent; last: {last}"
    return mine(go(state, Code.BUDGET, why), failed=True), ()


def _failed_without_me(state: State, record: Record) -> bool:
    """Whether the Unit gave up while my container was rebuilt: just now, and my predecessor did not end by
    that.

    A Unit that somebody starts again after it failed begins anew.
    """
    former = state.store.predecessor
    if not state.rules.guard or state.workload.gang is not None or former is None:
        return False
    if former.failed and former.left:
        return False
    now = state.now + state.rules.epoch
    return bool(record.charges) and now - record.charges[-1].at < REBUILT_WITHIN


def _nobody_lived_to_tell(state: State) -> bool:
    """Whether the budget is spent by what I know of those before me: they ended before one could give up."""
    anew = state.rules.guard and state.workload.gang is None
    return anew and budget.is_spent(state.recovery.charges, state.rules.max_restarts)


def complete(state: State) -> Result:
    """Job mode: the Unit is done when all ranks of a gang exited with 0."""
    if not state.store.current or not state.done:
        return state, ()
    others = [member for member in members(state) if member.generation == state.me.generation]
    finished = all(peer.state is InstanceState.EXITED and peer.exit_code == 0 for peer in others)
    if len(others) != state.rules.size - 1 or not finished:
        return state, ()
    state = state.with_shutdown(completed=True).with_store(notify=state.store.last_to_act)
    return go(state, Code.DONE, "all ranks of the job exited with 0"), ()
