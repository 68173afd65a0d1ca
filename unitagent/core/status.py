"""What ``/status`` shows: a plain mapping, made of nothing but the state."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise
from typing import Any

from unitagent.core import checks
from unitagent.core.conditions import conditions
from unitagent.core.model import Failure, InstanceState, Phase, Record
from unitagent.core.state import State, told_lost


def status(state: State) -> dict[str, Any]:
    """The Unit as this agent sees it; keys and meaning are fixed, they are in the README."""
    ready = checks.is_ready(state)
    draining = checks.is_draining(state)
    gang = state.workload.gang if state.in_gang else None
    lost, since = told_lost(state), _store_since(state)
    return {
        "unit": state.rules.unit,
        "size": state.rules.size,
        "guard": state.rules.guard,
        "phase": phase(state).value,
        "generation": max(state.generation, state.me.generation),
        "restarts": state.me.restarts,
        "master_address": gang.master_address if gang else None,
        "master_port": gang.master_port if gang else None,
        "ready": ready,
        "traffic": ready and state.rules.rank == 0,
        "draining": draining,
        "failure": failure(state.recovery.failure),
        "store": {"connected": state.connected, "since": since},
        "instances": [_instance(state, rank, lost) for rank in range(state.rules.size)],
        "recovery": recovery(state),
        "conditions": conditions(state, since),
    }


def report(state: State) -> dict[str, Any]:
    """What this agent says of itself alone, with the keys of ``status``: as little in a Unit of any size."""
    leader, age = word_of_leader(state)
    return {
        "unit": state.rules.unit,
        "generation": max(state.generation, state.me.generation),
        "instances": [_instance(state, state.rules.rank, ())],
        "leader": {"incarnation": leader, "age": round(age, 3)},
    }


def word_of_leader(state: State) -> tuple[str, float]:
    """The rank 0 that has vouched for me, and how many seconds ago I asked what it answered; I may be it."""
    if state.rules.rank == 0:
        return state.me.incarnation, 0.0
    leader = state.store.records.get(0)
    asked = None if leader is None else state.peers.heard.get(leader.incarnation)
    return ("", 0.0) if leader is None or asked is None else (leader.incarnation, state.now - asked)


def phase(state: State) -> Phase:
    """What the Unit is doing."""
    if state.me.failed or any(record.failed and not record.left for record in state.store.records.values()):
        return Phase.FAILED
    if state.shutdown.completed:
        return Phase.COMPLETED
    if checks.is_draining(state):
        return Phase.DRAINING
    if state.in_gang and state.generation == state.me.generation and (state.me.state.started or state.done):
        return Phase.RUNNING
    return Phase.FORMING if state.workload.gang is None else Phase.RESTARTING


def failure(found: Failure | None) -> dict[str, Any] | None:
    """A failure as people and programs read it; ``at`` in seconds since the epoch."""
    if found is None:
        return None
    return {
        "generation": found.generation,
        "rank": found.rank,
        "reason": found.reason.value,
        "detail": found.sentence,
        "exit_code": found.exit_code,
        "signal": found.signal,
        "at": round(found.at, 3),
    }


def recovery(state: State) -> dict[str, float | None]:
    """Seconds that the steps of the last restart took; all null until there was one."""
    marks = state.recovery.marks
    if marks.failed is None:
        return recovery_of_nothing()
    steps = (marks.failed, marks.stopped, marks.opened, marks.spawned, marks.ready)
    spans = [_span(begin, end) for begin, end in pairwise(steps)]
    total = _span(marks.failed, marks.ready)
    return {
        "detect": round(marks.detect, 3),
        "stop": spans[0],
        "barrier": spans[1],
        "start": spans[2],
        "ready": spans[3],
        "total": None if total is None else round(total + marks.detect, 3),
    }


def recovery_of_nothing() -> dict[str, float | None]:
    """The keys of a recovery before there was one."""
    return dict.fromkeys(("detect", "stop", "barrier", "start", "ready", "total"))


def _span(begin: float | None, end: float | None) -> float | None:
    return None if begin is None or end is None else round(max(0.0, end - begin), 3)


def _store_since(state: State) -> float | None:
    """Seconds since the epoch: since when the store is connected, or when it last answered."""
    at = state.store.leases.contact if state.connected else state.store.leases.last
    return None if at is None else round(at + state.rules.epoch, 3)


def _instance(state: State, rank: int, lost: Collection[int]) -> dict[str, Any]:
    record = state.me if rank == state.rules.rank else state.store.records.get(rank)
    lease = _lease(state, rank)
    return {
        "rank": rank,
        "incarnation": record.incarnation if record else None,
        "ip": record.ip if record else None,
        "hostname": record.hostname if record else None,
        "state": _shown(state, rank, record, lost).value,
        "generation": record.generation if record else 0,
        "pid": record.pid if record else None,
        "exit_code": record.exit_code if record else None,
        "lease_seconds": None if lease is None else round(lease, 3),
    }


def _shown(state: State, rank: int, record: Record | None, lost: Collection[int]) -> InstanceState:
    if record is None:
        return InstanceState.WAITING
    return InstanceState.LOST if rank in lost else checks.shown_state(state, rank)


def _lease(state: State, rank: int) -> float | None:
    """Seconds since the rank's last sign of life; for myself, since the store last answered."""
    if rank != state.rules.rank:
        record = state.store.records.get(rank)
        return None if record is None else state.store.leases.age(record.incarnation, state.now)
    return None if state.store.leases.last is None else max(0.0, state.now - state.store.leases.last)
