"""Why a Unit does not serve, since when, and what happens next: the ``conditions`` of ``/status``, in the
manner of Kubernetes.

The list has the same types at all times, ``Ready`` first. ``since`` is in seconds since the epoch, None if
it is not known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unitagent.core import health, isolation, probe_answers
from unitagent.core.barrier import explain_missing
from unitagent.core.model import InstanceState, Phase, Record, shorten_list
from unitagent.core.state import describe_trouble

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unitagent.core.probe_answers import ProbeCheck
    from unitagent.core.state import State

Condition = dict[str, Any]
TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"

LOADING = "Loading"
SERVING = "all ranks run, and rank 0 is healthy"
_REASONS = {  # of /readyz's checks
    "workload": "WorkloadNotUp",
    "ranks": "RanksNotRunning",
    "leases": "RankLost",
    "leader": "WorkloadNotHealthy",
    "draining": "Draining",
}


def make_condition(kind: str, status: str, reason: str, message: str, since: float | None) -> Condition:
    """One condition; ``kind`` is its type."""
    when = None if since is None else round(since, 3)
    return {"type": kind, "status": status, "reason": reason, "message": message, "since": when}


def list_conditions(state: State, phase: Phase, store_since: float | None) -> list[Condition]:
    """The conditions as this agent sees them.

    Args:
        state: The agent's state.
        phase: What the Unit is doing.
        store_since: When the store was connected, or when it last answered, in seconds since the epoch.

    """
    return [
        _judge_readiness(state, phase),
        _judge_ranks(state),
        _judge_health(state),
        _judge_store(state, store_since),
    ]


def _judge_readiness(state: State, phase: Phase) -> Condition:
    failed = [check for check in probe_answers.check_unit(state) if not check.ok]
    if not failed:
        return make_condition(
            "Ready", TRUE, "Serving", SERVING, _convert_time(state, state.recovery.timestamps.ready)
        )
    reason, message, since = _explain_phase(state, phase) or _explain_checks(state, failed)
    return make_condition("Ready", FALSE, reason, message, _convert_time(state, since))


def _explain_phase(state: State, phase: Phase) -> tuple[str, str, float | None] | None:
    """Reason, message and time (of my clock) for a Unit whose ranks are not meant to serve now."""
    end = state.shutdown
    match phase:
        case Phase.FAILED:
            spent = (
                end.leaving.why if end.leaving else "another rank reports that the restart budget is spent"
            )
            return "RestartBudgetSpent", spent, None
        case Phase.COMPLETED:
            return "Completed", "all ranks of the job exited with 0", None
        case Phase.DRAINING:
            by = f", asked by {end.requested_by}" if end.requested_by else ""
            return (
                "Draining",
                f"draining{by}",
                end.draining_since if end.draining else end.requested_at,
            )
        case Phase.FORMING:
            return "Forming", explain_missing(state), state.barrier.entered or state.started
        case Phase.RESTARTING if state.up and not state.loads_keepers:
            return "Stopping", "the workload of the last generation stops", state.recovery.timestamps.failed
        case Phase.RESTARTING:
            began = state.recovery.timestamps.failed
            return "Restarting", explain_missing(state), state.barrier.entered if began is None else began
    return None


def _explain_checks(state: State, failed: Sequence[ProbeCheck]) -> tuple[str, str, float | None]:
    """Reason, message and time (of my clock) for a Unit that is meant to serve and does not."""
    leader = _find_leader(state)
    down = leader is None or not leader.state.started  # then its health tells nothing new
    told = [check for check in failed if check.name != "leader" or not down] or failed
    first, message = failed[0].name, "; ".join(check.reason for check in told)
    if first != "leader":
        return _REASONS[first], message, None
    if state.workload.was_healthy:  # it has been healthy, and its readiness check fails now
        return (
            _REASONS[first],
            message,
            min((one.since for one in state.workload.failed_checks.values()), default=None),
        )
    return LOADING, message, state.workload.spawned


def _find_leader(state: State) -> Record | None:
    return state.me if state.config.rank == 0 else state.store.records.get(0)


def _convert_time(state: State, at: float | None) -> float | None:
    return None if at is None else at + state.config.epoch


def _judge_ranks(state: State) -> Condition:
    """Whether an agent of each rank is there."""
    absent = [
        text for rank in range(state.config.size) if (text := probe_answers.describe_absence(state, rank))
    ]
    return judge_presence(absent)


def judge_presence(absent: Sequence[str]) -> Condition:
    """The RanksPresent condition, built from a description of each missing rank."""
    if absent:
        return make_condition("RanksPresent", FALSE, "RanksAbsent", ", ".join(shorten_list(absent)), None)
    return make_condition("RanksPresent", TRUE, "AllPresent", "all ranks are there", None)


def _judge_health(state: State) -> Condition:
    """Whether rank 0's workload passes its health check."""
    kind = "WorkloadHealthy"
    leader = _find_leader(state)
    if leader is None or not leader.state.started:
        return make_condition(kind, UNKNOWN, "NotRunning", "the workload of rank 0 does not run", None)
    check = probe_answers.check_leader(state)
    if not check.ok or leader.failed_check:
        return _describe_unhealthy(state, leader)
    if state.config.rank == 0 and not state.config.health:
        only = "no health URL is known: ready only means that the workload runs"
        return make_condition(kind, UNKNOWN, "NoHealthCheck", only, None)
    return make_condition(kind, TRUE, "HealthCheckPassed", "the workload of rank 0 is healthy", None)


def _describe_unhealthy(state: State, leader: Record) -> Condition:
    """If the workload was healthy before, a failed check is reported, but does not make it unhealthy yet."""
    healthy = leader.state is InstanceState.HEALTHY
    reason = "HealthCheckFailing" if leader.failed_check else "NotHealthyYet"
    since = leader.failed_check_since or (
        _convert_time(state, state.workload.spawned) if state.in_gang else None
    )
    message = health.explain_health(state)
    return make_condition("WorkloadHealthy", TRUE if healthy else FALSE, reason, message, since)


# The store.


def _judge_store(state: State, since: float | None) -> Condition:
    if state.connected:
        return judge_answering_store(since)
    reason = "StoreSilent" if state.store.ever_answered else "StoreNotReachedYet"
    message = f"{_describe_silence(state)}; {_describe_outage(state)}"
    return make_condition("StoreReachable", FALSE, reason, message, since)


def judge_answering_store(since: float | None = None) -> Condition:
    """The condition of a store that has just answered."""
    return make_condition("StoreReachable", TRUE, "StoreAnswers", "the store answers", since)


def _describe_silence(state: State) -> str:
    silence = "does not answer" if state.store.ever_answered else "has not been reached yet"
    return f"the store {silence}{describe_trouble(state)}"


def _describe_outage(state: State) -> str:
    """What the outage means for this instance."""
    if state.workload.isolated:
        why = f" ({state.workload.isolation_reason})" if state.workload.isolation_reason else ""
        return f"this instance was cut off{why}: the workload was stopped, and starts when the store is back"
    if not state.up:
        return "nothing is started before it is there"
    if not isolation.can_be_isolated(state):
        return "the Unit continues without it, and nothing new is started"
    whom = "all other ranks" if state.config.rank == 0 else "rank 0"
    return (
        f"the Unit continues; this instance only stops its workload if it also loses {whom} for "
        f"{state.config.lease:g} s (UNIT_LEASE_SECONDS)"
    )
