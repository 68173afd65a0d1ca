"""The barrier: all ranks stand idle at one generation, each has confirmed the same gang, then all start.

There is no coordinator and no lock. A rank *enters* a generation once nothing of its older workload lives;
when it sees all ``size`` records there it *confirms* the gang (generation, roster, addresses, master port);
when it sees that all have confirmed that very gang, in one snapshot of the store, it starts. A roster that
changes in between makes another gang, which must be confirmed anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from unitagent.core.actions import FindPort, Level, Spawn, WatchPeers
from unitagent.core.exits import Code
from unitagent.core.identity import (
    check_peers,
    explain_clashes,
    explain_foreign,
    explain_unproven,
    find_clashes,
    find_unproven,
)
from unitagent.core.model import Gang, InstanceState, Mode, Record, few, ranks
from unitagent.core.parts import Marks, Work
from unitagent.core.state import (
    Result,
    State,
    go,
    is_observed,
    is_still_mine,
    late_by,
    look_for_successor,
    mine,
    name,
    say,
    watched,
)

FIRST_REPORT, LAST_REPORT = 5.0, 60.0  # seconds between reports on who is missing: they grow up to the last


def enter(state: State) -> Result:
    """Announce the generation that I go for. My old workload is proven dead here: never the other order."""
    if state.up or not state.connected:
        return state, ()
    if not state.store.current and _has_to_look_first(state):
        return state.with_store(look=True), ()
    if state.workload.cut_off and not is_still_mine(state):
        return look_for_successor(state), ()
    target = _target(state)
    if target == state.me.generation:
        return state, ()
    if state.shutdown.draining is not None:  # others wait for my workload's end
        state = state.with_store(notify=True)
    state = mine(
        state.knowing(target),
        generation=target,
        state=InstanceState.IDLE,
        gang="",
        master_port=0,
        pid=None,
        exit_code=None,
        draining=False,
        lost=(),
    )
    return _afresh(state), say(Level.INFO, f"at the barrier of generation {target}")


def _has_to_look_first(state: State) -> bool:
    """Whether the store has to tell what became of my generation: I was cut off, or without guard its rank 0
    may have been rebuilt, and has me rebuilt, too.
    """
    follows = not state.leads and state.in_gang and state.shutdown.draining is None
    return state.workload.cut_off or follows


def _afresh(state: State) -> State:
    """Without what was known of the older generation only."""
    report_at = state.now + FIRST_REPORT
    state = state.with_barrier(entered=state.now, found={}, checking="", check_again=0.0, report_at=report_at)
    state = state.with_workload(cut_off=False, exit=None, ended=None)
    state = state.with_shutdown(draining=None, drained=False, awaiting_drain=False)
    return state.with_peers(suspects={})


def _target(state: State) -> int:
    """The generation to stand in: mine while it can still open, else the highest known, or a new one."""
    if state.me.generation == 0:
        return max(state.generation, 1)
    through = state.in_gang and not state.done and not _waits_to_rejoin(state)
    return max(state.generation, state.me.generation + 1 if through else state.me.generation)


def _waits_to_rejoin(state: State) -> bool:
    """Whether it stands outside a generation that may go on without it; who drains has ended its part."""
    return state.workload.cut_off and not state.leads and state.shutdown.draining is None


def gang_of(generation: int, roster: list[Record]) -> Gang:
    """The gang of these records, in the order of their ranks; rank 0 says the port."""
    return Gang(
        generation=generation,
        incarnations=tuple(record.incarnation for record in roster),
        ips=tuple(record.ip for record in roster),
        master_port=roster[0].master_port,
    )


def start_late(state: State) -> Result:
    """Start with the gang that I have confirmed where another has started with it, so that all had confirmed
    it. A store that was set back since shows neither that nor me any more. Who was rebuilt meanwhile rejoins
    alone without guard; with guard the generation is over, and not begun here.
    """
    shown, named, roster = state.store.records, state.me.gang, state.barrier.confirmed
    opened = any(one.state.started and one.gang == named for one in shown.values())
    if not (named and roster and opened and state.store.current and is_still_mine(state)):
        return state, ()
    gang = gang_of(state.me.generation, list(roster))
    rebuilt = {one.rank for one in roster if _has_followed(shown.get(one.rank), one)}
    replaced = state.rules.rank in rebuilt  # while I slept: whoever has my rank by now may run
    if gang.id != named or replaced or (rebuilt and state.rules.guard):
        return state, ()
    others = (one for one in roster if one.rank != state.rules.rank)
    lost = {one.rank: one for one in others if not _is_newer(shown.get(one.rank), one)}
    return start(state.with_store(records={**shown, **lost}), gang)


def _is_newer(shown: Record | None, known: Record) -> bool:
    return shown is not None and shown.supersedes(known)


def _has_followed(shown: Record | None, known: Record) -> bool:
    return shown is not None and shown.incarnation != known.incarnation and shown.outranks(known)


def stand(state: State) -> Result:
    """One step at the barrier: find the port, confirm the gang, start."""
    if _lacks_port(state):
        return state.with_barrier(finding_port=state.me.generation), (FindPort(state.me.generation),)
    if not state.store.current:
        return state.with_store(look=True) if _is_check_due(state) else state, ()
    if not state.holds_rank:
        return state, ()
    roster = _roster(state)
    if roster is None or roster[0].master_port == 0:
        return state, ()
    if state.store.last_to_act:  # the others wait for this, and nobody but me knows that it has come
        state = state.with_store(notify=True, last_to_act=False)
    if _has_begun_before(state, roster):
        return state.knowing(state.me.generation + 1).with_store(notify=True), ()
    gang = gang_of(state.me.generation, roster)
    if any(record.state.started and record.gang != gang.id for record in roster):
        return _anew(state), ()
    if state.me.gang != gang.id:
        return _confirm(state, gang, roster)
    if all(_confirmed(state, record, gang) for record in roster):
        return start(state, gang)
    return state, ()


def _has_begun_before(state: State, roster: list[Record]) -> bool:
    """Whether I saw this generation begin under another rank 0, which the store has forgotten since: it takes
    another number, for some may still run.
    """
    generation, leader = state.store.led
    again = generation == state.me.generation and leader != roster[0].incarnation
    return again and not any(record.state.started for record in roster)


def _is_check_due(state: State) -> bool:
    """Whether peers that did not answer are to be asked again, and the store has not been looked at since."""
    barrier, last = state.barrier, state.store.leases.last
    due = barrier.found and not barrier.checking and last is not None
    return bool(due) and not state.store.look and (last or 0.0) < barrier.check_again <= state.now


def _lacks_port(state: State) -> bool:
    """Whether I have yet to look for the master port."""
    looked = state.barrier.finding_port == state.me.generation
    return state.rules.rank == 0 and state.me.master_port == 0 and not looked


def _confirmed(state: State, record: Record, gang: Gang) -> bool:
    """Whether the store shows it; my own word counts only once the others can see it too."""
    shown = state.store.published if record.rank == state.rules.rank else record
    return shown is not None and shown.gang == gang.id


def _anew(state: State) -> State:
    """Some have started without me: with guard, or at rank 0, only a new generation brings us together. Until
    I have held my rank for a lease in this contact, they may have started with somebody whom only the store
    has forgotten.
    """
    held = is_observed(state, state.rules.lease, since=state.store.joined or state.now)
    if not state.leads or not held:
        return state
    return state.knowing(state.me.generation + 1).with_store(notify=True)


def stands(state: State, record: Record) -> bool:
    """Whether this record counts at the barrier that I stand at."""
    here = record.generation == state.me.generation and record.size == state.rules.size
    fit = record.revision == state.me.revision and not (record.asked or record.left or record.failed)
    open_yet = record.state is InstanceState.IDLE or record.state.started or has_done_its_part(state, record)
    return here and fit and open_yet


def has_done_its_part(state: State, record: Record) -> bool:
    """Whether a short job has ended on that rank before I have seen that my own gang may start."""
    ended_well = record.state is InstanceState.EXITED and record.exit_code == 0
    return state.rules.mode is Mode.JOB and ended_well and bool(record.gang) and record.gang == state.me.gang


def _roster(state: State) -> list[Record] | None:
    everybody = {**state.store.records, state.rules.rank: state.me}
    roster = [everybody[rank] for rank in range(state.rules.size) if rank in everybody]
    full = len(roster) == state.rules.size and all(stands(state, record) for record in roster)
    return roster if full and not find_clashes(roster) else None


def _confirm(state: State, gang: Gang, roster: list[Record]) -> Result:
    """Confirm the gang once its members can be reached and the pause before a restart is over."""
    differing = differences(roster, strict=state.rules.strict)
    if differing and state.rules.strict:
        return go(state, Code.DISAGREE, differing), ()
    said = say(Level.WARNING, differing) if differing and differing not in state.warned else ()
    state = replace(state, warned=state.warned | {differing}) if differing else state
    unproven = find_unproven(state, roster)
    if unproven:
        state, actions = check_peers(state, gang, unproven)
        return state, (*said, *actions)
    if state.now < state.barrier.not_before:
        return state, said
    return mine(state.with_barrier(found={}, confirmed=tuple(roster)), gang=gang.id), said


def differences(roster: list[Record], *, strict: bool) -> str:
    """Which ranks differ from rank 0 in what must be equal, as one sentence; "" when none does."""
    wanted = _words(roster[0])
    odd = {record.rank: _differing(wanted, _words(record)) for record in roster[1:]}
    apart = {rank: told for rank, told in odd.items() if told}
    if not apart:
        return ""
    listed = "; ".join(few([f"rank {rank}: {told}" for rank, told in apart.items()]))
    return (
        f"these differ from rank 0's and must be equal on all ranks: {listed}; compare `unitagent env` and "
        f"`printenv` of {ranks([*apart])} with those of rank 0; UNIT_STRICT={_meaning(strict)}"
    )


def _meaning(strict: bool) -> str:
    return "true refuses them (exit 77)" if strict else "true would refuse them (exit 77)"


def _words(record: Record) -> dict[str, str]:
    parts = (word.partition("=") for word in record.fingerprint.split())
    return {name: value for name, _, value in parts}


def _differing(wanted: Mapping[str, str], found: Mapping[str, str]) -> str:
    """What differs, with both values where they are no hashes."""
    names = sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))
    return ", ".join(
        f"{name}={found.get(name, 'unset')} (rank 0: {wanted.get(name, 'unset')})"
        if name.startswith("UNIT_")
        else name
        for name in names
    )


def start(state: State, gang: Gang) -> Result:
    """Spawn the workload as a member of this gang."""
    here = [record for record in state.store.records.values() if record.generation == gang.generation]
    state = mine(
        _begun(state, gang),
        state=InstanceState.STARTING,
        gang=gang.id,
        restarts=max([state.me.restarts, *(record.restarts for record in here)]),
        exit_code=None,
    )
    where = f"MASTER_ADDRESS={gang.master_address} MASTER_PORT={gang.master_port}"
    said = say(Level.INFO, f"the barrier of generation {gang.generation} opened; {where}")
    return state, (Spawn(gang), WatchPeers(watched(state)), *said)


def _begun(state: State, gang: Gang) -> State:
    """With a living workload, and nothing held against anybody."""
    nobody: frozenset[int] = frozenset()
    state = state.with_workload(
        gang=gang, work=Work.ALIVE, grace=0.0, exit=None, ended=None, cut_off=False, opened=state.store.clock
    ).with_peers(suspects={}, mute=nobody, asking=nobody, hung_up=nobody, ask_again={})
    last = state.recovery.marks
    under_way = Marks() if last.ready is not None else last  # one that is over times no later start
    return state.with_recovery(marks=replace(under_way, opened=state.now, spawned=None, ready=None))


def report(state: State) -> Result:
    """While waiting, say who is missing and for how long, ever more rarely."""
    waited = state.now - state.barrier.entered
    if 0 < state.rules.barrier_timeout < min(waited, state.now - state.barrier.not_before):
        why = f"the barrier of generation {state.me.generation} timed out: {missing(state)}"
        return go(state, Code.BARRIER_TIMEOUT, why), ()
    if state.now < state.barrier.report_at:
        return state, ()
    pause = min(LAST_REPORT, max(FIRST_REPORT, waited))
    barrier = f"the barrier of generation {state.me.generation}"
    sentence = f"waiting for {waited:.0f} s at {barrier}: {missing(state)}"
    return state.with_barrier(report_at=state.now + pause), say(Level.WARNING, sentence)


def missing(state: State) -> str:
    """What keeps the barrier shut, in words."""
    everybody = {**state.store.records, state.rules.rank: state.me}
    foreign = state.store.foreign - everybody.keys()
    absent = [rank for rank in range(state.rules.size) if rank not in everybody.keys() | foreign]
    there = [everybody[rank] for rank in range(state.rules.size) if rank in everybody]
    parts = [f"{ranks(absent)} never joined"] if absent else []
    parts += [explain_foreign(state, sorted(foreign))] if foreign else []
    parts += few([_why_not(state, record) for record in there if not stands(state, record)])
    parts += few([*explain_clashes(there), *explain_unproven(state, there)])
    if not state.connected:
        parts.append("the store does not answer")
    elif not state.holds_rank:
        parts.append(f"the store shows another instance as rank {state.rules.rank}")
    if state.now < state.barrier.not_before:
        left = state.barrier.not_before - state.now
        parts.append(f"the pause before a restart goes on for {left:.0f} s (UNIT_BACKOFF_SECONDS)")
    unconfirmed = [record.rank for record in there if not record.gang]
    return "; ".join(parts) or f"{ranks(unconfirmed)} still to confirm"


def _why_not(state: State, record: Record) -> str:
    who = name(state, record.rank)
    if record.left:
        return f"{who} has left"
    if record.size != state.rules.size:
        return f"{who} says UNIT_SIZE={record.size}, rank {state.rules.rank} says {state.rules.size}"
    if record.revision != state.me.revision:
        mine = f"rank {state.rules.rank} has {state.me.revision or 'none'}"
        waits = "they wait for each other, where UNIT_STRICT=true would end them (exit 77)"
        return f"{who} has UNIT_REVISION={record.revision or 'none'}, {mine}: {waits}"
    if record.incarnation in state.peers.refused:
        return f"{who} is gone, its address refuses connections: a replacement is waited for"
    late = late_by(state, record)
    silent = f", no sign of life for {state.rules.lease + late:.0f} s" if late else ""
    return f"{who} is {record.state} in generation {record.generation}{silent}"
