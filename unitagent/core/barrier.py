"""The barrier: all ranks are idle in one generation, each confirms the same gang, then all start.

There is no coordinator and no lock. A rank *enters* a generation once no process of its older workload
is alive. When it sees all ``size`` records there, it *confirms* the gang (generation, roster,
addresses, master port). When it sees in one snapshot of the store that all have confirmed that very
gang, it starts. If the roster changes in between, that is another gang, to be confirmed again.
"""

from __future__ import annotations

from msgspec.structs import replace

from unitagent.core import failures, keepers
from unitagent.core.actions import FindPort, Level, Spawn, WatchPeers
from unitagent.core.config import Mode
from unitagent.core.exits import ExitCode
from unitagent.core.gang_checks import (
    build_gang,
    check_peers,
    describe_differences,
    explain_clashes,
    explain_foreign,
    explain_unproven,
    find_clashes,
    find_unproven,
)
from unitagent.core.members import gang_members, seconds_late, watched_peers
from unitagent.core.model import Gang, InstanceState, Record, format_age, format_ranks, shorten_list
from unitagent.core.probe_answers import describe_absence, describe_loading
from unitagent.core.rank_ownership import is_gone
from unitagent.core.restart_pause import describe_pause, earliest_start, is_paused
from unitagent.core.state import (
    Result,
    State,
    describe_rank,
    describe_trouble,
    is_observed,
    is_still_mine,
    log_line,
    longest_takeover,
    look_for_successor,
    request_exit,
    update_record,
)
from unitagent.core.state_parts import RecoveryTimestamps, WorkloadPhase

FIRST_REPORT, LAST_REPORT = 5.0, 60.0  # seconds between reports on missing ranks; the interval grows
CONFIRM_AGAIN = 1.0  # seconds between two looks of those who have all confirmed, and have yet to beat again


def enter_generation(state: State) -> Result:
    """Publish the generation that I enter. My old workload is proven dead here; the order is never
    reversed.
    """
    if state.up or not state.connected:
        return state, ()
    if not state.store.is_new_snapshot and _has_to_look_first(state):
        return state.with_store(exchange_due=True), ()
    if state.workload.isolated and not is_still_mine(state):
        return look_for_successor(state), ()
    target = _choose_generation(state)
    if target == state.me.generation:
        return state, ()
    if state.shutdown.draining:  # others wait for the end of my workload
        state = state.with_store(notify=True)
    state = update_record(
        state.with_generation(target),
        generation=target,
        state=InstanceState.IDLE,
        gang="",
        master_port=0,
        pid=None,
        exit_code=None,
        draining=False,
        lost=(),
    )
    return _forget_older_generation(state), log_line(
        Level.INFO, f"at the barrier of generation {target}", "generation"
    )


def _has_to_look_first(state: State) -> bool:
    """Whether to read the store first, to learn what became of my generation: I was isolated, or
    without guard rank 0 may have been rebuilt, so that my container must be rebuilt, too.
    """
    follows = not state.ends_whole_unit and state.in_gang and not state.shutdown.draining
    return state.workload.isolated or follows


def _forget_older_generation(state: State) -> State:
    """The state without the facts that concern only the older generation."""
    report_at = state.now + FIRST_REPORT
    state = state.with_barrier(
        entered=state.now, probe_results={}, probing_gang="", probe_again_at=0.0, report_at=report_at
    )
    state = state.with_workload(isolated=False, exit=None, pending_failure=None)
    state = state.with_shutdown(draining_since=None, drained=False, awaiting_drain=False)
    return state.with_peers(presumed_lost={})


def _choose_generation(state: State) -> int:
    """The generation to be in: my own while it can still start, else the highest known, or a new one."""
    if state.me.generation == 0:
        return max(state.generation, 1)
    through = state.in_gang and not state.done and not _waits_to_rejoin(state)
    return max(state.generation, state.me.generation + 1 if through else state.me.generation)


def _waits_to_rejoin(state: State) -> bool:
    """Whether it is outside a generation that may continue without it. An agent that drains has ended
    its part.
    """
    outside = state.workload.isolated and not state.ends_whole_unit and not state.shutdown.draining
    return outside and not _has_generation_died(state)


def _has_generation_died(state: State) -> bool:
    """Whether rank 0 still stands at the barrier of a generation that I have been through, and no member
    runs in it any more: it cannot open again for me. A member that the store has forgotten has as long to
    write again as an isolated agent may live.
    """
    here = [one for one in state.store.records.values() if one.generation == state.me.generation]
    stands = any(one.rank == 0 and one.state is InstanceState.IDLE for one in here)
    runs = any(one.state.started for one in here)
    return stands and not runs and is_observed(state, state.config.timing.takeover)


def confirm_in_advance(state: State) -> Result:
    """Confirm the gang of the last start with the very record that enters its next generation, if all of its
    members are to meet again: then one snapshot shows both that all stand there and that all have confirmed
    it. If it comes to another gang, that one is confirmed in its turn.
    """
    if state.me.gang or not state.connected or state.now < earliest_start(state):
        return state, ()
    roster = _predict_roster(state)
    if not roster or find_unproven(state, roster):
        return state, ()
    gang = build_gang(state.me.generation, roster)
    return update_record(state.with_barrier(confirmed_members=tuple(roster)), gang=gang.id), ()


def _predict_roster(state: State) -> list[Record]:
    """The members of my last gang with the port that rank 0 has, or will choose; empty if they cannot meet
    again as they are.
    """
    last, generation = state.workload.gang, state.me.generation
    others = sorted((*gang_members(state), state.me), key=lambda record: record.rank)
    if last is None or len(others) != state.config.size or not keepers.are_keepers_alike(others):
        return []
    leader = others[0]
    port = leader.master_port if leader.generation == generation else leader.next_port
    fit = all(
        record.generation <= generation
        and (record.size, record.revision) == (state.config.size, state.me.revision)
        and not (record.stop_requested or record.has_left or record.budget_exhausted)
        for record in others
    )
    return [replace(leader, master_port=port), *others[1:]] if port and fit else []


def start_late(state: State) -> Result:
    """Start with the gang that I confirmed if another member has already started with it and is present:
    then all had confirmed it. A store that was set back since shows neither that nor me any more. Without
    guard a member that was rebuilt meanwhile rejoins alone; with guard the generation is over and I do not
    start in it.
    """
    shown, named, roster = state.store.records, state.me.gang, state.barrier.confirmed_members
    if not (named and roster and state.store.is_new_snapshot and is_still_mine(state)):
        return state, ()
    started = [one for one in shown.values() if one.gang == named and one.state.started]
    if not any(is_present(state, one) for one in started):
        return state, ()
    gang = build_gang(state.me.generation, list(roster))
    rebuilt = {one.rank for one in roster if _was_replaced(shown.get(one.rank), one)}
    if gang.id != named or not keepers.has_keepers_of(state, gang):
        return state, ()
    replaced = state.config.rank in rebuilt  # while I slept: the instance that has my rank now may run
    if replaced or (rebuilt and state.config.guard):
        return state, ()
    others = (one for one in roster if one.rank != state.config.rank)
    lost = {one.rank: one for one in others if not _is_newer(shown.get(one.rank), one)}
    return start_workload(state.with_store(records={**shown, **lost}), gang)


def _is_newer(shown: Record | None, known: Record) -> bool:
    return shown is not None and shown.supersedes(known)


def _was_replaced(shown: Record | None, known: Record) -> bool:
    return shown is not None and shown.incarnation != known.incarnation and shown.outranks(known)


def advance_barrier(state: State) -> Result:
    """One step at the barrier: find the port, confirm the gang, start."""
    if _lacks_port(state):
        return state.with_barrier(finding_port=state.me.generation), (FindPort(state.me.generation),)
    if not state.store.is_new_snapshot:
        return state.with_store(exchange_due=True) if _is_check_due(state) else state, ()
    if not state.holds_rank:
        return state, ()
    if any(_finished_without_me(state, record) for record in state.store.records.values()):
        return failures.restart_with_me(state), ()
    roster = _find_full_roster(state)
    if roster is None or roster[0].master_port == 0:
        return state, ()
    if _has_begun_before(state, roster):
        return state.with_generation(state.me.generation + 1).with_store(notify=True), ()
    return _advance_full_barrier(state, roster)


def _advance_full_barrier(state: State, roster: list[Record]) -> Result:
    """One step with all ranks at my barrier: confirm their gang, start."""
    alike, gang = keepers.are_keepers_alike(roster), build_gang(state.me.generation, roster)
    unanimous = alike and all(_has_confirmed(state, record, gang) for record in roster)
    if state.store.wrote_last and (unanimous or _is_awaited(state, alike=alike)):
        state = state.with_store(notify=True, wrote_last=False)
    if not alike:  # some keepers have yet to end
        left_out = any(record.state.started and not _may_follow(state, record) for record in roster)
        return (failures.restart_with_me(state) if left_out else state), ()
    if any(record.state.started and record.gang != gang.id for record in roster):
        return failures.restart_with_me(state), ()
    if state.me.gang != gang.id:
        return _confirm_gang(state, gang, roster)
    if not unanimous or is_paused(state):
        return state, ()
    if not _shows_the_present(state, roster):  # all of us look again soon, which is a heartbeat of each
        return state.with_store(next_beat=min(state.store.next_beat, state.now + CONFIRM_AGAIN)), ()
    if state.config.size == 1 and not is_still_mine(state):  # nobody else knows of a successor
        return look_for_successor(state), ()
    return start_workload(state, gang)


def _may_follow(state: State, member: Record) -> bool:
    """Whether I may start in the gang of a member that has started: I confirmed it, and have its keeper."""
    roster = state.barrier.confirmed_members
    if not roster or member.gang != state.me.gang:
        return False
    return keepers.has_keepers_of(state, build_gang(state.me.generation, list(roster)))


def _is_awaited(state: State, *, alike: bool) -> bool:
    """Whether others wait for my change: it brought me, or the master port, to this barrier, where nobody saw
    all ranks before, or mine was the last keeper to end. A confirmation is awaited only if it is the last.
    """
    before, me = state.store.previous_record, state.me
    if before is None or not counts_at_barrier(state, before) or before.master_port != me.master_port:
        return True
    return alike and before.keeper != me.keeper


def _shows_the_present(state: State, roster: list[Record]) -> bool:
    """Whether the members confirm this now. The store may have come back as it was, and they may have gone on
    without me; so those whose heartbeats I read have to come or to beat in this contact. An instance that has
    not started yet needs that only after an outage since it took its rank: nothing older than it shows it.
    """
    contact, joined = state.store.leases.contact_since, state.store.joined_at
    if state.workload.gang is None and contact is not None and joined is not None and contact <= joined:
        return True
    return all(is_present(state, one) for one in roster if one.rank != state.config.rank)


def is_present(state: State, member: Record) -> bool:
    """Whether it has come or beaten in this contact, or I do not read its heartbeats."""
    leases, one = state.store.leases, member.incarnation
    return leases.is_unknown(one) or leases.is_present(one)


def _has_begun_before(state: State, roster: list[Record]) -> bool:
    """Whether I saw this generation start under another rank 0, which the store has forgotten since.
    Some members may still run, so the Unit needs another number.
    """
    generation, leader = state.store.last_started_leader
    again = generation == state.me.generation and leader != roster[0].incarnation
    return again and not any(record.state.started for record in roster)


def _is_check_due(state: State) -> bool:
    """Whether to probe the unreached peers again, with no look at the store since."""
    barrier, last = state.barrier, state.store.leases.last_reply_at
    due = barrier.probe_results and not barrier.probing_gang and last is not None
    return bool(due) and not state.store.exchange_due and (last or 0.0) < barrier.probe_again_at <= state.now


def is_waiting_for_port(state: State) -> bool:
    """Whether I am looking for the master port: before I have it, nobody can start."""
    idle = state.config.rank == 0 and state.me.state is InstanceState.IDLE
    return idle and state.me.master_port == 0 and state.barrier.finding_port == state.me.generation


def _lacks_port(state: State) -> bool:
    """Whether I have yet to look for the master port."""
    looked = state.barrier.finding_port == state.me.generation
    return state.config.rank == 0 and state.me.master_port == 0 and not looked


def _has_confirmed(state: State, record: Record, gang: Gang) -> bool:
    """Whether the store shows that this record confirms the gang; my own confirmation counts only once
    others can see it.
    """
    shown = state.store.published if record.rank == state.config.rank else record
    return shown is not None and shown.gang == gang.id


def counts_at_barrier(state: State, record: Record) -> bool:
    """Whether this record counts at my barrier."""
    here = record.generation == state.me.generation and record.size == state.config.size
    fit = record.revision == state.me.revision and not (
        record.stop_requested or record.has_left or record.budget_exhausted
    )
    open_yet = record.state is InstanceState.IDLE or record.state.started or has_done_its_part(state, record)
    return here and fit and open_yet


def has_done_its_part(state: State, record: Record) -> bool:
    """Whether a short job has finished on that rank before I saw that my own gang may start."""
    return _has_finished_job(state, record) and record.gang == state.me.gang


def _has_finished_job(state: State, record: Record) -> bool:
    ended_well = record.state is InstanceState.EXITED and record.exit_code == 0
    return state.config.mode is Mode.JOB and ended_well and bool(record.gang)


def _finished_without_me(state: State, record: Record) -> bool:
    """Whether a job has finished on that rank in my generation, with a gang that is not mine any more: a
    member was rebuilt meanwhile.
    """
    here = record.generation == state.me.generation and record.rank != state.config.rank
    return here and not record.has_left and _has_finished_job(state, record) and record.gang != state.me.gang


def _find_full_roster(state: State) -> list[Record] | None:
    everybody = {**state.store.records, state.config.rank: state.me}
    roster = [everybody[rank] for rank in range(state.config.size) if rank in everybody]
    full = len(roster) == state.config.size and all(_stands_here(state, record) for record in roster)
    return roster if full and not (find_clashes(roster) or _find_displaced(state, roster)) else None


def _stands_here(state: State, record: Record) -> bool:
    """Whether it counts at my barrier and lives: one that confirmed long ago may have died since, and starts
    nothing.
    """
    late = record.rank != state.config.rank and seconds_late(state, record)
    return counts_at_barrier(state, record) and not late


def _find_displaced(state: State, roster: list[Record]) -> list[tuple[Record, Record]]:
    """Members that I have confirmed and that may still run, each with the earlier holder of its rank that a
    store which was set back shows in its place.
    """
    confirmed = {record.rank: record for record in state.barrier.confirmed_members}
    both = [(confirmed[shown.rank], shown) for shown in roster if shown.rank in confirmed]
    return [
        (former, shown)
        for former, shown in both
        if former.incarnation not in {shown.incarnation, state.me.incarnation}
        and former.tenure >= shown.tenure
        and not former.has_left
        and not state.store.leases.is_unknown(former.incarnation)
        and not is_gone(state, former.incarnation)
    ]


def _confirm_gang(state: State, gang: Gang, roster: list[Record]) -> Result:
    """Confirm the gang once its members are reached and the pause before a restart is over."""
    differing = describe_differences(roster, strict=state.config.strict)
    if differing and state.config.strict:
        return request_exit(state, ExitCode.DISAGREE, differing), ()
    warning = log_line(Level.WARNING, differing) if differing and differing not in state.warned else ()
    state = replace(state, warned=state.warned | {differing}) if differing else state
    unproven = find_unproven(state, roster)
    if unproven:
        state, actions = check_peers(state, gang, unproven)
        return state, (*warning, *actions)
    if state.now < earliest_start(state):
        return state, warning
    return update_record(
        state.with_barrier(probe_results={}, confirmed_members=tuple(roster)), gang=gang.id
    ), warning


def start_workload(state: State, gang: Gang) -> Result:
    """Start the workload as a member of this gang."""
    here = [record for record in state.store.records.values() if record.generation == gang.generation]
    state = update_record(
        _reset_for_start(state, gang),
        state=InstanceState.STARTING,
        gang=gang.id,
        restarts=max([state.me.restarts, *(record.restarts for record in here)]),
        exit_code=None,
    )
    where = f"MASTER_ADDRESS={gang.master_address} MASTER_PORT={gang.master_port}"
    what = " for the keepers" if gang.starts_keepers else ""
    opened = log_line(
        Level.INFO, f"the barrier of generation {gang.generation} opened{what}; {where}", "barrier"
    )
    state, spawn = keepers.start_keeper(state, gang) if gang.starts_keepers else (state, (Spawn(gang),))
    return state, (*opened, *spawn, WatchPeers(watched_peers(state)))


def _reset_for_start(state: State, gang: Gang) -> State:
    """The state with a living workload and without any evidence against peers."""
    nobody: frozenset[int] = frozenset()
    state = state.with_workload(
        gang=gang,
        phase=WorkloadPhase.ALIVE,
        grace=0.0,
        exit=None,
        pending_failure=None,
        isolated=False,
        barrier_opened_ms=state.store.clock,
    ).with_peers(
        presumed_lost={}, unresponsive=nobody, awaiting_answer=nobody, disconnected=nobody, ask_again_at={}
    )
    last = state.recovery.timestamps
    under_way = (
        RecoveryTimestamps() if last.ready is not None else last
    )  # a finished recovery is not continued
    return state.with_recovery(timestamps=replace(under_way, opened=state.now, spawned=None, ready=None))


def report_missing(state: State) -> Result:
    """Log which ranks are missing and for how long, at growing intervals."""
    waited = state.now - state.barrier.entered
    if 0 < state.config.barrier_timeout < min(waited, state.now - earliest_start(state)):
        if state.connected and not state.store.is_new_snapshot:  # the others may have started meanwhile
            return state.with_store(exchange_due=True), ()
        why = f"the barrier of generation {state.me.generation} timed out: {explain_missing(state)}"
        return request_exit(state, ExitCode.BARRIER_TIMEOUT, why), ()
    if state.now < state.barrier.report_at:
        return state, ()
    pause = min(LAST_REPORT, max(FIRST_REPORT, waited))
    barrier = f"the barrier of generation {state.me.generation}"
    sentence = f"waiting for {waited:.0f} s at {barrier}: {explain_missing(state)}"
    return state.with_barrier(report_at=state.now + pause), log_line(Level.WARNING, sentence)


def explain_missing(state: State) -> str:
    """What keeps the barrier closed, in words; for a workload these may be its keepers."""
    if state.loads_keepers:
        return describe_loading(state)
    if state.workload.isolated and state.workload.isolation_reason and not state.connected:
        return state.workload.isolation_reason  # how the others are is not known
    everybody = {**state.store.records, state.config.rank: state.me}
    foreign = state.store.unverified_ranks - everybody.keys()
    known = everybody.keys() | foreign
    absent = [rank for rank in range(state.config.size) if rank not in known]
    there = [everybody[rank] for rank in range(state.config.size) if rank in everybody]
    parts = [f"{format_ranks(absent)} never joined"] if absent else []
    parts += [explain_foreign(state, sorted(foreign))] if foreign else []
    parts += shorten_list(
        [_explain_absence(state, record) for record in there if not _stands_here(state, record)]
    )
    parts += [_explain_displaced(state, *both) for both in _find_displaced(state, there)]
    parts += shorten_list([*explain_clashes(there), *explain_unproven(state, there)])
    parts += keepers.explain_keepers(there)
    if not state.connected:
        parts.append(f"the store does not answer{describe_trouble(state)}")
    elif not state.holds_rank:
        parts.append(f"the store shows another instance as rank {state.config.rank}")
    if state.now < state.barrier.backoff_until:
        left = state.barrier.backoff_until - state.now
        parts.append(f"the pause before a restart lasts another {format_age(left)} (UNIT_BACKOFF_SECONDS)")
    if state.me.pause is not None and is_paused(state):
        parts.append(describe_pause(state, state.me.pause))
    if parts:
        return "; ".join(parts)
    gang = build_gang(state.me.generation, there)
    unconfirmed = [record.rank for record in there if not _has_confirmed(state, record, gang)]
    if not unconfirmed:
        return "all ranks have confirmed; after an outage of the store each has to show that it is alive"
    return f"no confirmation from {format_ranks(unconfirmed)} yet"


def _explain_displaced(state: State, former: Record, shown: Record) -> str:
    wait = longest_takeover(state, former)
    return (
        f"the store has lost the instance at {former.ip} that held rank {shown.rank}, "
        f"and its workload may still run: waiting until it has been silent for {wait:g} s"
    )


def _explain_absence(state: State, record: Record) -> str:
    rank = describe_rank(state, record.rank)
    if record.has_left:
        return f"{rank} has left" + (", as the restart budget is spent" if record.budget_exhausted else "")
    if record.size != state.config.size:
        return f"{rank} has UNIT_SIZE={record.size}, rank {state.config.rank} has {state.config.size}"
    if record.revision != state.me.revision:
        mine = f"rank {state.config.rank} has {state.me.revision or 'none'}"
        waits = "they wait for each other; with UNIT_STRICT=true they would exit with 77"
        return f"{rank} has UNIT_REVISION={record.revision or 'none'}, {mine}: {waits}"
    if record.incarnation in state.peers.connection_refused:
        return f"{rank} is gone, its address refuses connections: waiting for its replacement"
    return (
        describe_absence(state, record.rank) or f"{rank} is {record.state} in generation {record.generation}"
    )
