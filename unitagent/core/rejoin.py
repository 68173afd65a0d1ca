"""Without guard a rebuilt instance other than rank 0 joins the running generation alone; no other
instance restarts.

Rank 0 is the witness: if it runs, the barrier has opened. So an instance outside a generation starts
alone while a living rank 0 runs, and waits at the barrier with the others while rank 0 does not run.
"""

from __future__ import annotations

from msgspec.structs import replace

from unitagent.core.actions import WatchPeers
from unitagent.core.barrier import has_done_its_part, start_workload
from unitagent.core.config import Mode
from unitagent.core.events import ProbeResult
from unitagent.core.exits import ExitCode
from unitagent.core.gang_checks import (
    build_gang,
    check_peers,
    describe_differences,
    find_clashes,
    find_unproven,
)
from unitagent.core.members import watched_peers
from unitagent.core.model import Gang, InstanceState, Record
from unitagent.core.restart_pause import is_paused
from unitagent.core.state import (
    Result,
    State,
    is_observed,
    is_still_mine,
    longest_takeover,
    look_for_successor,
    request_exit,
    update_record,
)


def rejoin_generation(state: State) -> Result:
    """Start in the running generation."""
    gang = _running_gang(state) if may_rejoin(state) and not is_paused(state) else None
    if gang is None:
        return state, ()
    patience = _time_for_successor(state)
    if not is_still_mine(state, patience):
        return look_for_successor(state, patience), ()
    unproven = find_unproven(state, state.store.records.values())
    if any(_must_prove_itself(state, record) for record in unproven):
        return check_peers(state, gang, unproven)
    differing = describe_differences([state.store.records[0], state.me], strict=state.config.strict)
    if differing and state.config.strict:
        return request_exit(state, ExitCode.DISAGREE, differing), ()
    apart = state.workload.isolated or state.me.gang != state.store.records[0].gang
    if apart:  # I know nothing of those whose heartbeats I have not read, except that some just answered
        state = state.with_store(leases=state.store.leases.restart_all(state.now), tenure_confirmed=False)
        state = state.with_peers(known_alive_at={**_list_recent_answers(state), **state.peers.known_alive_at})
    return start_workload(update_record(state, generation=gang.generation), gang)


def _time_for_successor(state: State) -> float:
    """Seconds that an instance has which took my rank while I was away, to write itself into a store that was
    set back. If I was away for a takeover, it may hang, and run until its watchdog ends it.
    """
    timing = state.config.timing
    return timing.takeover if state.store.leases.absence >= timing.takeover else timing.beat_due


def _list_recent_answers(state: State) -> dict[str, float]:
    """Return when the peers that I have just probed answered."""
    recent = state.now - state.config.timing.operation_timeout
    return {one: at for one, at in state.barrier.reached_at.items() if at >= recent}


def _must_prove_itself(state: State, record: Record) -> bool:
    """Whether to wait for this peer's answer: always for rank 0, and for any instance that has not started,
    since nobody has probed it yet. A silent member may be down, and will rejoin alone, too.
    """
    result = state.barrier.probe_results.get(record.incarnation)
    if record.rank == 0 or result is None:
        return True
    return not record.state.started and result not in {ProbeResult.SILENT, ProbeResult.REFUSED}


def may_rejoin(state: State) -> bool:
    """Whether I am outside a running generation and may join it alone."""
    if (
        state.ends_whole_unit
        or state.up
        or state.done
        or not (state.store.is_new_snapshot and state.holds_rank)
    ):
        return False
    leader = state.store.records.get(0)
    return leader is not None and _is_running(state, leader) and not _may_duplicate_holder(state)


def _may_duplicate_holder(state: State) -> bool:
    """Whether another instance may still serve as my rank. I took the rank in a store that knew nobody there,
    while the Unit ran: a forgotten holder has as long to write again as an isolated agent may live. Or the
    holder was only silent and I cannot ask anybody: an instance that served on while that one held the rank
    needs two of my heartbeats to see that I am alive, and stops.
    """
    if state.workload.gang is not None:
        return False
    predecessor = state.store.predecessor
    if predecessor is None:
        return not is_observed(state, longest_takeover(state, *state.store.records.values()))
    since = state.now if state.store.joined_at is None else state.store.joined_at
    unasked = not (state.me.port or predecessor.has_left)
    return unasked and not is_observed(state, 2 * state.config.timing.beat_due, since)


def _is_running(state: State, leader: Record) -> bool:
    """Whether rank 0 is alive, which it has shown in this contact, and runs the generation that I know, in a
    Unit to which I belong.
    """
    here = leader.state.started and leader.generation == state.generation and not leader.stop_requested
    alike = leader.size == state.config.size and leader.revision == state.me.revision
    leases = state.store.leases
    late = leases.seconds_unchanged(leader.incarnation) > state.config.lease
    return here and alike and leases.is_beating(leader.incarnation) and not late


def _running_gang(state: State) -> Gang | None:
    everybody = {**state.store.records, state.config.rank: state.me}
    everybody = {rank: record for rank, record in everybody.items() if not _is_past(state, record)}
    if any(rank not in everybody for rank in range(state.config.size)) or find_clashes(everybody.values()):
        return None
    if any(_cannot_be_a_member(state, record) for record in everybody.values()):
        return None
    generations = {everybody[rank].generation for rank in everybody if rank != state.config.rank}
    if not generations <= {0, state.generation}:  # none yet, or the running one
        return None  # a predecessor, shown by a store that has lost writes
    return build_gang(state.generation, [everybody[rank] for rank in range(state.config.size)])


def _is_past(state: State, record: Record) -> bool:
    """Whether this is the record of a rank that this Unit has not, and nobody beats there: an instance with a
    larger UNIT_SIZE has come and gone.
    """
    return record.rank >= state.config.size and not state.store.leases.is_beating(record.incarnation)


def _cannot_be_a_member(state: State, record: Record) -> bool:
    """Whether this instance starts in no generation of mine: it has another UNIT_SIZE, or it left before it
    started anything. Its successor is yet to come.
    """
    never_started = record.state in (InstanceState.WAITING, InstanceState.IDLE)
    return record.size != state.config.size or (record.has_left and never_started)


def admit_rejoined(state: State) -> Result:
    """A member that was rebuilt and has rejoined replaces the old one in my gang."""
    old = state.workload.gang
    if state.config.guard or not state.store.is_new_snapshot or old is None or not state.in_gang:
        return state, ()
    rebuilt = {record.rank: record for record in state.store.records.values() if _has_rejoined(old, record)}
    rebuilt.pop(state.config.rank, None)
    if not rebuilt:
        return state, ()
    everywhere = range(state.config.size)
    gang = replace(
        old,
        incarnations=tuple(
            rebuilt[r].incarnation if r in rebuilt else old.incarnations[r] for r in everywhere
        ),
        ips=tuple(rebuilt[r].ip if r in rebuilt else old.ips[r] for r in everywhere),
    )
    presumed_lost = {rank: why for rank, why in state.peers.presumed_lost.items() if rank not in rebuilt}
    state = state.with_workload(gang=gang).with_peers(presumed_lost=presumed_lost)
    return state, (WatchPeers(watched_peers(state)),)


def _has_rejoined(gang: Gang, record: Record) -> bool:
    other = 0 < record.rank < len(gang.incarnations) and record.incarnation != gang.incarnations[record.rank]
    return other and record.generation == gang.generation and record.state.started


def restart_job_for_late_joiner(state: State) -> Result:
    """Rank 0 has finished its part of the job, so there is nothing to rejoin: the whole job starts
    again.
    """
    waits = state.me.state is InstanceState.IDLE or (state.workload.isolated and not state.up)
    if (
        not waits
        or not (state.store.is_new_snapshot and state.holds_rank)
        or state.ends_whole_unit
        or state.config.mode is not Mode.JOB
    ):
        return state, ()
    leader = state.store.records.get(0)
    over = leader is not None and leader.state is InstanceState.EXITED and not leader.has_left
    if leader is None or not over or leader.generation != state.me.generation:
        return state, ()
    if not state.workload.isolated and has_done_its_part(
        state, leader
    ):  # in the gang with which I will start
        return state, ()
    return state.with_generation(state.me.generation + 1).with_store(notify=True), ()
