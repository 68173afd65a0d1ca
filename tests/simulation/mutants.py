"""The core with one thing wrong: a simulation that cannot tell these from the real one proves nothing.

Each mutant patches a single function of the core, and keeps a seed whose world is known to tell it apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from tests.simulation import instance
from tests.simulation.run import Outcome, simulate
from unitagent.core import absorb as facts
from unitagent.core import barrier, checks, decide, ending, failures, joining, outage, rejoining
from unitagent.core.events import Event, Exchanged
from unitagent.core.leases import Leases
from unitagent.core.model import Gang, InstanceState, Mode
from unitagent.core.parts import Work
from unitagent.core.state import Result, State

Rule = Callable[[State], Result]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One wrong thing, and a seed whose world shows that it is wrong."""

    wrong: str
    patched: Callable[[], Any]
    killed_by: int


def _rule(old: Rule, new: Rule | None) -> Any:
    """Another function, or none, in the place of a rule; the stages stay."""
    table = tuple((new if rule is old else rule, stages) for rule, stages in decide.RULES)
    return patch.object(decide, "RULES", tuple(row for row in table if row[0] is not None))


def _facts(change: Callable[[State, Event, State], State]) -> Any:
    def absorb(before: State, event: Event) -> State:
        return change(before, event, facts.absorb(before, event))

    return patch.object(decide, "absorb", absorb)


def _number_only() -> Any:
    return patch.object(Gang, "id", property(lambda gang: str(gang.generation)))


def _trust_the_counter() -> Any:
    def trust(before: State, event: Event, after: State) -> State:
        return replace(after, generation=event.reply.generation) if isinstance(event, Exchanged) else after

    return _facts(trust)


def _announce_before_dead() -> Any:
    def enter(state: State) -> Result:
        after, actions = barrier.enter(state.with_workload(work=Work.ABSENT))
        return after.with_workload(work=state.workload.work), actions

    return _rule(barrier.enter, enter)


def _no_second_opinion() -> Any:
    def end(state: State) -> Result:
        after, actions = failures.end_generation(
            state.with_peers(mute=frozenset(state.store.records), heard={})
        )
        return after.with_peers(mute=state.peers.mute, heard=state.peers.heard), actions

    return _rule(failures.end_generation, end)


def _judge_at_once() -> Any:
    seen = Leases.seen

    def at_once(leases: Leases, *args: Any, **kwargs: Any) -> Leases:
        return replace(seen(leases, *args, **kwargs), contact=0.0)

    return patch.object(Leases, "seen", at_once)


def _without_the_last() -> Any:
    def but_one(right: Callable[..., bool]) -> Callable[..., bool]:
        return lambda state, record, *more: record.rank == state.rules.size - 1 or right(state, record, *more)

    stands, confirmed = but_one(barrier.stands), but_one(barrier._confirmed)
    return patch.multiple(barrier, stands=stands, _confirmed=confirmed)


def _no_fence() -> Any:
    return _facts(lambda before, event, after: after.with_store(fenced=False))


def _old_failures() -> Any:
    def note(state: State) -> Result:
        known = state.recovery.failure
        old = (
            state.store.current
            and state.in_gang
            and known is not None
            and known.generation == state.me.generation - 1
        )
        if old and state.me.state.serving and state.generation == state.me.generation:
            return replace(state, generation=state.generation + 1), ()
        return failures.note(state)

    return _rule(failures.note, note)


def _exit_0_is_fine() -> Any:
    right = facts._workload_exited

    def exited(state: State, event: Any) -> State:
        after = right(replace(state, rules=replace(state.rules, mode=Mode.JOB)), event)
        return replace(after, rules=state.rules)

    return patch.object(facts, "_workload_exited", exited)


def _charge_twice() -> Any:
    right = failures._charge
    return patch.object(failures, "_charge", lambda state: right(right(state)))


def _no_isolation() -> Any:
    return _rule(outage.isolate, None)


def _no_order() -> Any:
    return patch.object(ending, "_leader_stopped", lambda state: True)


def _take_at_once() -> Any:
    return patch.object(joining, "may_take", lambda state: state.store.holder if state.store.looked else None)


def _own_failure_is_everybodys() -> Any:
    def end(state: State) -> Result:
        after, actions = failures.end_generation(replace(state, rules=replace(state.rules, guard=True)))
        return replace(after, rules=state.rules), actions

    return _rule(failures.end_generation, end)


def _ready_alone() -> Any:
    return patch.object(checks, "_ranks", lambda state: checks.Check("ranks", ok=True))


def _forget_what_the_store_forgot() -> Any:
    return patch.object(facts, "_remembering", lambda state, shown: shown)


def _keep_the_dead_in_the_gang() -> Any:
    right = facts._workload_gone

    def gone(state: State) -> State:
        after = right(state)
        return replace(after, me=replace(after.me, state=InstanceState.STOPPING))

    return patch.object(facts, "_workload_gone", gone)


def _claim_nothing() -> Any:
    return patch.object(
        joining, "claim", lambda state: state.with_store(took=state.store.records.get(state.rules.rank))
    )


def _wait_no_longer_than_rank_0() -> Any:
    return patch.object(ending, "HELD_SHARE", ending.LEADER_SHARE)


def _nobody_rejoins() -> Any:
    return _rule(rejoining.rejoin, None)


def _nobody_is_admitted() -> Any:
    return _rule(rejoining.admit, None)


MUTANTS = (
    Mutant("the token is the number only", _number_only, 0),
    Mutant("the generation follows the store's counter", _trust_the_counter, 46),
    Mutant("a generation is announced before the old workload is dead", _announce_before_dead, 0),
    Mutant("no second opinion", _no_second_opinion, 7),
    Mutant("leases are judged right after a reconnect", _judge_at_once, 260),
    Mutant("the barrier opens without the last rank", _without_the_last, 16),
    Mutant("no fence", _no_fence, 47),
    Mutant("reports about an older generation count", _old_failures, 9),
    Mutant("with guard an exit 0 is fine", _exit_0_is_fine, 24),
    Mutant("each restart is charged twice", _charge_twice, 9),
    Mutant("no isolation", _no_isolation, 21),
    Mutant("a drain has no order", _no_order, 6),
    Mutant("a newcomer takes a held rank at once", _take_at_once, 108),
    Mutant("without guard a failure is everybody's", _own_failure_is_everybodys, 0),
    Mutant("ready when my own workload runs", _ready_alone, 145),
    Mutant("a member that the store forgot is forgotten", _forget_what_the_store_forgot, 1776),
    Mutant("a stopped workload is never said to be gone", _keep_the_dead_in_the_gang, 2),
    Mutant("a claim does not end the predecessor's generation", _claim_nothing, 18),
    Mutant("in a drain the others wait no longer than rank 0 may take", _wait_no_longer_than_rank_0, 2108),
    Mutant("without guard nobody rejoins", _nobody_rejoins, 0),
    Mutant("without guard a rebuilt member stays a stranger", _nobody_is_admitted, 0),
)


@contextmanager
def wrong(mutant: Mutant) -> Iterator[None]:
    """The core with this one thing wrong. Its states are not looked into: it is to show from outside."""
    with mutant.patched(), patch.object(instance, "check_invariants"):
        yield


def kill(mutant: Mutant, search: range) -> Outcome | None:
    """A world in which the mutant breaks a guarantee: the known one, or the first of the search."""
    with wrong(mutant):
        for seed in (mutant.killed_by, *search):
            outcome = simulate(seed)
            if outcome.violations:
                return outcome
    return None
