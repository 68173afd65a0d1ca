"""Keepers: a second supervised process group on each rank, which outlives generations and holds what is slow
to load, such as the weights of an engine.

The keepers of a Unit are one process group over all ranks, as its workload is, and start like it: behind the
barrier of a generation, with that generation's number and master port. Such a generation starts keepers and
nothing else. When all of them are ready, the next generation is proposed (:mod:`keeper_rules`), and its
workload, like those of later ones, runs with these keepers.

A gang names the keepers that its workload uses (``Gang.keepers``), so its id, which all ranks confirm, says
that all of these keepers were ready in one snapshot of the store, or that none was left anywhere, and that
this gang starts them.

The invariant: my record follows from :class:`state_parts.KeeperView`, and only :func:`set_keeper` changes
both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from unitagent.core.actions import Action, SpawnKeeper, StopKeeper
from unitagent.core.events import KeeperExited, KeeperGone, KeeperReady, KeeperStale, KeeperStuck
from unitagent.core.exits import Exit
from unitagent.core.model import Failure, Gang, InstanceState, KeeperRecord, Reason, Record, format_ranks
from unitagent.core.state import Result, State, describe_rank, make_failure, update_record
from unitagent.core.state_parts import WorkloadPhase

# What a roster agrees on.


def are_keepers_alike(roster: Sequence[Record]) -> bool:
    """Whether a gang of these records can start: nobody has keepers, or no process of a keeper is left on any
    rank, or all have a ready one of the same gang.
    """
    first = _read_before_start(roster[0])
    alike = all(_read_before_start(record) == first for record in roster)
    return alike and (first is UNSET or first.ready or not first.gang)


def find_keepers(roster: Sequence[Record]) -> str | None:
    """The keepers that a gang of these records uses, as :class:`model.Gang` names them."""
    first = _read_before_start(roster[0])
    return None if first is UNSET else first.gang


def _read_before_start(record: Record) -> KeeperRecord | UnsetType:
    """What this record said of its keeper at the barrier: one that has just started it had none there."""
    keeper = record.keeper
    just_started = keeper is not UNSET and bool(keeper.gang) and keeper.gang == record.gang
    return KeeperRecord() if just_started and record.state.started else keeper


def has_keepers_of(state: State, gang: Gang) -> bool:
    """Whether my keeper is as this gang needs it: ready, or still to be started."""
    view = state.keeper
    if gang.starts_keepers:
        return view.phase is WorkloadPhase.GONE
    return gang.keepers is None or (view.ready and view.gang is not None and view.gang.id == gang.keepers)


def explain_keepers(roster: Sequence[Record]) -> list[str]:
    """Which keepers keep the barrier closed, in words."""
    without = [record.rank for record in roster if record.keeper is UNSET]
    if len(without) == len(roster):
        return []
    left = [record.rank for record in roster if record.keeper is not UNSET and record.keeper.gang]
    parts = [f"{format_ranks(without)} without UNIT_KEEPER"] if without else []
    if left and not are_keepers_alike(roster):
        parts.append(f"the keepers of {format_ranks(left)} have yet to end, so that all start together")
    return parts


def list_unready(state: State) -> list[int]:
    """The ranks whose keepers are not ready, as far as I know."""
    everybody = {**state.store.records, state.config.rank: state.me}
    records = (everybody.get(rank) for rank in range(state.config.size))
    return [rank for rank, record in enumerate(records) if record is None or not _is_ready(record)]


def _is_ready(record: Record) -> bool:
    return record.keeper is not UNSET and record.keeper.ready


# The life of a keeper.


def set_keeper(state: State, **changes: Any) -> State:
    """The state with changes to my keeper, and the record that follows from them."""
    state = state.with_keeper(**changes)
    view = state.keeper
    gang = view.gang.id if view.gang is not None else ""
    return update_record(state, keeper=KeeperRecord(gang=gang, ready=view.ready))


def start_keeper(state: State, gang: Gang) -> Result:
    """Start the keeper as a member of this gang, in whose generation nothing else runs."""
    state = set_keeper(
        state, gang=gang, phase=WorkloadPhase.ALIVE, ready=False, since=state.now, grace=0.0, stuck=""
    )
    return state, (SpawnKeeper(gang),)


def stop_keeper(state: State, grace: float) -> Result:
    """Tell the keeper to end."""
    return set_keeper(state, phase=WorkloadPhase.STOPPING, ready=False, grace=grace), (StopKeeper(grace),)


def stop_keeper_at_once(state: State) -> Result:
    """Kill the keeper, if there is one that is not being killed."""
    view = state.keeper
    killed = view.phase is WorkloadPhase.STOPPING and view.grace == 0
    nothing: tuple[Action, ...] = ()
    return (state, nothing) if view.phase is WorkloadPhase.GONE or killed else stop_keeper(state, 0.0)


def has_loaded(state: State) -> bool:
    """Whether my generation started keepers and did not fail, so that its end is no restart."""
    last = state.recovery.failure
    failed = last is not None and last.generation == state.me.generation
    return state.loads_keepers and state.keeper.ready and not failed


def leave_loading(state: State) -> State:
    """The state after a generation that started keepers: no workload was started in it. A keeper that is not
    ready ends at the next barrier.
    """
    marks = state.recovery.timestamps
    if marks.failed is not None and marks.stopped is None:
        state = state.with_recovery(timestamps=replace(marks, stopped=state.now))
    return update_record(state.with_workload(phase=WorkloadPhase.GONE), state=InstanceState.EXITED, pid=None)


# Events.


def apply_keeper_event(
    state: State, event: KeeperReady | KeeperExited | KeeperGone | KeeperStuck | KeeperStale
) -> State:
    """The state with what became of my keeper."""
    view = state.keeper
    match event:
        case KeeperReady():
            awaited = view.phase is WorkloadPhase.ALIVE and state.loads_keepers
            return set_keeper(state, ready=True) if awaited else state
        case KeeperExited() if view.phase is WorkloadPhase.ALIVE:
            state = _note_keeper_failure(state, event.exit)
            return set_keeper(state, phase=WorkloadPhase.MAIN_EXITED, ready=False)
        case KeeperGone():
            return set_keeper(state, gang=None, phase=WorkloadPhase.GONE, ready=False, stuck="", stale="")
        case KeeperStuck():
            return state.with_keeper(stuck=event.detail)
        case KeeperStale() if view.phase is WorkloadPhase.ALIVE:
            return state.with_keeper(stale=event.detail)
    return state


def _note_keeper_failure(state: State, ended: Exit) -> State:
    """The state with the failure that the end of my keeper is: always before the workload starts, since it
    would start without the keeper, and while it runs unless keepers are replaced with the next restart.
    """
    end = state.shutdown
    if end.stop_requested or end.draining or end.leaving is not None:
        return state
    if state.config.relaunch and state.in_gang and not state.loads_keepers:
        return state
    return state.with_workload(
        pending_failure=state.workload.pending_failure or _make_keeper_failure(state, ended)
    )


def _make_keeper_failure(state: State, ended: Exit) -> Failure:
    rank = state.config.rank
    detail = f"{describe_rank(state, rank)}: its keeper {ended.describe_exit()}"
    detail += ", and has to stay in the foreground" if ended.code == 0 else ""
    failure = make_failure(state, rank, Reason(ended.reason), detail)
    return replace(failure, exit_code=ended.code, signal=ended.signal)
