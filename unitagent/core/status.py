"""The status of a Unit as plain mappings: as an agent sees it (``/status``), and as an observer reads
it from the store.

Both have the same keys. An observer has no lease and no clock in the Unit: it judges by the age of each
heartbeat on the store's own clock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any, Protocol

from unitagent.core import isolation, probe_answers
from unitagent.core.model import Failure, InstanceState, Phase, Record
from unitagent.core.state import State, reported_lost


def build_status(state: State) -> dict[str, Any]:
    """The Unit as this agent sees it; keys and meaning are fixed by ``unitagent/operator/README.md``."""
    ready = probe_answers.is_ready(state)
    draining = probe_answers.is_draining(state)
    gang = state.workload.gang if state.in_gang else None
    lost, since = reported_lost(state), _store_since(state)
    return {
        "unit": state.config.unit,
        "size": state.config.size,
        "guard": state.config.guard,
        "phase": find_phase(state).value,
        "generation": max(state.generation, state.me.generation),
        "restarts": state.me.restarts,
        "master_address": gang.master_address if gang else None,
        "master_port": gang.master_port if gang else None,
        "ready": ready,
        "traffic": ready and state.config.rank == 0,
        "draining": draining,
        "failure": format_failure(state.recovery.failure),
        "store": {"connected": state.connected, "since": since},
        "instances": [_describe_instance(state, rank, lost) for rank in range(state.config.size)],
        "recovery": measure_recovery(state),
        "conditions": list_conditions(state, since),
    }


def build_own_status(state: State) -> dict[str, Any]:
    """What this agent reports of itself alone, with keys of ``build_status``; equally small in a Unit
    of any size.
    """
    leader, age = last_leader_contact(state)
    return {
        "unit": state.config.unit,
        "generation": max(state.generation, state.me.generation),
        "instances": [_describe_instance(state, state.config.rank, ())],
        "leader": {"incarnation": leader, "age": round(age, 3)},
    }


def last_leader_contact(state: State) -> tuple[str, float]:
    """Return the incarnation of the rank 0 that last answered, and the age of that question in seconds; at
    rank 0 this agent itself.
    """
    if state.config.rank == 0:
        return state.me.incarnation, 0.0
    leader = state.store.records.get(0)
    asked = None if leader is None else state.peers.heard.get(leader.incarnation)
    return ("", 0.0) if leader is None or asked is None else (leader.incarnation, state.now - asked)


def find_phase(state: State) -> Phase:
    """What the Unit is doing."""
    if state.me.failed or any(record.failed and not record.left for record in state.store.records.values()):
        return Phase.FAILED
    if state.shutdown.completed:
        return Phase.COMPLETED
    if probe_answers.is_draining(state):
        return Phase.DRAINING
    if state.in_gang and state.generation == state.me.generation and (state.me.state.started or state.done):
        return Phase.RUNNING
    return Phase.FORMING if state.workload.gang is None else Phase.RESTARTING


def format_failure(failure: Failure | None) -> dict[str, Any] | None:
    """A failure for people and programs; ``at`` in seconds since the epoch."""
    if failure is None:
        return None
    return {
        "generation": failure.generation,
        "rank": failure.rank,
        "reason": failure.reason.value,
        "detail": failure.sentence,
        "exit_code": failure.exit_code,
        "signal": failure.signal,
        "at": round(failure.at, 3),
    }


def measure_recovery(state: State) -> dict[str, float | None]:
    """Seconds for each step of the last restart; all null before the first."""
    marks = state.recovery.timestamps
    if marks.failed is None:
        return empty_recovery()
    steps = (marks.failed, marks.stopped, marks.opened, marks.spawned, marks.ready)
    spans = [_measure_span(begin, end) for begin, end in pairwise(steps)]
    total = _measure_span(marks.failed, marks.ready)
    return {
        "detect": round(marks.detect, 3),
        "stop": spans[0],
        "barrier": spans[1],
        "start": spans[2],
        "ready": spans[3],
        "total": None if total is None else round(total + marks.detect, 3),
    }


def empty_recovery() -> dict[str, float | None]:
    """The keys of a recovery before there was one."""
    return dict.fromkeys(("detect", "stop", "barrier", "start", "ready", "total"))


def _measure_span(begin: float | None, end: float | None) -> float | None:
    return None if begin is None or end is None else round(max(0.0, end - begin), 3)


def _store_since(state: State) -> float | None:
    """Seconds since the epoch: since when the store is connected, or when it last answered."""
    at = state.store.leases.contact if state.connected else state.store.leases.last
    return None if at is None else round(at + state.config.epoch, 3)


def _describe_instance(state: State, rank: int, lost: Collection[int]) -> dict[str, Any]:
    record = state.me if rank == state.config.rank else state.store.records.get(rank)
    lease = _seconds_since_sign(state, rank)
    return {
        "rank": rank,
        "incarnation": record.incarnation if record else None,
        "ip": record.ip if record else None,
        "hostname": record.hostname if record else None,
        "state": _find_instance_state(state, rank, record, lost).value,
        "generation": record.generation if record else 0,
        "pid": record.pid if record else None,
        "exit_code": record.exit_code if record else None,
        "lease_seconds": None if lease is None else round(lease, 3),
    }


def _find_instance_state(
    state: State, rank: int, record: Record | None, lost: Collection[int]
) -> InstanceState:
    if record is None:
        return InstanceState.WAITING
    return InstanceState.LOST if rank in lost else probe_answers.find_shown_state(state, rank)


def _seconds_since_sign(state: State, rank: int) -> float | None:
    """Seconds since the rank's last sign of life; for myself, since the store last answered."""
    if rank != state.config.rank:
        record = state.store.records.get(rank)
        return (
            None if record is None else state.store.leases.seconds_since_beat(record.incarnation, state.now)
        )
    return None if state.store.leases.last is None else max(0.0, state.now - state.store.leases.last)


# Conditions.

_ANSWERED = {"type": "StoreReachable", "status": "True", "reason": "StoreAnswers"}


def list_conditions(state: State, since: float | None) -> list[dict[str, Any]]:
    """What people should know besides the phase: each condition is true, or says why not and what
    happens next. The list has the same entries at all times.

    ``since`` is when the store was connected, or when it last answered, in seconds since the epoch.
    """
    if state.connected:
        return list_store_conditions(since)
    reason = "StoreSilent" if state.store.ever_answered else "StoreNotReachedYet"
    return [
        {
            "type": "StoreReachable",
            "status": "False",
            "reason": reason,
            "message": f"{_describe_silence(state)}; {_describe_outage(state)}",
            "since": since,
        }
    ]


def list_store_conditions(since: float | None = None) -> list[dict[str, Any]]:
    """The conditions for an observer that has just read the store."""
    return [{**_ANSWERED, "message": "the store answers", "since": since}]


def _describe_silence(state: State) -> str:
    return "the store does not answer" if state.store.ever_answered else "the store has not been reached yet"


def _describe_outage(state: State) -> str:
    """What the outage means for this instance."""
    if state.workload.cut_off:
        return "this instance was cut off: the workload was stopped, and starts when the store is back"
    if not state.up:
        return "nothing is started before it is there"
    if not isolation.can_be_isolated(state):
        return "the Unit goes on without it, and nothing new is started"
    others = "any other rank" if state.config.rank == 0 else "rank 0"
    return (
        f"the Unit goes on; without the store and {others} for {state.config.lease:g} s "
        "(UNIT_LEASE_SECONDS), this instance stops its workload"
    )


# The status for an observer.


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
    def failure(self) -> Failure | None:
        """The first failure of the last generation that failed."""


def status_from_store(unit: str, table: MembershipTable, lease: float) -> dict[str, Any]:
    """The status as an observer sees it; only agents know ``guard`` and ``recovery``, which are null
    here.
    """
    size = max((record.size for record in table.records.values()), default=0)
    instances = [_describe_record(table, rank, lease) for rank in range(size)]
    leader = table.records.get(0)
    draining = any(record.asked and not record.left for record in table.records.values())
    serving = bool(instances) and all(_is_serving(one, table.generation) for one in instances)
    ready = serving and instances[0]["state"] == InstanceState.HEALTHY and not draining
    started = leader is not None and bool(leader.gang)
    return {
        "unit": unit,
        "size": size,
        "guard": None,
        "phase": _find_phase_from_records(
            list(table.records.values()), serving=serving, draining=draining
        ).value,
        "generation": table.generation,
        "restarts": max((record.restarts for record in table.records.values()), default=0),
        "master_address": leader.ip if leader and started else None,
        "master_port": leader.master_port if leader and started else None,
        "ready": ready,
        "traffic": ready,
        "draining": draining,
        "failure": format_failure(table.failure),
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


def _describe_record(table: MembershipTable, rank: int, lease: float) -> dict[str, Any]:
    record, age = table.records.get(rank), table.ages.get(rank)
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
