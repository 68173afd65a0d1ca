"""The status of a Unit as an agent sees it (``/status``), as plain mappings."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise
from typing import Any

from unitagent.core import probe_answers
from unitagent.core.keepers import list_unready
from unitagent.core.leases import NEVER
from unitagent.core.members import reported_lost
from unitagent.core.model import (
    Failure,
    InstanceState,
    Phase,
    Record,
    RestartPause,
    find_last_failure,
    find_last_order,
)
from unitagent.core.restart_pause import earliest_start, is_paused
from unitagent.core.state import State
from unitagent.core.state_parts import WorkloadPhase


def build_status(state: State) -> dict[str, Any]:
    """The Unit as this agent sees it; keys and meaning are fixed by ``unitagent/operator/README.md``."""
    from unitagent.core.conditions import list_conditions  # noqa: PLC0415 (for people, who may never ask)

    ready = probe_answers.is_ready(state)
    draining = probe_answers.is_draining(state)
    gang = state.workload.gang if state.in_gang else None
    lost, since = reported_lost(state), _store_since(state)
    phase = find_phase(state)
    return {
        "unit": state.config.unit,
        "size": state.config.size,
        "guard": state.config.guard,
        "phase": phase.value,
        "generation": max(state.generation, state.me.generation),
        "restarts": state.me.restarts,
        "budget": measure_budget(state),
        "master_address": gang.master_address if gang else None,
        "master_port": gang.master_port if gang else None,
        "ready": ready,
        "traffic": ready and state.config.rank == 0,
        "draining": draining,
        "failure": format_failure(find_last_failure(state.recovery.failure)),
        "last_order": format_order(find_last_order(state.recovery.failure)),
        "pause": _describe_pause(state),
        "store": {"connected": state.connected, "since": since},
        "instances": [_describe_instance(state, rank, lost) for rank in range(state.config.size)],
        "recovery": measure_recovery(state),
        "keeper": describe_keeper(state),
        "conditions": list_conditions(state, phase, since),
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
    asked = None if leader is None else state.peers.known_alive_at.get(leader.incarnation)
    return ("", 0.0) if leader is None or asked is None else (leader.incarnation, state.now - asked)


def find_phase(state: State) -> Phase:
    """What the Unit is doing."""
    if state.me.budget_exhausted or any(
        record.budget_exhausted and not record.has_left for record in state.store.records.values()
    ):
        return Phase.FAILED
    if state.shutdown.completed:
        return Phase.COMPLETED
    if probe_answers.is_draining(state):
        return Phase.DRAINING
    here = state.in_gang and state.generation == state.me.generation and not state.loads_keepers
    if here and (state.me.state.started or state.done):
        return Phase.RUNNING
    gang = state.workload.gang
    began = gang is not None and not (gang.starts_keepers and not state.me.restarts)
    return Phase.RESTARTING if began else Phase.FORMING


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


def format_order(order: Failure | None) -> dict[str, Any] | None:
    """The last restart that an operator asked for; ``at`` in seconds since the epoch."""
    if order is None:
        return None
    return {"generation": order.generation, "detail": order.sentence, "at": round(order.at, 3)}


def format_pause(pause: RestartPause, until: float) -> dict[str, Any]:
    """A pause of restarts that is in force; ``until`` in seconds since the epoch."""
    return {"until": round(until, 3), "by": pause.by, "reason": pause.reason}


def _describe_pause(state: State) -> dict[str, Any] | None:
    if state.me.pause is None or not is_paused(state):
        return None
    return format_pause(state.me.pause, state.recovery.paused_until + state.config.epoch)


def describe_keeper(state: State) -> dict[str, Any] | None:
    """The keeper on this instance, and which ranks have none that is ready; None without ``UNIT_KEEPER``."""
    if not state.config.keepers:
        return None
    gang = state.keeper.gang
    return {
        "state": find_keeper_state(state),
        "generation": None if gang is None else gang.generation,
        "master_port": None if gang is None else gang.master_port,
        "since": None if gang is None else round(state.keeper.since + state.config.epoch, 3),
        "not_ready": list_unready(state),
        "stale": state.keeper.stale or None,
    }


def find_keeper_state(state: State) -> str:
    """``absent``, ``loading``, ``ready`` or ``stopping``."""
    view = state.keeper
    if view.phase is WorkloadPhase.ALIVE:
        return "ready" if view.ready else "loading"
    return "absent" if view.phase is WorkloadPhase.GONE else "stopping"


def measure_budget(state: State) -> dict[str, float | None]:
    """The restarts that count now, how many are allowed (None without guard), and when the next one may
    start, in seconds from now (None unless one waits).
    """
    now, rules = state.now + state.config.epoch, state.config
    used = sum(now - charge.at < rules.restart_window for charge in state.recovery.charges)
    pause = 0.0 if state.up else earliest_start(state) - state.now
    return {
        "used": used,
        "allowed": rules.max_restarts if rules.guard else None,
        "window_seconds": rules.restart_window,
        "next_restart_seconds": round(pause, 3) if pause > 0 else None,
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
    at = state.store.leases.contact_since if state.connected else state.store.leases.last_reply_at
    return None if at is None else round(at + state.config.epoch, 3)


def _describe_instance(state: State, rank: int, lost: Collection[int]) -> dict[str, Any]:
    record = state.me if rank == state.config.rank else state.store.records.get(rank)
    lease = _seconds_since_sign(state, rank)
    return {
        "rank": rank,
        "incarnation": record.incarnation if record else None,
        "ip": record.ip if record else None,
        "port": record.port if record else None,
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
    """Seconds since the rank's last sign of life, a heartbeat or an answer; for myself, since the store last
    answered, or none while it is away.
    """
    if rank != state.config.rank:
        return _seconds_since_peer(state, rank)
    last = state.store.leases.last_reply_at
    return None if last is None else max(0.0, state.now - last) if state.connected else 0.0


def _seconds_since_peer(state: State, rank: int) -> float | None:
    record = state.store.records.get(rank)
    if record is None:
        return None
    beaten = state.store.leases.seconds_since_beat(record.incarnation, state.now)
    return beaten and min(beaten, state.now - state.peers.known_alive_at.get(record.incarnation, NEVER))
