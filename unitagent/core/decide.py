"""The protocol of a Unit, as one pure function: ``decide(state, event) -> (state, actions)``.

Time, chance and the world come in as events; every effect leaves as an action. The agent, the simulator and a
replay of a recorded history run this same function.

How it works. An event first adds its facts to the state (:mod:`absorb`). Then the rules below look at the
*whole* state, in this order, again and again until none of them changes anything. A wake-up therefore only
says "look": whether it was a push, a timer or an answer makes no difference, and none of them can be missed.
Each rule is asked in some stages of an agent's life only (:mod:`stage`); the table at the end says in which.

What the rules keep, and where:

1. Nothing of an older workload lives where a generation is entered (``barrier.enter`` needs ``Work.ABSENT``,
   which only ``WorkloadGone`` gives).
2. A generation starts when all ranks confirmed the same gang, in one snapshot (``barrier.stand``), or when
   another that confirmed it has started, which had that snapshot (``barrier.start_late``). The gang's id,
   generation and roster, is the fencing token: each incarnation confirms it once, so it cannot be issued
   twice even when the store loses acknowledged writes.
3. The generation in my memory never goes down (``absorb``): everything in the store may be lost and is
   rebuilt from the agents' memories.
4. Failures propose *my* generation plus one (``failures.end_generation``): many reports, one restart.
5. A lease is judged by change on my own clock in unbroken contact (``leases``), and a late peer is asked
   before it counts as lost (``judging.judge``).
6. No store: hold; no store and no peers: stop (``outage``).
7. One live incarnation per rank (``joining``): who loses the rank stops at once and ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from unitagent.core import (
    agreeing,
    barrier,
    charging,
    checks,
    credence,
    ending,
    failures,
    joining,
    judging,
    outage,
    rejoining,
)
from unitagent.core.absorb import absorb
from unitagent.core.actions import Action, Exchange, Level, Quit, Say
from unitagent.core.events import Event
from unitagent.core.leases import neighbours
from unitagent.core.model import InstanceState, Record
from unitagent.core.stage import Stage, stage
from unitagent.core.state import ALL_BEATS, Result, State

_MOST_PASSES = 20


def decide(state: State, event: Event) -> Result:
    """What the agent knows after ``event``, and what it does about it.

    Raises:
        RuntimeError: the rules do not settle; a defect of this program, never caused by input.

    """
    state = absorb(state, event)
    actions: tuple[Action, ...] = ()
    for _ in range(_MOST_PASSES):
        before = state
        state, more = _look(state)
        actions += more
        if state == before or (more and isinstance(more[-1], Quit)):
            return state, actions
    raise RuntimeError(f"the rules do not settle after {event}: {state}")


def _look(state: State) -> Result:
    """Ask each rule once, up to one that ends the agent."""
    actions: tuple[Action, ...] = ()
    now = stage(state)
    for rule, stages in RULES:
        if now not in stages:
            continue
        after, more = rule(state)
        actions += more
        if more and isinstance(more[-1], Quit):
            return after, actions
        if after is not state:
            state, now = after, stage(after)
    return state, actions


def publish(state: State) -> Result:
    """One exchange at a time: at once when there is something to say or to look for, else as a heartbeat."""
    if state.store.in_flight or state.fenced:
        return state, ()
    may_take = joining.may_take(state)
    record = state.me if may_take is not None else None
    if not _due(state, record):
        return state, ()
    if record is not None and joining.takes_anew(state, may_take):
        state = joining.claim(state)
        record = state.me
    exchange = Exchange(
        record=record,
        take=may_take or "",
        seen=state.store.leases.count(may_take or ""),
        generation=state.generation,
        failure=None if state.recovery.failure_stored else state.recovery.failure,
        judge=_beats(state),
        notify=state.store.notify or _urgent(state),
    )
    later = state.now + state.rules.heartbeat
    state = state.with_store(
        in_flight=True, asked=state.now, exchanging=record, look=False, notify=False, next_beat=later
    )
    return state, (exchange,)


def _due(state: State, record: Record | None) -> bool:
    if state.now >= state.store.next_beat:
        return True
    if not state.connected:
        return False
    return state.store.look or state.store.notify or (record is not None and record != state.store.published)


def _urgent(state: State) -> bool:
    """Whether others wait for this change of my record."""
    me, old = state.me, state.store.published
    if old is None:
        return False
    told = (me.asked, me.left, me.failed) != (old.asked, old.left, old.failed)
    return told or (me.state is InstanceState.EXITED and old.state is not me.state)


def _beats(state: State) -> tuple[int, ...]:
    if state.rules.size <= ALL_BEATS:
        return tuple(range(state.rules.size))
    wanted = {0, *neighbours(state.rules.rank, state.rules.size), *agreeing.at_odds(state)}
    return tuple(sorted(wanted))


def note_ready(state: State) -> Result:
    """The first moment that the whole generation serves ends a recovery."""
    store, marks = state.store, state.recovery.marks
    told = store.published == state.me  # before that the others cannot know, and would not be woken
    if marks.ready is not None or not (store.current and told and checks.is_ready(state)):
        return state, ()
    marks = replace(marks, ready=state.now)
    state = state.with_recovery(marks=marks, was_ready=True)
    state = state.with_store(notify=store.notify or store.last_to_act)
    took = (
        "" if marks.failed is None else f", {marks.detect + state.now - marks.failed:.2f} s after the failure"
    )
    return state, (Say(Level.INFO, f"the Unit is ready in generation {state.me.generation}{took}"),)


Rule = Callable[[State], Result]
Stages = frozenset[Stage]

JOINING, AT_BARRIER, RUNNING, STOPPING, ISOLATED, DRAINING, LEAVING = (frozenset({one}) for one in Stage)
EVER = frozenset(Stage)
STAYING = EVER - LEAVING
IN_GANG = RUNNING | STOPPING | ISOLATED | DRAINING

# Each rule with the stages in which it may do something, in the order in which they are asked. A drain, and
# the wish to leave, begin in the midst of something else and hide what that was. So the rules that go on
# then look themselves whether a workload is up, cut off or in a drain. After ``ending.asked``, whoever was
# asked to stop and has no workload is leaving.
RULES: tuple[tuple[Rule, Stages], ...] = (
    (joining.fence, EVER - JOINING),
    (joining.give_up_store, JOINING),
    (agreeing.agree, STAYING),
    (joining.wait_for_rank, EVER),  # also who had the rank waits where the store shows a later tenure
    (joining.confirm_tenure, EVER - JOINING),
    (joining.joined, EVER - JOINING),
    (credence.warn, EVER),
    (outage.tell, EVER),
    (outage.ask_around, IN_GANG | LEAVING),
    (outage.isolate, RUNNING | STOPPING | DRAINING | LEAVING),
    (judging.judge, IN_GANG | LEAVING),
    (judging.tell_lost, IN_GANG | LEAVING),
    (judging.look_in_time, IN_GANG | LEAVING),
    (judging.watch_again, EVER - JOINING),
    (failures.obey, STAYING),
    (failures.follow_leader, IN_GANG - DRAINING),
    (failures.end_generation, IN_GANG - DRAINING),
    (charging.learn_charges, STAYING - JOINING),
    (charging.fail_together, STAYING - JOINING),
    (failures.lost_contact, ISOLATED | DRAINING | LEAVING),
    (failures.note, (IN_GANG - DRAINING) | LEAVING),
    (ending.stuck, EVER - JOINING),
    (ending.begin_drain, (IN_GANG - DRAINING) | LEAVING),
    (ending.hurry, IN_GANG | LEAVING),
    (ending.drain, DRAINING | LEAVING),
    (ending.go_alone, RUNNING | LEAVING),
    (ending.wind_down, RUNNING | DRAINING | LEAVING),
    (ending.asked, STAYING),
    (failures.complete, RUNNING | ISOLATED),
    (charging.count, STOPPING | ISOLATED | DRAINING),
    (ending.leave, LEAVING),
    (rejoining.admit, IN_GANG | LEAVING),
    (rejoining.rejoin, STAYING - JOINING - RUNNING),
    (rejoining.come_too_late, AT_BARRIER | ISOLATED | DRAINING | LEAVING),
    (barrier.enter, STAYING - JOINING - RUNNING),
    (barrier.start_late, AT_BARRIER),
    (barrier.stand, AT_BARRIER),
    (barrier.report, AT_BARRIER),
    (note_ready, RUNNING),
    (publish, EVER),
)
