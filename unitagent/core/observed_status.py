"""The status of a Unit as an observer reads it from the store, with the keys of ``/status``.

An observer has no lease and no clock in the Unit: it judges by the age of each heartbeat on the store's own
clock. So it also tells two phases that no agent is ever in: ``drained`` and ``silent``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from unitagent.core.conditions import (
    FALSE,
    LOADING,
    SERVING,
    TRUE,
    UNKNOWN,
    Condition,
    judge_answering_store,
    judge_presence,
    make_condition,
)
from unitagent.core.model import (
    Failure,
    InstanceState,
    Order,
    Phase,
    Record,
    find_last_failure,
    find_last_order,
    format_age,
    shorten_list,
)
from unitagent.core.probe_answers import FOREIGN, LOST_FOR, NEVER_JOINED, describe_rank_state
from unitagent.core.restart_pause import find_newest, seconds_left
from unitagent.core.status import empty_recovery, format_failure, format_order, format_pause

DRAINED, SILENT = "drained", "silent"


class MembershipTable(Protocol):
    """What the store knows of one Unit; a snapshot is one."""

    @property
    def generation(self) -> int:
        """The highest generation that the store knows."""

    @property
    def records(self) -> Mapping[int, Record]:
        """The records of all ranks that the store knows."""

    @property
    def ages(self) -> Mapping[int, float]:
        """Seconds since the last heartbeat, by rank."""

    @property
    def foreign(self) -> Collection[int]:
        """Ranks whose records are signed with other secrets than the reader's, and are ignored."""

    @property
    def failure(self) -> Failure | None:
        """The first failure of the last generation that failed."""

    @property
    def order(self) -> Order | None:
        """The last operator's order."""

    @property
    def age(self) -> float | None:
        """Seconds since the store first heard of the Unit; None if it never did."""

    @property
    def now(self) -> float:
        """The store's clock, in seconds since its epoch."""


def status_from_store(unit: str, table: MembershipTable, lease: float) -> dict[str, Any]:
    """The status as an observer sees it; only agents know ``guard``, ``recovery`` and the limits of
    ``budget``, which are null here. ``lease`` counts for ranks that do not publish theirs.
    """
    records = table.records
    size = max((record.size for record in records.values()), default=0)
    instances = [_describe_record(table, rank, lease) for rank in range(size)]
    leader = records.get(0)
    draining = any(record.stop_requested and not record.has_left for record in records.values())
    serving = bool(instances) and all(_is_serving(one, table.generation) for one in instances)
    ready = serving and instances[0]["state"] == InstanceState.HEALTHY and not draining
    started = leader is not None and bool(leader.gang)
    phase = _find_phase(table, instances, serving=serving, draining=draining)
    return {
        "unit": unit,
        "size": size,
        "guard": None,
        "phase": phase,
        "generation": table.generation,
        "restarts": max((record.restarts for record in records.values()), default=0),
        "budget": _measure_budget(records.values()),
        "master_address": leader.ip if leader and started else None,
        "master_port": leader.master_port if leader and started else None,
        "ready": ready,
        "traffic": ready,
        "draining": draining,
        "failure": format_failure(find_last_failure(table.failure)),
        "last_order": format_order(find_last_order(table.failure)),
        "pause": find_pause(table),
        "store": {"connected": True, "since": None},
        "instances": instances,
        "recovery": empty_recovery(),
        "keeper": None,
        "conditions": _list_conditions(table, instances, phase, ready=ready),
    }


def find_pause(table: MembershipTable) -> dict[str, Any] | None:
    """The pause of restarts that is in force by the store's clock; None for none."""
    pause = find_newest(table.records.values(), table.order, table.now)
    if pause is None or seconds_left(pause, table.now) <= 0:
        return None
    return format_pause(pause, pause.number / 1e6 + pause.seconds)


def _measure_budget(records: Collection[Record]) -> dict[str, float | None]:
    used = max((len(record.charges) for record in records), default=0)
    return {"used": used, "allowed": None, "window_seconds": None, "next_restart_seconds": None}


def _is_serving(instance: dict[str, Any], generation: int) -> bool:
    up = instance["state"] in (InstanceState.RUNNING, InstanceState.HEALTHY)
    return up and instance["generation"] == generation


def _find_phase(
    table: MembershipTable, instances: Sequence[dict[str, Any]], *, serving: bool, draining: bool
) -> str:
    records = list(table.records.values())
    if any(record.budget_exhausted for record in records):
        return Phase.FAILED.value
    if _have_all_left(records):
        return _find_end(records)
    present = [one for one in instances if one["incarnation"] is not None and not _has_left(table, one)]
    if present and all(one["state"] == InstanceState.LOST for one in present):
        return SILENT
    if draining:
        return Phase.DRAINING.value
    if serving:
        return Phase.RUNNING.value
    if records and all(map(_has_succeeded, records)):
        return Phase.COMPLETED.value
    if _is_led(table):
        return Phase.RUNNING.value
    again = any(record.restarts for record in records)
    return Phase.RESTARTING.value if again else Phase.FORMING.value


def _is_led(table: MembershipTable) -> bool:
    """Whether rank 0 runs in the newest generation, or has done its part of a job there."""
    leader = table.records.get(0)
    if leader is None or leader.generation != table.generation:
        return False
    return leader.state.serving or _has_succeeded(leader)


def _have_all_left(records: Collection[Record]) -> bool:
    return bool(records) and all(record.has_left for record in records)


def _find_end(records: Collection[Record]) -> str:
    """The phase of a Unit that every rank has left. Unless somebody was asked to stop, something went wrong,
    and with ``UNIT_RESTART=recreate`` the platform is to rebuild the containers.
    """
    if all(map(_has_succeeded, records)):
        return Phase.COMPLETED.value
    if any(record.stop_requested for record in records):
        return DRAINED
    recreated = all(_has_setting(record, "UNIT_RESTART=recreate") for record in records)
    return Phase.RESTARTING.value if recreated else Phase.FAILED.value


def _has_left(table: MembershipTable, instance: dict[str, Any]) -> bool:
    record = table.records.get(instance["rank"])
    return record is not None and record.has_left


def _has_succeeded(record: Record) -> bool:
    """Whether its part of a job is done. A service that exits with 0 has failed, and a job that exits in a
    drain was told to.
    """
    ended_well = record.state is InstanceState.EXITED and record.exit_code == 0 and not record.draining
    return ended_well and _has_setting(record, "UNIT_MODE=job")


def _has_setting(record: Record, setting: str) -> bool:
    return setting in record.fingerprint.split()


def _describe_record(table: MembershipTable, rank: int, lease: float) -> dict[str, Any]:
    record, age = table.records.get(rank), table.ages.get(rank)
    late = record is not None and not record.has_left and age is not None and age > (record.lease or lease)
    state = InstanceState.LOST if late else record.state if record else InstanceState.WAITING
    return {
        "rank": rank,
        "incarnation": record.incarnation if record else None,
        "ip": record.ip if record else None,
        "port": record.port if record else None,
        "hostname": record.hostname if record else None,
        "state": state.value,
        "generation": record.generation if record else 0,
        "pid": record.pid if record else None,
        "exit_code": record.exit_code if record else None,
        "lease_seconds": None if age is None else round(age, 3),
    }


# Conditions.


def _list_conditions(
    table: MembershipTable, instances: Sequence[dict[str, Any]], phase: str, *, ready: bool
) -> list[Condition]:
    leader = table.records.get(0)
    absent = [text for one in instances if (text := _describe_absence(table, one))]
    return [
        make_condition("Ready", TRUE, "Serving", SERVING, None)
        if ready
        else _explain_phase(table, instances, absent, phase),
        judge_presence(absent),
        _judge_health(leader),
        judge_answering_store(),
    ]


def _explain_phase(
    table: MembershipTable, instances: Sequence[dict[str, Any]], absent: list[str], phase: str
) -> Condition:
    """Why the Unit does not serve, and since when, as far as the store tells."""
    leader, since = table.records.get(0), _find_since(table, phase)
    if phase == SILENT:
        silent = min(one["lease_seconds"] for one in instances if one["state"] == InstanceState.LOST)
        message = f"no rank has sent a heartbeat for {format_age(silent)}"
        return make_condition("Ready", FALSE, "Silent", message, since)
    if phase == Phase.FAILED and any(record.budget_exhausted for record in table.records.values()):
        return make_condition("Ready", FALSE, "RestartBudgetSpent", _describe_spent_budget(table), since)
    down = [
        describe_rank_state(one["rank"], InstanceState(one["state"]), one["exit_code"])
        for one in instances
        if one["state"] not in ("running", "healthy") and not _describe_absence(table, one)
    ]
    problem = _describe_health(leader)
    if leader and phase == Phase.RUNNING and problem and not (absent or down):
        return make_condition("Ready", FALSE, LOADING, problem, leader.failed_check_since or None)
    message = ", ".join([*shorten_list(absent), *shorten_list(down)]) or phase
    if phase == Phase.RESTARTING and _have_all_left(table.records.values()):
        message += "; the platform is to rebuild the containers (UNIT_RESTART=recreate)"
    return make_condition("Ready", FALSE, phase.capitalize(), message, since)


def _describe_spent_budget(table: MembershipTable) -> str:
    failure = find_last_failure(table.failure)
    last = f"; last: {failure.detail}" if failure else ""
    return f"the restart budget is spent (UNIT_MAX_RESTARTS){last}"


def _find_since(table: MembershipTable, phase: str) -> float | None:
    """Since when the Unit is in this phase, in seconds since the epoch; None if the store cannot tell."""
    records, failure = table.records.values(), table.failure
    if _have_all_left(records):
        return table.now - min(table.ages.values(), default=0.0)
    gave_up = [
        table.ages.get(one.rank, 0.0) for one in records if one.budget_exhausted and one.has_left
    ]  # the others wait for them
    if gave_up:
        return table.now - max(gave_up)
    match phase:
        case Phase.RESTARTING | Phase.FAILED if failure and failure.generation == table.generation - 1:
            return failure.at  # an older one is not what the ranks wait for now
        case Phase.FORMING if table.age is not None and not any(map(_has_started, records)):
            return table.now - table.age
    return None


def _has_started(record: Record) -> bool:
    """Whether it, or an earlier holder of its rank, has ever started in a generation."""
    return bool(record.gang or record.predecessor_generation or record.generation > 1)


def _judge_health(leader: Record | None) -> Condition:
    kind = "WorkloadHealthy"
    if leader is None or leader.has_left or not leader.state.started:
        return make_condition(kind, UNKNOWN, "NotRunning", "the workload of rank 0 does not run", None)
    problem, healthy = _describe_health(leader), leader.state is InstanceState.HEALTHY
    if not problem:
        return make_condition(kind, TRUE, "HealthCheckPassed", "the workload of rank 0 is healthy", None)
    reason = "HealthCheckFailing" if leader.failed_check else "NotHealthyYet"
    return make_condition(
        kind, TRUE if healthy else FALSE, reason, problem, leader.failed_check_since or None
    )


def _describe_health(leader: Record | None) -> str:
    """What is wrong with rank 0's health; empty if nothing is, or if its workload does not run."""
    if leader is None or not leader.state.started:
        return ""
    if leader.failed_check:
        return f"rank 0's health {leader.failed_check}"
    return "" if leader.state is InstanceState.HEALTHY else "the workload of rank 0 is not healthy yet"


def _describe_absence(table: MembershipTable, one: dict[str, Any]) -> str:
    """How a rank is missing, in the words of the agents; empty if it is there."""
    if one["incarnation"] is None:
        return (FOREIGN if one["rank"] in table.foreign else NEVER_JOINED).format(one["rank"])
    if one["state"] != InstanceState.LOST or one["lease_seconds"] is None:
        return ""
    return LOST_FOR.format(f"rank {one['rank']} ({one['ip']})", format_age(one["lease_seconds"]))
