"""The core with one thing wrong: a simulation that cannot tell these from the real one proves nothing.

Each mutant patches a single function of the core, and keeps a seed whose world is known to tell it apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

from msgspec.structs import replace

from tests.core import test_failures, test_forming, test_keepers, test_leases, test_start_late
from tests.simulation import instance
from tests.simulation.keeper_mutants import KEEPER_MUTANTS, who_lost_its_rank_keeps_its_keeper
from tests.simulation.keeper_worlds import simulate_keepers
from tests.simulation.run import Outcome, simulate
from unitagent.agent import rank_search
from unitagent.core import apply_event as facts
from unitagent.core import (
    barrier,
    decide,
    failures,
    isolation,
    probe_answers,
    rank_ownership,
    rejoin,
    restart_budget,
    restart_pause,
    shutdown,
)
from unitagent.core.actions import Stop
from unitagent.core.config import Mode
from unitagent.core.events import Event, Exchanged, PeersChecked, PortFound, ProbeResult, StoreFailed
from unitagent.core.exits import ExitCode
from unitagent.core.leases import NEVER, Lease, Leases
from unitagent.core.model import Beat, Failure, Gang, InstanceState, Record, Reply
from unitagent.core.state import Result, State, request_exit, update_record
from unitagent.core.state_parts import WorkloadPhase

Rule = Callable[[State], Result]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One wrong thing, and a seed whose world shows that it is wrong; ``world`` lives through a seed."""

    wrong: str
    patched: Callable[[], Any]
    killed_by: int = 0
    world: Callable[[int], Outcome] = simulate


def _patch_rule(old: Rule, new: Rule | None) -> Any:
    """Another function, or none, in the place of a rule; the stages stay."""
    table = tuple((new if rule is old else rule, stages) for rule, stages in decide.RULES)
    return patch.object(decide, "RULES", tuple(row for row in table if row[0] is not None))


def _patch_facts(change: Callable[[State, Event, State], State]) -> Any:
    def absorb(before: State, event: Event) -> State:
        return change(before, event, facts.apply_event(before, event))

    return patch.object(decide, "apply_event", absorb)


def _starts_in_a_pause() -> Any:
    return patch.multiple(
        barrier, is_paused=lambda state: False, earliest_start=lambda state: state.barrier.backoff_until
    )


def _rejoins_in_a_pause() -> Any:
    return patch.object(rejoin, "is_paused", lambda state: False)


def _a_pause_has_no_end() -> Any:
    """Neither the clock nor a resume ends it."""
    both = ExitStack()
    both.enter_context(_patch_rule(restart_pause.end_pause, None))
    both.enter_context(patch.object(barrier, "is_paused", lambda state: state.recovery.paused_until > 0))
    end = patch.object(
        barrier, "earliest_start", lambda state: float("inf") if state.recovery.paused_until else NEVER
    )
    both.enter_context(end)
    return both


def _number_only() -> Any:
    return patch.object(Gang, "id", property(lambda gang: str(gang.generation)))


def _trust_the_counter() -> Any:
    def trust(before: State, event: Event, after: State) -> State:
        return replace(after, generation=event.reply.generation) if isinstance(event, Exchanged) else after

    return _patch_facts(trust)


def _announce_before_dead() -> Any:
    def enter(state: State) -> Result:
        after, actions = barrier.enter_generation(state.with_workload(phase=WorkloadPhase.GONE))
        return after.with_workload(phase=state.workload.phase), actions

    return _patch_rule(barrier.enter_generation, enter)


def _no_second_opinion() -> Any:
    def end(state: State) -> Result:
        everybody = frozenset(record.incarnation for record in state.store.records.values())
        after, actions = failures.end_generation(state.with_peers(unresponsive=everybody, known_alive_at={}))
        return after.with_peers(
            unresponsive=state.peers.unresponsive, known_alive_at=state.peers.known_alive_at
        ), actions

    return _patch_rule(failures.end_generation, end)


def _judge_at_once() -> Any:
    seen = Leases.after_reply

    def at_once(leases: Leases, *args: Any, **kwargs: Any) -> Leases:
        return replace(seen(leases, *args, **kwargs), contact_since=0.0)

    return patch.object(Leases, "after_reply", at_once)


def _without_the_last() -> Any:
    def but_one(right: Callable[..., bool]) -> Callable[..., bool]:
        return lambda state, record, *more: (
            record.rank == state.config.size - 1 or right(state, record, *more)
        )

    stands, confirmed = but_one(barrier.counts_at_barrier), but_one(barrier._has_confirmed)
    return patch.multiple(barrier, counts_at_barrier=stands, _has_confirmed=confirmed)


def _no_fence() -> Any:
    return _patch_rule(rank_ownership.leave_when_fenced, None)


def _old_failures() -> Any:
    def note(state: State) -> Result:
        known = state.recovery.failure
        old = (
            state.store.is_new_snapshot
            and state.in_gang
            and known is not None
            and known.generation == state.me.generation - 1
        )
        if old and state.me.state.serving and state.generation == state.me.generation:
            return replace(state, generation=state.generation + 1), ()
        return failures.start_recovery_timing(state)

    return _patch_rule(failures.start_recovery_timing, note)


def _exit_0_is_fine() -> Any:
    right = failures.apply_workload_exit

    def exited(state: State, event: Any) -> State:
        after = right(replace(state, config=replace(state.config, mode=Mode.JOB)), event)
        return replace(after, config=state.config)

    return patch.object(facts, "apply_workload_exit", exited)


def _charge_twice() -> Any:
    right = restart_budget._charge_restart

    def charge(state: State) -> State:
        once = right(state)
        again = replace(once.me.charges[-1], generation=-state.me.generation)
        return update_record(once, charges=(*once.me.charges, again))

    return patch.object(restart_budget, "_charge_restart", charge)


def _go_on_unasked() -> Any:
    """An isolated one enters the next generation without another look at the store, and without a pause."""
    real = barrier.enter_generation

    def enter(state: State) -> Result:
        new, actions = real(state.with_store(is_new_snapshot=True))
        return new.with_store(is_new_snapshot=state.store.is_new_snapshot), actions

    both = ExitStack()
    both.enter_context(patch.object(barrier, "is_still_mine", lambda state: True))
    both.enter_context(_patch_rule(real, enter))
    return both


def _wait_for_what_is_done() -> Any:
    def come_too_late(state: State) -> Result:
        leader = state.store.records.get(0)
        done = leader is not None and barrier.has_done_its_part(state, leader)
        return (state, ()) if done else old(state)

    old = rejoin.restart_job_for_late_joiner
    return _patch_rule(old, come_too_late)


def _a_name_is_the_holder() -> Any:
    return patch.object(rank_ownership, "_is_holder_alive", lambda state, holder: False)


@contextmanager
def _no_isolation() -> Iterator[None]:
    """It deceives its watchdog, too: that one would end the workload in its place."""
    with (
        _patch_rule(isolation.stop_when_isolated, None),
        patch.object(isolation, "last_contact", lambda state: state.now),
    ):
        yield


def _no_order() -> Any:
    return patch.object(shutdown, "_leader_stopped", lambda state: True)


def _take_at_once() -> Any:
    return patch.object(
        rank_ownership,
        "find_replaceable",
        lambda state: state.store.holder if state.store.ever_answered else None,
    )


def _own_failure_is_everybodys() -> Any:
    def end(state: State) -> Result:
        after, actions = failures.end_generation(replace(state, config=replace(state.config, guard=True)))
        return replace(after, config=state.config), actions

    return _patch_rule(failures.end_generation, end)


def _ready_alone() -> Any:
    return patch.object(
        probe_answers, "_check_ranks", lambda state: probe_answers.ProbeCheck("ranks", ok=True)
    )


def _forget_what_the_store_forgot() -> Any:
    return patch.object(facts, "_keep_newest", lambda state, shown: shown)


def _keep_the_dead_in_the_gang() -> Any:
    right = facts._apply_workload_gone

    def gone(state: State) -> State:
        after = right(state)
        return replace(after, me=replace(after.me, state=InstanceState.STOPPING))

    return patch.object(facts, "_apply_workload_gone", gone)


def _tenures_are_equal() -> Any:
    return patch.object(rank_ownership, "choose_tenure", lambda *_args, **_observed: 1)


def _wait_no_longer_than_rank_0() -> Any:
    return patch.object(shutdown, "FOLLOWER_WAIT_FRACTION", shutdown.LEADER_STOP_FRACTION)


def _nobody_rejoins() -> Any:
    return _patch_rule(rejoin.rejoin_generation, None)


def _an_unseen_holder_has_no_time() -> Any:
    old = rejoin._may_duplicate_holder
    return patch.object(
        rejoin, "_may_duplicate_holder", lambda state: state.store.predecessor is None and old(state)
    )


def _spares_leave_all_to_others() -> Any:
    old = rank_search.find_free_rank
    return patch.object(
        rank_search, "find_free_rank", lambda *args, **more: None if more["lost_only"] else old(*args, **more)
    )


def _spares_ask_at_the_end_only() -> Any:
    return patch.object(rank_search.RankSearch, "_list_heard", lambda search: dict(search._answered_at))


def _spares_have_no_order() -> Any:
    return patch.object(rank_search, "find_precedence", lambda _timing: 0.0)


def _drained_spares_stay() -> Any:
    return patch.object(rank_search.RankSearch, "_note_order", lambda _search, _reply: None)


def _who_comes_back_is_no_spare() -> Any:
    right = rank_search.RankSearch.note_reply

    def note(search: rank_search.RankSearch, reply: Reply, now: float) -> None:
        right(search, reply, now)
        search.stands_by = search._home is None

    return patch.object(rank_search.RankSearch, "note_reply", note)


def _be_well(seed: int, spares: int) -> None:
    """The world of this seed with spares breaks no guarantee."""
    assert not simulate(seed, spares=spares).violations


def _claims_wait_half_as_long() -> Any:
    old = rank_search.find_free_rank
    return patch.object(
        rank_search,
        "find_free_rank",
        lambda *args, **more: old(*args, **{**more, "takeover": more["takeover"] / 2}),
    )


def _nobody_is_admitted() -> Any:
    return _patch_rule(rejoin.admit_rejoined, None)


def _no_charge() -> Any:
    return patch.object(restart_budget, "_charge_restart", lambda state: state)


def _last_failure_wins() -> Any:
    def remember(state: State, failure: Failure) -> State:
        return state.with_recovery(failure=failures._add_scope(state, failure), failure_stored=False)

    def newer(known: Failure | None, stored: Failure | None) -> tuple[Failure | None, bool]:
        return (stored, True) if known is None else (known, False)

    both = ExitStack()
    both.enter_context(patch.object(failures, "remember_failure", remember))
    both.enter_context(patch.object(facts, "_pick_first_failure", newer))
    return both


def _polite_isolation() -> Any:
    def isolate(state: State) -> Result:
        after, actions = isolation.stop_when_isolated(state)
        if after is state:
            return after, actions
        polite = tuple(Stop(25.0) if isinstance(one, Stop) else one for one in actions)
        return after.with_workload(grace=25.0), polite

    return _patch_rule(isolation.stop_when_isolated, isolate)


def _drain_contagion() -> Any:
    def begin(state: State) -> Result:
        after, actions = shutdown.begin_drain(replace(state, config=replace(state.config, guard=True)))
        return replace(after, config=state.config), actions

    return _patch_rule(shutdown.begin_drain, begin)


def _leases_never_count() -> Any:
    return patch.object(
        probe_answers, "_check_leases", lambda state: probe_answers.ProbeCheck("leases", ok=True)
    )


def _an_answer_is_no_sign_of_life() -> Any:
    right = rank_ownership.find_replaceable
    return patch.object(
        rank_ownership, "find_replaceable", lambda state: right(state.with_peers(known_alive_at={}))
    )


def _nobody_follows_rank_0() -> Any:
    return _patch_rule(failures.leave_with_leader, None)


def _a_store_that_went_back_fences() -> Any:
    def fence(before: State, event: Event, after: State) -> State:
        lost = isinstance(event, Exchanged) and event.reply.generation < before.generation
        return request_exit(after, ExitCode.FENCED, "the store went back") if lost and after.joined else after

    return _patch_facts(fence)


def _take_after(margin: float) -> Any:
    def is_gone(state: State, incarnation: str) -> bool:
        answered = (
            state.now - state.peers.known_alive_at.get(incarnation, NEVER) < state.config.lease + margin
        )
        return (
            state.store.leases.seconds_unchanged(incarnation) > state.config.lease + margin and not answered
        )

    return patch.object(rank_ownership, "is_gone", is_gone)


def _take_before_the_lease_ends() -> Any:
    return _take_after(-0.5)


def _take_when_the_lease_ends() -> Any:
    return _take_after(0.0)


def _my_own_word_counts() -> Any:
    def confirmed(state: State, record: Record, gang: Gang) -> bool:
        shown = state.me if record.rank == state.config.rank else record
        return shown.gang == gang.id

    return patch.object(barrier, "_has_confirmed", confirmed)


def _orders_outlive_their_addressee() -> Any:
    return patch.object(failures, "_last_order_before_me", lambda _: 1)


def _a_pause_is_no_break() -> Any:
    right = Leases.after_reply

    def seen(leases: Leases, beats: Mapping[int, Beat], now: float, gap: float, **more: Any) -> Leases:
        return right(leases, beats, now, gap=1e9, **more)

    return patch.object(Leases, "after_reply", seen)


def _what_was_not_answered_is_published() -> Any:
    right = facts._apply_store_failure

    def failed(state: State, event: StoreFailed) -> State:
        return right(state, event).with_store(published=state.store.exchanging or state.store.published)

    return patch.object(facts, "_apply_store_failure", failed)


def _an_isolation_ends_nothing() -> Any:
    return _patch_rule(failures.report_own_isolation, None)


def _a_beat_that_goes_back_counts() -> Any:
    right = Leases._renew_lease

    def renewed(leases: Leases, rank: int, beat: Beat, *when: float) -> Lease:
        old = leases.by_incarnation.get(beat.incarnation)
        if old is not None and beat.count < old.count:
            leases = replace(
                leases, by_incarnation={**leases.by_incarnation, beat.incarnation: replace(old, count=-1)}
            )
        return right(leases, rank, beat, *when)

    return patch.object(Leases, "_renew_lease", renewed)


def _who_took_a_rank_forgets_from_whom() -> Any:
    right = rank_ownership.find_replaceable

    def may_take(state: State) -> str | None:
        ghost = state.joined and state.store.holder not in {"", state.me.incarnation}
        return None if ghost else right(state)

    return patch.object(rank_ownership, "find_replaceable", may_take)


def _the_same_port_again() -> Any:
    def found(state: State, event: PortFound) -> State:
        idle = state.me.state is InstanceState.IDLE
        return (
            update_record(state, master_port=20000, next_port=20000)
            if event.generation == state.me.generation and idle
            else state
        )

    return patch.object(facts, "_apply_port", found)


def _nobody_fails_together() -> Any:
    return _patch_rule(restart_budget.fail_together, None)


def _the_last_rank_is_the_master() -> Any:
    return patch.object(Gang, "master_address", property(lambda gang: gang.ips[-1]))


def _ghosts_fence() -> Any:
    both = ExitStack()
    both.enter_context(patch.object(rank_ownership, "is_living", lambda state, incarnation: True))
    both.enter_context(patch.object(rank_ownership, "_has_answered", lambda state, holder: True))
    return both


def _any_tenure_is_above() -> Any:
    return patch.object(Record, "outranks", lambda record, other: True)


def _an_address_is_an_identity() -> Any:
    right = facts._apply_peer_checks

    def checked(state: State, event: PeersChecked) -> State:
        somebody = {ProbeResult.SELF, ProbeResult.OTHER, ProbeResult.STRANGER}
        answers = {
            one: ProbeResult.ALIVE if said in somebody else said for one, said in event.answers.items()
        }
        return right(state, replace(event, answers=answers))

    both = ExitStack()
    both.enter_context(patch.object(facts, "_apply_peer_checks", checked))
    both.enter_context(patch.object(barrier, "find_clashes", lambda roster: []))
    return both


def _a_budget_dies_with_its_container() -> Any:
    both = ExitStack()
    both.enter_context(patch.object(restart_budget, "inherit_charges", lambda state, predecessor: state))
    both.enter_context(_patch_rule(restart_budget.learn_charges, None))
    return both


def _an_old_copy_is_news() -> Any:
    return patch.object(facts, "_is_old_copy", lambda shown, known: False)


def _a_pause_is_evidence() -> Any:
    return patch.object(Leases, "after_suspension", lambda leases, seconds, now: leases)


def _who_comes_back_is_taken_from() -> Any:
    return patch.object(Leases, "highest_count", lambda leases, incarnation: 2**53 - 1)


def _whom_the_store_forgot_is_not_asked() -> Any:
    return patch.object(facts, "_find_forgotten_holder", lambda state, reply: None)


def _forgotten_is_alive_again() -> Any:
    right = Leases.after_reply

    def seen(leases: Leases, *args: Any, **more: Any) -> Leases:
        return right(leases, *args, **more | {"lost_after": float("inf")})

    return patch.object(Leases, "after_reply", seen)


def _who_stands_in_its_place_is_a_stranger() -> Any:
    right = facts._is_lost_by_store

    def is_lost(state: State, shown: Record | None, member: Record) -> bool:
        elsewhere = None if shown is None else replace(shown, netns="")
        return right(state, elsewhere, member)

    return patch.object(facts, "_is_lost_by_store", is_lost)


def _charge_what_is_not_known() -> Any:
    right = restart_budget.count_restart

    def count(state: State) -> Result:
        leases, now = state.store.leases, state.now
        blind = replace(leases, contact_since=now if leases.contact_since is None else leases.contact_since)
        after, actions = right(state.with_store(leases=blind))
        return after.with_store(leases=leases), actions

    return _patch_rule(right, count)


def _the_dead_charge_nothing() -> Any:
    return patch.object(restart_budget, "_left_uncharged", lambda state, predecessor: False)


def _an_old_barrier_counts() -> Any:
    return patch.object(barrier, "_shows_the_present", lambda _state, _roster: True)


@contextmanager
def _the_store_is_believed_at_once() -> Iterator[None]:
    alive = patch.object(Leases, "is_beating", lambda leases, one, **_: leases.was_alive(one))
    with alive, patch.object(rejoin, "is_still_mine", lambda *_: True):
        yield


def _who_answers_may_be_replaced() -> Any:
    def is_gone(state: State, incarnation: str) -> bool:
        return state.store.leases.seconds_unchanged(incarnation) > state.config.timing.takeover

    return patch.object(facts, "is_gone", is_gone)


def _an_earlier_holder_will_do() -> Any:
    return patch.object(barrier, "_find_displaced", lambda _state, _roster: [])


def _the_lost_stand_at_the_barrier() -> Any:
    return patch.object(barrier, "_stands_here", barrier.counts_at_barrier)


def _what_is_remembered_is_present() -> Any:
    def is_present(leases: Leases, incarnation: str) -> bool:
        lease = leases.by_incarnation.get(incarnation)
        return (
            lease is not None
            and leases.contact_since is not None
            and lease.unchanged_since > leases.contact_since
        )

    return patch.object(Leases, "is_present", is_present)


def _no_successor_hangs() -> Any:
    return patch.object(rejoin, "_time_for_successor", lambda state: state.config.timing.beat_due)


def _a_finished_rank_is_waited_for() -> Any:
    return patch.object(barrier, "_finished_without_me", lambda _state, _record: False)


MUTANTS = (
    Mutant("the token is the number only", _number_only, 20002),
    Mutant("the generation follows the store's counter", _trust_the_counter, 9),
    Mutant("a generation is announced before the old workload is dead", _announce_before_dead, 0),
    Mutant("no second opinion", _no_second_opinion, 34),
    Mutant("leases are judged right after a reconnect", _judge_at_once, 27),
    Mutant("the barrier opens without the last rank", _without_the_last, 3),
    Mutant("no fence", _no_fence, 132),
    Mutant("reports about an older generation count", _old_failures, 9),
    Mutant("with guard an exit 0 is fine", _exit_0_is_fine, 7),
    Mutant("each restart is charged twice", _charge_twice, 9),
    Mutant("no isolation", _no_isolation, 98),
    Mutant("a drain has no order", _no_order, 46),
    Mutant("a newcomer takes a held rank at once", _take_at_once, 20001),
    Mutant("without guard a failure is everybody's", _own_failure_is_everybodys, 19),
    Mutant("ready when my own workload runs", _ready_alone, 573),
    Mutant("a member that the store forgot is forgotten", _forget_what_the_store_forgot, 1776),
    Mutant("a stopped workload is never said to be gone", _keep_the_dead_in_the_gang, 2),
    Mutant("a tenure is not above its predecessor's", _tenures_are_equal, 2254),
    Mutant("in a drain the others wait no longer than rank 0 may take", _wait_no_longer_than_rank_0, 248),
    Mutant("without guard nobody rejoins", _nobody_rejoins, 20002),
    Mutant("spares leave all ranks to others", _spares_leave_all_to_others, 574),
    Mutant("a claim waits half as long", _claims_wait_half_as_long, 124),
    Mutant("without guard a rebuilt member stays a stranger", _nobody_is_admitted, 20002),
    Mutant("a restart costs nothing", _no_charge, 20474),
    Mutant("the last failure of a generation is kept", _last_failure_wins, 3),
    Mutant("an isolated workload has its grace", _polite_isolation, 8),
    Mutant("without guard everybody's signal drains the Unit", _drain_contagion, 20048),
    Mutant("ready whatever the leases say", _leases_never_count, 20123),
    Mutant("a newcomer takes the rank of a holder that answers it", _an_answer_is_no_sign_of_life, 67),
    Mutant("without guard nobody follows rank 0", _nobody_follows_rank_0, 14),
    Mutant("a store that went back fences", _a_store_that_went_back_fences, 9),
    Mutant("a newcomer takes a rank before its lease ends", _take_before_the_lease_ends, 355),
    Mutant("a newcomer takes a rank when its lease ends", _take_when_the_lease_ends, 355),
    Mutant("my own word counts before others can see it", _my_own_word_counts, 3),
    Mutant("an order outlives whom it was given to", _orders_outlive_their_addressee, 36),
    Mutant("what was not answered counts as published", _what_was_not_answered_is_published, 488),
    Mutant("an isolation that nobody noticed ends nothing", _an_isolation_ends_nothing, 221),
    Mutant("who took a rank forgets from whom", _who_took_a_rank_forgets_from_whom, 20001),
    Mutant("the same master port again", _the_same_port_again, 3),
    Mutant("a spent budget is nobody else's", _nobody_fails_together, 1210),
    Mutant("the last rank is the master", _the_last_rank_is_the_master, 0),
    Mutant("whom the store only remembers fences", _ghosts_fence, 67),
    Mutant("an address is an identity", _an_address_is_an_identity, 1),
    Mutant("a budget dies with its container", _a_budget_dies_with_its_container, 940),
    Mutant("a Unit starts in a pause", _starts_in_a_pause, 47),
    Mutant("an instance rejoins in a pause", _rejoins_in_a_pause, 19),
    Mutant("a pause has no end", _a_pause_has_no_end, 31),
    *(Mutant(wrong, patched, seed, simulate_keepers) for wrong, patched, seed in KEEPER_MUTANTS),
)
"""One is left out, since no guarantee tells it from the real core: "who was asked to stop stands at the
barrier", which is ``barrier.counts_at_barrier`` without its look at ``stop_requested``. A record that may
stand is idle, or has started.

Idle: its agent has no workload, so in the very step in which it is asked to stop it is leaving
(``shutdown.leave_without_workload``) and says so (``shutdown.leave_unit``). What it publishes has both
``stop_requested`` and ``has_left``, and ``has_left`` does not stand. The exceptions publish nothing: who is
fenced, and who has no rank yet.

Started, in the gang that I have confirmed: all have confirmed it, so by guarantee 2 I may start, and drain
with the others as if I had started a moment earlier. Started in another gang: this generation has begun
without me, and I propose the next one at once instead of when the one that was asked has been replaced.
"""


# What takes many things at once to be seen: thousands of worlds pass between two that tell. A story does.
RARE: tuple[tuple[Mutant, Callable[[], None]], ...] = (
    (Mutant("a spare asks a holder only at the end", _spares_ask_at_the_end_only), partial(_be_well, 403, 1)),
    (Mutant("spares go in no order", _spares_have_no_order), partial(_be_well, 259, 2)),
    (Mutant("a spare stays when its Unit is drained", _drained_spares_stay), partial(_be_well, 208, 1)),
    (Mutant("who comes back is no spare", _who_comes_back_is_no_spare), partial(_be_well, 198, 1)),
    (
        Mutant("any tenure is above any other", _any_tenure_is_above),
        test_forming.test_who_lost_its_rank_is_fenced,
    ),
    (
        Mutant("a keeper outlives the tenure of its rank", who_lost_its_rank_keeps_its_keeper),
        test_keepers.test_a_keeper_ends_when_another_instance_took_its_rank,
    ),
    (
        Mutant("a beat that goes back counts", _a_beat_that_goes_back_counts),
        test_leases.test_a_beat_that_goes_back_is_no_sign_of_life,
    ),
    (
        Mutant("whom the store forgot is not asked", _whom_the_store_forgot_is_not_asked),
        test_forming.test_a_holder_that_the_store_forgets_is_asked_and_keeps_its_rank_while_it_answers,
    ),
    (
        Mutant("who was cut off waits for a job that is done", _wait_for_what_is_done),
        test_failures.test_a_job_whose_cut_off_rank_comes_back_when_rank_0_is_done_starts_again,
    ),
    (
        Mutant("a rank whose holder's name is lost is free", _a_name_is_the_holder),
        test_failures.test_a_rank_whose_holder_beats_is_held_though_the_store_lost_its_name,
    ),
    (
        Mutant("an isolated one goes on without a look at the store", _go_on_unasked),
        test_failures.test_who_was_isolated_looks_at_the_store_before_it_goes_on,
    ),
    (
        Mutant("who stands in a member's place is a stranger", _who_stands_in_its_place_is_a_stranger),
        test_failures.test_who_stands_and_beats_in_a_members_place_has_followed_it,
    ),
    (
        Mutant("a restart is charged before its cause is known", _charge_what_is_not_known),
        test_failures.test_who_cannot_learn_why_its_generation_ended_charges_nothing_yet,
    ),
    (
        Mutant("the end of all at once is not charged", _the_dead_charge_nothing),
        test_failures.test_the_end_of_all_at_once_is_charged_by_those_who_follow,
    ),
    (
        Mutant("who was lost and is forgotten lives again", _forgotten_is_alive_again),
        test_failures.test_a_lost_rank_that_the_store_forgets_is_lost_still,
    ),
    (
        Mutant("a long pause is no break of contact", _a_pause_is_no_break),
        test_failures.test_an_answer_that_took_long_shows_no_silence,
    ),
    (
        Mutant("a claim takes from whoever has come back", _who_comes_back_is_taken_from),
        test_forming.test_nobody_takes_a_rank_from_a_holder_that_beats_in_that_very_moment,
    ),
    (
        Mutant("who comes back believes the store at once", _the_store_is_believed_at_once),
        partial(
            test_failures.test_who_comes_back_to_a_store_that_was_set_back_leaves_its_rank_to_its_successor,
            guard=False,
        ),
    ),
    (
        Mutant("what was confirmed before an outage counts after it", _an_old_barrier_counts),
        test_start_late.test_who_has_never_started_waits_for_a_heartbeat_after_an_outage_at_an_earlier_barrier,
    ),
    (
        Mutant("an older copy of a record is news", _an_old_copy_is_news),
        test_failures.test_nobody_starts_with_a_member_that_has_left_though_the_store_shows_it_at_the_barrier_again,
    ),
    (
        Mutant("a member that answers is replaced by an old record", _who_answers_may_be_replaced),
        test_failures.test_a_member_that_answers_was_not_replaced_by_who_stands_in_a_store_that_was_set_back,
    ),
    (
        Mutant("without guard nobody waits for an unseen holder", _an_unseen_holder_has_no_time),
        test_failures.test_without_probe_addresses_a_rebuilt_rank_waits_until_an_unseen_holder_can_have_stopped,
    ),
    (
        Mutant("a pause of my own is evidence against others", _a_pause_is_evidence),
        test_failures.test_who_stood_still_has_seen_nobody_silent_meanwhile,
    ),
    (
        Mutant("an earlier holder replaces a later one at the barrier", _an_earlier_holder_will_do),
        test_start_late.test_nobody_starts_with_an_earlier_holder_while_the_later_one_may_run,
    ),
    (
        Mutant("who was lost at the barrier starts with the others", _the_lost_stand_at_the_barrier),
        test_start_late.test_nobody_starts_with_a_member_that_confirmed_and_was_lost_since,
    ),
    (
        Mutant("what comes back with the store is present", _what_is_remembered_is_present),
        test_leases.test_who_comes_back_as_the_store_remembered_it_is_not_present,
    ),
    (
        Mutant("who was away for a takeover has no successor that hangs", _no_successor_hangs),
        partial(test_failures.test_who_was_isolated_and_has_no_successor_goes_on, away=24, patience=23),
    ),
    (
        Mutant("a finished rank of another gang is waited for", _a_finished_rank_is_waited_for),
        test_start_late.test_a_job_that_finished_without_a_rebuilt_member_starts_again_with_all,
    ),
)


@contextmanager
def apply_mutant(mutant: Mutant) -> Iterator[None]:
    """The core with this one thing wrong. Its states are not looked into: it is to show from outside."""
    with mutant.patched(), patch.object(instance, "check_invariants"):
        yield


def kill_mutant(mutant: Mutant, search: Iterable[int] = ()) -> Outcome | None:
    """A world in which the mutant breaks a guarantee, and the real core none: the known one, or the first of
    the search.
    """
    for seed in (mutant.killed_by, *search):
        with apply_mutant(mutant):
            outcome = mutant.world(seed)
        if outcome.violations and not mutant.world(seed).violations:
            return outcome
    return None
