"""The protocol of a Unit, as one pure function: ``decide(state, event) -> (state, actions)``.

Time, chance and the world come in as events; every effect leaves as an action. The agent, the simulator and a
replay of a recorded history run this same function.

How it works. An event first adds its facts to the state (:mod:`absorb`). Then the rules below look at the
*whole* state, in this order, again and again until none of them changes anything. A wake-up therefore only
says "look": whether it was a push, a timer or an answer makes no difference, and none of them can be missed.

What the rules keep, and where:

1. Nothing of an older workload lives where a generation is entered (``barrier.enter`` needs ``Work.ABSENT``,
   which only ``WorkloadGone`` gives).
2. A generation starts when all ranks confirmed the same gang, in one snapshot (``barrier.stand``). The gang's
   id, generation and roster, is the fencing token: each incarnation confirms it once, so it cannot be issued
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

from unitagent.core import barrier, checks, credence, ending, failures, joining, judging, outage, rejoining
from unitagent.core.absorb import absorb
from unitagent.core.actions import Action, Exchange, Level, Quit, Say
from unitagent.core.events import Event
from unitagent.core.leases import neighbours
from unitagent.core.model import InstanceState, Record
from unitagent.core.state import ALL_BEATS, Result, State

_MOST_PASSES = 20


def decide(state: State, event: Event) -> Result:
    """What the agent knows after ``event``, and what it does about it.

    Raises:
        RuntimeError: the rules do not settle; a defect of this program, never caused by input.

    """
    state = absorb(state, event)
    actions: list[Action] = []
    for _ in range(_MOST_PASSES):
        before = state
        for rule in RULES:
            state, more = rule(state)
            actions += more
            if more and isinstance(more[-1], Quit):
                return state, tuple(actions)
        if state is before or state == before:
            return state, tuple(actions)
    raise RuntimeError(f"the rules do not settle after {event}: {state}")


def publish(state: State) -> Result:
    """One exchange at a time: at once when there is something to say or to look for, else as a heartbeat."""
    if state.store.in_flight or state.fenced:
        return state, ()
    may_take = joining.may_take(state)
    record = state.me if may_take is not None else None
    if not _due(state, record):
        return state, ()
    if record is not None and not state.joined:
        state = joining.claim(state)
        record = state.me
    exchange = Exchange(
        record=record,
        take=may_take or "",
        generation=state.generation,
        failure=None if state.recovery.failure_stored else state.recovery.failure,
        judge=_beats(state),
        notify=state.store.notify or _urgent(state),
    )
    later = state.now + state.rules.heartbeat
    state = state.with_store(in_flight=True, exchanging=record, look=False, notify=False, next_beat=later)
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
    wanted = {0, *neighbours(state.rules.rank, state.rules.size), *joining.at_odds(state)}
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

RULES: tuple[Rule, ...] = (
    joining.fence,
    joining.give_up_store,
    joining.agree,
    joining.wait_for_rank,
    joining.confirm_tenure,
    joining.joined,
    credence.warn,
    outage.tell,
    outage.ask_around,
    outage.isolate,
    judging.judge,
    judging.look_in_time,
    judging.watch_again,
    failures.obey,
    failures.follow_leader,
    failures.end_generation,
    failures.learn_charges,
    failures.fail_together,
    failures.lost_contact,
    failures.note,
    ending.stuck,
    ending.begin_drain,
    ending.hurry,
    ending.drain,
    ending.go_alone,
    ending.wind_down,
    ending.asked,
    failures.complete,
    failures.count,
    ending.leave,
    rejoining.admit,
    rejoining.rejoin,
    rejoining.come_too_late,
    barrier.enter,
    barrier.stand,
    barrier.report,
    note_ready,
    publish,
)
