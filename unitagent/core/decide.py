"""The protocol of a Unit, as one pure function: ``decide(state, event) -> (state, actions)``.

Time, randomness and the outside world come in as events; every effect leaves as an action. The agent,
the simulator and a replay of a recorded history run this same function.

How it works. An event first adds its facts to the state (:mod:`apply_event`). Then the rules below look
at the *whole* state, in order, again and again until none of them changes anything. A wake-up therefore
only means "look": it makes no difference whether a push, a timer or an answer caused it, and none can
be missed. Each rule applies only in some stages of an agent's life (:class:`state.Stage`); the table
``RULES`` lists them.

What the rules guarantee, and where:

1. No process of an older workload is alive when an agent enters a generation (``barrier.enter_generation``
   needs ``WorkloadPhase.GONE``, which only the event ``WorkloadGone`` sets, and the end of a generation that
   started keepers and no workload).
2. A generation starts when all ranks have confirmed the same gang, in one snapshot of the store
   (``barrier.advance_barrier``) that is more than its memory of an earlier time, or when another member
   that confirmed it has started, since that one saw such a snapshot (``barrier.start_late``). The gang's
   id, made of generation and roster, is the fencing token: each incarnation confirms it once, so it cannot
   be issued twice even if the store loses acknowledged writes.
3. The generation that an agent knows never goes down (``apply_event``): everything in the store may be lost
   and is rebuilt from the agents' memories.
4. A failure proposes *my* generation plus one (``failures.end_generation``): many reports, one restart.
5. A lease is judged by change, on my own clock and in unbroken contact (``leases``), and a late peer is asked
   before it counts as lost (``failure_detector.ask_quiet_members``).
6. Without the store: hold. Without the store and without the peers: stop (``isolation``).
7. One live incarnation per rank (``rank_ownership``): an agent that loses its rank stops at once and ends.

In the comments of the core, "I" is the agent whose state it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec.structs import replace

from unitagent.core import (
    barrier,
    failure_detector,
    failures,
    gang_checks,
    health,
    isolation,
    keeper_rules,
    plausibility,
    probe_answers,
    rank_ownership,
    rejoin,
    restart_budget,
    restart_pause,
    shutdown,
)
from unitagent.core.actions import Action, Exchange, Level, Log, Quit
from unitagent.core.apply_event import apply_event
from unitagent.core.events import Event
from unitagent.core.failure_detector import silence_deadlines
from unitagent.core.health import startup_deadline
from unitagent.core.leases import find_neighbours
from unitagent.core.members import ALL_BEATS
from unitagent.core.model import InstanceState, Record
from unitagent.core.state import Result, Stage, State, find_stage
from unitagent.core.state_parts import Shutdown, WorkloadPhase

_MOST_PASSES = 20
LINGER = 0.1  # seconds that a change of my record may wait for the one that will follow


def decide(state: State, event: Event) -> Result:
    """The next state of an agent after ``event``, and the actions to carry out.

    Raises:
        RuntimeError: The rules do not settle; a defect of this program, never caused by input.

    """
    state = apply_event(state, event)
    actions: tuple[Action, ...] = ()
    for _ in range(_MOST_PASSES):
        before = state
        state, more = _apply_rules(state)
        actions += more
        if state == before or (more and isinstance(more[-1], Quit)):
            return state, actions
    raise RuntimeError(f"the rules do not settle after {event}: {state}")


def _apply_rules(state: State) -> Result:
    """Apply each rule once, in order, until one ends the agent."""
    actions: tuple[Action, ...] = ()
    stage = find_stage(state)
    for rule, stages in RULES:
        if stage not in stages:
            continue
        after, more = rule(state)
        actions += more
        if more and isinstance(more[-1], Quit):
            return after, actions
        if after is not state:
            state, stage = after, find_stage(after)
    return state, actions


def publish_record(state: State) -> Result:
    """Start an exchange, one at a time: at once if there is something to write or to read, else as a
    heartbeat.
    """
    if state.store.in_flight or state.fenced:
        return state, ()
    may_take = rank_ownership.find_replaceable(state)
    record = state.me if may_take is not None else None
    if not _is_exchange_due(state, record):
        return state, ()
    if not _is_exchange_urgent(state) and _is_transitional(state):
        since = state.now if state.store.deferred_since is None else state.store.deferred_since
        if state.now - since < LINGER:
            return state.with_store(deferred_since=since), ()
    if record is not None and rank_ownership.needs_new_tenure(state, may_take):
        state = rank_ownership.start_tenure(state)
        record = state.me
    exchange = Exchange(
        record=record,
        take=may_take or "",
        seen=state.store.leases.highest_count(may_take or ""),
        generation=state.generation,
        failure=None if state.recovery.failure_stored else state.recovery.failure,
        judge=_choose_beats(state),
        notify=state.store.notify or _is_urgent(state),
    )
    later = state.now + state.config.heartbeat
    state = state.with_store(
        in_flight=True,
        exchange_started=state.now,
        exchanging=record,
        exchange_due=False,
        notify=False,
        next_beat=later,
        deferred_since=None,
    )
    return state, (exchange,)


def _is_exchange_due(state: State, record: Record | None) -> bool:
    if _is_exchange_urgent(state):
        return True
    return state.connected and record is not None and record != state.store.published


def _is_exchange_urgent(state: State) -> bool:
    """Whether an exchange is due whatever became of my record."""
    if state.now >= state.store.next_beat:
        return True
    return state.connected and (state.store.exchange_due or state.store.notify)


def _is_transitional(state: State) -> bool:
    """Whether my record only says what is under way and ends soon, as a rule: the stop of my workload, its
    start, or at rank 0 the search for a port. Nobody acts on that, and each exchange takes time that a
    restart has to wait for.
    """
    me, old = state.me, state.store.published
    if old is None:
        return False
    if barrier.is_waiting_for_port(state):
        return True
    passing = me.state in (InstanceState.STOPPING, InstanceState.STARTING)
    same = replace(
        me, state=old.state, pid=old.pid, exit_code=old.exit_code, restarts=old.restarts, edition=old.edition
    )
    return passing and same == old


def _is_urgent(state: State) -> bool:
    """Whether others wait for this change of my record."""
    me, old = state.me, state.store.published
    if old is None:
        return False
    leaving = (me.stop_requested, me.has_left, me.budget_exhausted) != (
        old.stop_requested,
        old.has_left,
        old.budget_exhausted,
    )
    return leaving or (me.state is InstanceState.EXITED and old.state is not me.state)


def _choose_beats(state: State) -> tuple[int, ...]:
    if state.config.size <= ALL_BEATS:
        return tuple(range(state.config.size))
    wanted = {
        0,
        *find_neighbours(state.config.rank, state.config.size),
        *gang_checks.find_conflicting_ranks(state),
    }
    return tuple(sorted(wanted))


def note_ready(state: State) -> Result:
    """A recovery ends when the whole generation serves for the first time."""
    store, marks = state.store, state.recovery.timestamps
    published = store.published == state.me  # before that the others cannot know, and would not be woken
    if marks.ready is not None or not (store.is_new_snapshot and published and probe_answers.is_ready(state)):
        return state, ()
    marks = replace(marks, ready=state.now)
    state = state.with_recovery(timestamps=marks, was_ready=True)
    state = state.with_store(notify=store.notify or store.wrote_last)
    took = ""
    if marks.failed is not None:
        took = f", {marks.detect + state.now - marks.failed:.2f} s after {_name_end(state)}"
    return state, (Log(Level.INFO, f"the Unit is ready in generation {state.me.generation}{took}", "ready"),)


def _name_end(state: State) -> str:
    """Whether an order or a failure ended the generation before mine, for people."""
    failure, marks = state.recovery.failure, state.recovery.timestamps
    ordered = failure is not None and failure.generation == marks.generation and failure.requested
    return "the order" if ordered else "the failure"


Rule = Callable[[State], Result]
Stages = frozenset[Stage]

JOINING, AT_BARRIER, RUNNING, STOPPING, ISOLATED, DRAINING, LEAVING = (frozenset({one}) for one in Stage)
EVER = frozenset(Stage)
STAYING = EVER - LEAVING
IN_GANG = RUNNING | STOPPING | ISOLATED | DRAINING

# Each rule with the stages in which it applies, in order. Draining and leaving begin in the middle of another
# stage and hide which one that was, so the rules that still apply then check for themselves whether a
# workload is up, isolated or draining. After ``shutdown.leave_without_workload`` an agent that was asked to
# stop and has no workload is leaving.
RULES: tuple[tuple[Rule, Stages], ...] = (
    (rank_ownership.leave_when_fenced, EVER - JOINING),
    (rank_ownership.give_up_on_store, JOINING),
    (gang_checks.refuse_disagreement, STAYING),
    (rank_ownership.wait_for_rank, EVER),  # a former holder waits, too, if the store shows a later tenure
    (rank_ownership.confirm_tenure, EVER - JOINING),
    (rank_ownership.log_joined, EVER - JOINING),
    (plausibility.warn_implausible, EVER),
    (isolation.log_store_outage, EVER),
    (isolation.ask_status_peers, AT_BARRIER | IN_GANG | LEAVING),  # at a barrier for the keeper's sake
    (isolation.stop_when_isolated, AT_BARRIER | RUNNING | STOPPING | DRAINING | LEAVING),
    (failure_detector.ask_quiet_members, IN_GANG | LEAVING),
    (failure_detector.publish_lost, IN_GANG | LEAVING),
    (failure_detector.look_at_deadlines, IN_GANG | LEAVING),
    (failure_detector.renew_watches, EVER - JOINING),
    (failures.apply_operator_order, STAYING),
    (restart_pause.learn_pause, EVER - JOINING),
    (restart_pause.end_pause, EVER - JOINING),
    (failures.leave_with_leader, IN_GANG - DRAINING),
    (failures.end_generation, IN_GANG - DRAINING),
    (keeper_rules.finish_loading, RUNNING),
    (keeper_rules.report_dead_keeper, AT_BARRIER),
    (restart_budget.learn_charges, STAYING - JOINING),
    (restart_budget.fail_together, STAYING - JOINING),
    (failures.report_own_isolation, ISOLATED | DRAINING | LEAVING),
    (failures.start_recovery_timing, (IN_GANG - DRAINING) | LEAVING),
    (shutdown.request_rebuild, EVER - JOINING),
    (shutdown.begin_drain, (IN_GANG - DRAINING) | LEAVING),
    (shutdown.force_stop, IN_GANG | LEAVING),
    (shutdown.drain_in_turn, DRAINING | LEAVING),
    (shutdown.stop_alone, RUNNING | LEAVING),
    (shutdown.stop_ended_generation, RUNNING | DRAINING | LEAVING),
    (shutdown.leave_without_workload, STAYING),
    (failures.complete_job, RUNNING | ISOLATED),
    (restart_budget.count_restart, STOPPING | ISOLATED | DRAINING),
    (keeper_rules.end_keeper, EVER - JOINING),
    (shutdown.leave_unit, LEAVING),
    (rejoin.admit_rejoined, IN_GANG | LEAVING),
    (rejoin.rejoin_generation, STAYING - JOINING - RUNNING),
    (rejoin.restart_job_for_late_joiner, AT_BARRIER | ISOLATED | DRAINING | LEAVING),
    (barrier.enter_generation, STAYING - JOINING - RUNNING),
    (keeper_rules.renew_stale_keeper, AT_BARRIER),  # before it could confirm a gang
    (barrier.confirm_in_advance, AT_BARRIER),
    (barrier.start_late, AT_BARRIER),
    (barrier.advance_barrier, AT_BARRIER),
    (barrier.report_missing, AT_BARRIER),
    (note_ready, RUNNING),
    (health.log_failed_checks, RUNNING),
    (publish_record, EVER),
)


# when to look at the clock again

_UP = Shutdown()


def next_wakeup(state: State) -> float | None:
    """When the clock can next change something; None to keep looking at it with every tick.

    The invariant: an agent that serves and waits for no answer loses nothing by sleeping until then.
    The simulator checks this for every tick.
    """
    return min(_list_deadlines(state)) if _is_at_rest(state) else None


def _is_at_rest(state: State) -> bool:
    """Whether it serves, has nothing to write, and has no open question."""
    store, peers, me = state.store, state.peers, state.me
    serves = (
        state.workload.phase is WorkloadPhase.ALIVE
        and find_stage(state) is Stage.RUNNING
        and not state.superseded
    )
    if not (serves and state.connected and state.shutdown == _UP):
        return False
    record = store.records.get(me.rank)
    holds = store.holder == me.incarnation and (record is None or record.incarnation == me.incarnation)
    written = store.published == me and not (store.in_flight or store.exchange_due or store.notify)
    return holds and written and not (peers.awaiting_answer or peers.disconnected or peers.presumed_lost)


def _list_deadlines(state: State) -> Iterator[float]:
    """When the next heartbeat is due, when the store or a peer will have been silent for too long, when
    a start times out, when a pause of restarts ends, and when a failed health check is logged again.
    """
    yield state.store.next_beat
    yield from silence_deadlines(state)
    yield startup_deadline(state)
    yield state.recovery.paused_until or float("inf")
    yield from (failed.report_at for failed in state.workload.failed_checks.values())
