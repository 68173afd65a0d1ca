"""A Unit as an onlooker reads it from the store, with the same keys as ``/status``.

An onlooker has no lease and no clock in the Unit: it judges by the age of each beat on the store's own clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from unitagent.core.conditions import list_store_conditions
from unitagent.core.model import Failure, InstanceState, Phase, Record
from unitagent.core.status import empty_recovery, format_failure


class MembershipTable(Protocol):
    """What hangs in the store of one Unit; a snapshot is one."""

    @property
    def generation(self) -> int:
        """The highest the store has been told of."""

    @property
    def records(self) -> Mapping[int, Record]:
        """Of all ranks that the store remembers."""

    @property
    def ages(self) -> Mapping[int, float]:
        """Rank -> seconds since its last heartbeat."""

    @property
    def failure(self) -> Failure | None:
        """The first failure of the last generation that failed."""


def status_from_store(unit: str, board: MembershipTable, lease: float) -> dict[str, Any]:
    """The Unit; ``guard`` and ``recovery`` are known to the agents only and are null here."""
    size = max((record.size for record in board.records.values()), default=0)
    instances = [_describe_record(board, rank, lease) for rank in range(size)]
    leader = board.records.get(0)
    draining = any(record.asked and not record.left for record in board.records.values())
    serving = bool(instances) and all(_is_serving(one, board.generation) for one in instances)
    ready = serving and instances[0]["state"] == InstanceState.HEALTHY and not draining
    started = leader is not None and bool(leader.gang)
    return {
        "unit": unit,
        "size": size,
        "guard": None,
        "phase": _find_phase_from_records(
            list(board.records.values()), serving=serving, draining=draining
        ).value,
        "generation": board.generation,
        "restarts": max((record.restarts for record in board.records.values()), default=0),
        "master_address": leader.ip if leader and started else None,
        "master_port": leader.master_port if leader and started else None,
        "ready": ready,
        "traffic": ready,
        "draining": draining,
        "failure": format_failure(board.failure),
        "store": {"connected": True, "since": None},
        "instances": instances,
        "recovery": empty_recovery(),
        "conditions": list_store_conditions(),
    }


def _is_serving(instance: dict[str, Any], generation: int) -> bool:
    up = instance["state"] in (InstanceState.RUNNING, InstanceState.HEALTHY)
    return up and instance["generation"] == generation


def _find_phase_from_records(records: Sequence[Record], *, serving: bool, draining: bool) -> Phase:
    if any(record.failed for record in records):
        return Phase.FAILED
    if draining:
        return Phase.DRAINING
    if serving:
        return Phase.RUNNING
    done = [record.state is InstanceState.EXITED and record.exit_code == 0 for record in records]
    if done and all(done):
        return Phase.COMPLETED
    return Phase.RESTARTING if any(record.restarts for record in records) else Phase.FORMING


def _describe_record(board: MembershipTable, rank: int, lease: float) -> dict[str, Any]:
    record, age = board.records.get(rank), board.ages.get(rank)
    late = age is not None and age > lease and record is not None and not record.left
    state = InstanceState.LOST if late else record.state if record else InstanceState.WAITING
    return {
        "rank": rank,
        "incarnation": record.incarnation if record else None,
        "ip": record.ip if record else None,
        "hostname": record.hostname if record else None,
        "state": state.value,
        "generation": record.generation if record else 0,
        "pid": record.pid if record else None,
        "exit_code": record.exit_code if record else None,
        "lease_seconds": None if age is None else round(age, 3),
    }
