"""The health of rank 0's workload: what a check adds to the state, what is logged of it, and by when it must
have passed.

A workload that loads for minutes fails its checks all that time, and that is expected; a failure after it has
been healthy is a fault. A failed check is logged at once, then at growing intervals.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from unitagent.core.actions import Action, Level, Log
from unitagent.core.events import HealthChecked, HealthProbed
from unitagent.core.model import Failure, InstanceState, Reason, format_age
from unitagent.core.state import Result, State, describe_rank, make_failure, update_record
from unitagent.core.state_parts import FailedCheck, WorkloadPhase

NEWS_AFTER = 5.0  # seconds after which another problem of a health check is logged, however often it changes
LONGEST_TROUBLE = 500  # characters
SHORTEST, LONGEST = 5.0, 60.0  # seconds between two lines about one check; the interval grows


def apply_health_event(state: State, event: HealthChecked | HealthProbed) -> State:
    """The state with what a health check found, while the workload that was checked still runs."""
    if state.workload.phase is not WorkloadPhase.ALIVE or not state.me.state.started:
        return state
    return (
        _apply_health_check(state, event)
        if isinstance(event, HealthChecked)
        else _apply_health_probe(state, event)
    )


def _apply_health_check(state: State, event: HealthChecked) -> State:
    if event.healthy:
        return update_record(state.with_workload(was_healthy=True), state=InstanceState.HEALTHY)
    if not event.fatal:
        return update_record(state, state=InstanceState.RUNNING)
    sick = Failure(
        generation=state.me.generation,
        rank=state.config.rank,
        ip=state.me.ip,
        reason=Reason.UNHEALTHY,
        detail=f"{describe_rank(state, state.config.rank)} failed its health check: {event.detail}",
        at=state.now + state.config.epoch,
    )
    return state.with_workload(pending_failure=state.workload.pending_failure or sick)


def _apply_health_probe(state: State, event: HealthProbed) -> State:
    others = {check: failed for check, failed in state.workload.failed_checks.items() if check != event.check}
    if event.problem:
        others[event.check] = _count_failed_check(state, event)
    return set_failed_checks(state, others)


def _count_failed_check(state: State, event: HealthProbed) -> FailedCheck:
    """The check as it failed now; another problem than before is logged soon, but not each time."""
    known = state.workload.failed_checks.get(event.check)
    if known is None:
        return FailedCheck(
            problem=event.problem, since=state.now, checks=int(event.answered), report_at=state.now
        )
    soon = known.report_at if event.problem == known.problem else state.now + NEWS_AFTER
    return FailedCheck(
        problem=event.problem,
        since=known.since,
        checks=known.checks + event.answered,
        report_at=min(known.report_at, soon),
    )


def set_failed_checks(state: State, failed: Mapping[str, FailedCheck]) -> State:
    """The state with these failed checks; my record changes with the problem, and not with each check."""
    problems = "; ".join(f"{check}: {one.problem}" for check, one in failed.items())
    text = "".join(letter if letter.isprintable() else "?" for letter in problems[:LONGEST_TROUBLE])
    since = min((one.since + state.config.epoch for one in failed.values()), default=0.0)
    state = state.with_workload(failed_checks=failed)
    return (
        state
        if text == state.me.failed_check
        else update_record(state, failed_check=text, failed_check_since=round(since, 3))
    )


def log_failed_checks(state: State) -> Result:
    """Log the failed checks that are due."""
    due = [check for check, failed in state.workload.failed_checks.items() if state.now >= failed.report_at]
    if not due:
        return state, ()
    checks = {**state.workload.failed_checks}
    actions: tuple[Action, ...] = ()
    level = Level.WARNING if state.workload.was_healthy else Level.INFO
    for check in due:
        failed = checks[check]
        pause = min(LONGEST, max(SHORTEST, state.now - failed.since))
        checks[check] = replace(failed, report_at=state.now + pause)
        actions += (Log(level, f"rank {state.config.rank}'s health {describe_failed_check(state, check)}"),)
    return state.with_workload(failed_checks=checks), actions


def startup_deadline(state: State) -> float:
    """By when my workload has to be healthy; infinity if it has been, or if there is no health check. By when
    my keeper has to be ready, if it is loading.
    """
    if state.config.startup > 0 and state.loads_keepers and not state.keeper.ready:
        return state.keeper.since + state.config.startup
    starting = state.me.state is InstanceState.RUNNING and state.config.rank == 0
    if state.config.startup <= 0 or not starting or state.workload.was_healthy:
        return float("inf")
    return state.workload.spawned + state.workload.suspended_seconds + state.config.startup


def find_startup_timeout(state: State) -> Failure | None:
    """The failure to be healthy in time, or to load the keeper; None while there is time."""
    if state.now <= startup_deadline(state):
        return None
    limit = f"{state.config.startup:g} s (UNIT_STARTUP_SECONDS)"
    me = describe_rank(state, state.config.rank)
    what = "its keeper was not ready" if state.loads_keepers else "was not healthy"
    why = f"{me}{':' if state.loads_keepers else ''} {what} within {limit}"
    return make_failure(state, state.config.rank, Reason.STARTUP_TIMEOUT, why)


def explain_health(state: State) -> str:
    """Why rank 0 is not healthy: what is asked, what came of it, for how long and how often."""
    leader = state.me if state.config.rank == 0 else state.store.records.get(0)
    if leader is None or not leader.failed_check:
        return _explain_unasked_health(state)
    if state.workload.failed_checks:
        failed = [describe_failed_check(state, check) for check in state.workload.failed_checks]
    else:
        age = max(0.0, state.now + state.config.epoch - leader.failed_check_since)
        failed = [f"{leader.failed_check}, {format_age(age)}"]
    return f"rank 0's health {'; '.join(failed)}"


def describe_failed_check(state: State, check: str) -> str:
    """One failed check: what is asked, what came of it, for how long and how often."""
    failed = state.workload.failed_checks[check]
    count = f", {failed.checks} check{'s' if failed.checks > 1 else ''}" if failed.checks else ""
    return f"{check}: {failed.problem}, {format_age(state.now - failed.since)}{count}"


def _explain_unasked_health(state: State) -> str:
    waits = state.config.rank == 0 and state.in_gang and state.me.state.serving
    age = f"; it started {format_age(state.now - state.workload.spawned)} ago" if waits else ""
    return f"the workload of rank 0 is not healthy yet{age}"
