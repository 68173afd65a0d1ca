"""All that one agent knows. Frozen: a new state for every event, and ``decide`` is its only writer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, TypeVar

from unitagent.core.actions import Action, Level, Log
from unitagent.core.exits import ExitCode
from unitagent.core.leases import NEVER, find_neighbours
from unitagent.core.model import CoreConfig, Failure, Mode, Reason, Record
from unitagent.core.state_parts import (
    Barrier,
    Leaving,
    PeerEvidence,
    Recovery,
    Shutdown,
    StoreView,
    WorkloadPhase,
    WorkloadView,
)

T = TypeVar("T", StoreView, Barrier, WorkloadView, PeerEvidence, Shutdown, Recovery)
SMALL_UNIT = 8  # instances; up to here everybody holds a connection to everybody
ALL_BEATS = 32  # instances; in larger Units only the beats that somebody judges are read


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """See the module.

    Attributes:
        me: what I announce, or will announce with the next exchange.
        started: when this agent did.
        now: when the last event happened.
        late: when I last found that I had stood still, or been starved, for longer than a few ticks.
        generation: the highest I ever heard of; it never goes down, whatever the store says.
        warned: what was said once and is not to be said again.

    """

    config: CoreConfig
    me: Record
    started: float
    now: float
    late: float = NEVER
    generation: int = 0
    warned: frozenset[str] = frozenset()
    store: StoreView = field(default_factory=StoreView)
    barrier: Barrier = field(default_factory=Barrier)
    workload: WorkloadView = field(default_factory=WorkloadView)
    peers: PeerEvidence = field(default_factory=PeerEvidence)
    shutdown: Shutdown = field(default_factory=Shutdown)
    recovery: Recovery = field(default_factory=Recovery)

    def with_generation(self, generation: int) -> State:
        """The state that has heard of this generation; what it knows never goes down."""
        return self if generation <= self.generation else replace(self, generation=generation)

    def with_store(self, **changes: Any) -> State:
        """The state with changes to what I know of the store."""
        store = _replace_changed(self.store, changes)
        return self if store is self.store else replace(self, store=store)

    def with_barrier(self, **changes: Any) -> State:
        """The state with changes to what I know of the barrier."""
        barrier = _replace_changed(self.barrier, changes)
        return self if barrier is self.barrier else replace(self, barrier=barrier)

    def with_workload(self, **changes: Any) -> State:
        """The state with changes to what I know of the workload."""
        workload = _replace_changed(self.workload, changes)
        return self if workload is self.workload else replace(self, workload=workload)

    def with_peers(self, **changes: Any) -> State:
        """The state with changes to what speaks for or against the others."""
        peers = _replace_changed(self.peers, changes)
        return self if peers is self.peers else replace(self, peers=peers)

    def with_shutdown(self, **changes: Any) -> State:
        """The state with changes to the way down."""
        shutdown = _replace_changed(self.shutdown, changes)
        return self if shutdown is self.shutdown else replace(self, shutdown=shutdown)

    def with_recovery(self, **changes: Any) -> State:
        """The state with changes to what is remembered of failures and restarts."""
        recovery = _replace_changed(self.recovery, changes)
        return self if recovery is self.recovery else replace(self, recovery=recovery)

    @property
    def connected(self) -> bool:
        """Whether the last exchange was answered."""
        return self.store.leases.contact is not None

    @property
    def joined(self) -> bool:
        """Whether my rank is mine, as far as I know."""
        return self.store.joined is not None

    @property
    def holds_rank(self) -> bool:
        """Whether the store shows my rank as mine, as of its last answer, and has not just forgotten another
        in my place, while I did not serve.
        """
        return self.store.holder == self.me.incarnation and (self.up or not was_held_lately(self))

    @property
    def fenced(self) -> bool:
        """Whether my rank belongs to another incarnation, and I end because of it."""
        leaving = self.shutdown.leaving
        return leaving is not None and leaving.code == ExitCode.FENCED

    @property
    def up(self) -> bool:
        """Whether a workload of mine may have living processes."""
        return self.workload.phase is not WorkloadPhase.GONE

    @property
    def in_gang(self) -> bool:
        """Whether I have started in the generation that I stand in."""
        return self.workload.gang is not None and self.workload.gang.generation == self.me.generation

    @property
    def superseded(self) -> bool:
        """Whether somebody has proposed another generation than the one that I stand in."""
        return self.generation > self.me.generation

    @property
    def done(self) -> bool:
        """Whether my part of a job ended well, and nobody has proposed another generation.

        In a drain it was told to end, and what it says to that is no success.
        """
        if (
            self.config.mode is not Mode.JOB
            or self.up
            or self.superseded
            or self.shutdown.draining is not None
        ):
            return False
        return self.workload.exit is not None and self.workload.exit.status == 0

    @property
    def leads(self) -> bool:
        """Whether I am rank 0, or the Unit is guarded: then my end is everybody's."""
        return self.config.guard or self.config.rank == 0


def _replace_changed(part: T, changes: Mapping[str, Any]) -> T:
    """The part with these changes; itself where they are none, as most are while nothing happens."""
    if all(getattr(part, name) is value for name, value in changes.items()):
        return part
    return replace(part, **changes)


Result = tuple[State, tuple[Action, ...]]


def initial_state(config: CoreConfig, me: Record, now: float) -> State:
    """The state of an agent that has just started."""
    return State(config=config, me=me, started=now, now=now, store=StoreView(next_beat=now))


def update_record(state: State, /, **changes: Any) -> State:
    """The state with changes to my own record, which are a new edition of it."""
    me = replace(state.me, **changes)
    return state if me == state.me else replace(state, me=replace(me, edition=me.edition + 1))


def log(level: Level, text: str) -> tuple[Action, ...]:
    """One sentence, as actions."""
    return (Log(level, text),)


def gang_members(state: State) -> Iterator[Record]:
    """The records of the other members of my gang that are still that incarnation."""
    if state.workload.gang is None:
        return
    for rank, incarnation in enumerate(state.workload.gang.incarnations):
        record = state.store.records.get(rank)
        if rank != state.config.rank and record is not None and record.incarnation == incarnation:
            yield record


def watched_peers(state: State) -> tuple[Record, ...]:
    """The gang members that I hold a connection to: my two neighbours in the ring; in a small Unit all, so
    that all know of a death at once. Rank 0, which has the traffic, watches all it can, and is watched by
    those that it answers itself.
    """
    size, rank = state.config.size, state.config.rank
    if size <= (ALL_BEATS if rank == 0 else SMALL_UNIT):
        return tuple(gang_members(state))
    near = {*find_neighbours(rank, size), *((0,) if find_relay(rank, size) == 0 else ())}
    return tuple(record for record in gang_members(state) if record.rank in near)


def find_relay(rank: int, size: int) -> int:
    """The rank that tells this one, without the store, what rank 0 says: in a small Unit rank 0 itself. In a
    large one rank 0 answers ``ALL_BEATS`` others, each of them some of the rest, and nobody answers all.
    """
    return 0 if size <= ALL_BEATS or rank <= ALL_BEATS else 1 + rank % ALL_BEATS


def judged_members(state: State) -> tuple[Record, ...]:
    """The gang members whose beats I read: all of them, unless the Unit is large."""
    return tuple(gang_members(state)) if state.config.size <= ALL_BEATS else watched_peers(state)


def is_observed(state: State, seconds: float, since: float = NEVER) -> bool:
    """Whether I had unbroken contact with the store for so long, after a moment that may be given."""
    leases = state.store.leases
    if leases.contact is None or leases.last is None:
        return False
    return leases.last - max(leases.contact, since) >= seconds


def was_held_lately(state: State) -> bool:
    """Whether I saw another hold my rank, later than I, whom the store has forgotten since: it has time to
    write again, and as long as it answers it lives.
    """
    former = state.store.former
    if state.joined and (former is None or not former.outranks(state.me)):
        return False
    lease = state.store.leases.find_hidden(state.config.rank, besides=state.me.incarnation)
    forgotten = NEVER if lease is None else lease.since
    answered = NEVER if former is None else state.peers.heard.get(former.incarnation, NEVER)
    return state.now - max(forgotten, answered) <= state.config.timing.takeover


def is_still_mine(state: State) -> bool:
    """Whether I have taken my rank in this contact, or nobody has claimed it for a heartbeat of it: who took
    it while I was out of touch puts itself back by then into a store that shows me there from long ago.
    """
    contact, joined = state.store.leases.contact, state.store.joined
    taken_now = contact is not None and joined is not None and joined >= contact
    return taken_now or is_observed(state, state.config.timing.beat_due)


def look_for_successor(state: State) -> State:
    """Ask the store again when that heartbeat is over, and not at the next one of mine."""
    due = (state.store.leases.contact or state.now) + state.config.timing.beat_due
    return state.with_store(next_beat=min(state.store.next_beat, due))


def is_overdue(state: State, peer: Record) -> bool:
    """Whether a lease is over, as the last snapshot shows it. When the last beat was written is known from
    the store's own clock; where there is no second witness, only from when I saw it.
    """
    leases = state.store.leases
    since = leases.seconds_silent if state.config.probes else leases.seconds_unchanged
    return since(peer.incarnation) > state.config.lease


def confirmed_alive(state: State, peer: Record) -> bool:
    """Whether it answered within the lease: its own word is as good a sign of life as a beat."""
    return state.now - state.peers.heard.get(peer.incarnation, NEVER) < state.config.lease


def is_silent(state: State, peer: Record) -> bool:
    """Whether a lease is over and its agent does not answer either, where it can be asked."""
    mute = peer.incarnation in state.peers.mute and not confirmed_alive(state, peer)
    return is_overdue(state, peer) and (mute or not state.config.probes)


def seconds_late(state: State, record: Record) -> float:
    """Seconds by which a record's agent has overrun its lease, by its beats and its own word; 0 for none."""
    still = state.store.leases.seconds_unchanged(record.incarnation) - state.config.lease
    return 0.0 if record.left or confirmed_alive(state, record) else max(0.0, still)


def reported_lost(state: State) -> dict[int, int]:
    """The ranks that other members hold for lost, and who does."""
    here = (peer for peer in gang_members(state) if peer.generation == state.me.generation)
    return {rank: peer.rank for peer in here for rank in peer.lost}


def describe_rank(state: State, rank: int) -> str:
    """A rank as people read it: with its address, so that they find the machine."""
    record = state.me if rank == state.config.rank else state.store.records.get(rank)
    return f"rank {rank} ({record.ip})" if record else f"rank {rank}"


def format_clock(state: State, at: float) -> str:
    """A moment of my clock as people read it: the logs of other machines have it, too."""
    seconds = int(at + state.config.epoch)
    return f"{seconds // 3600 % 24:02}:{seconds // 60 % 60:02}:{seconds % 60:02} UTC"


def make_failure(state: State, rank: int, reason: Reason, detail: str, detect: float = 0.0) -> Failure:
    """A failure of my generation, as I saw it; ``detect`` is how long it had gone unnoticed."""
    record = state.me if rank == state.config.rank else state.store.records.get(rank)
    return Failure(
        generation=state.me.generation,
        rank=rank,
        ip=record.ip if record else "",
        reason=reason,
        detail=detail,
        at=state.now + state.config.epoch,
        detect=detect,
    )


def request_exit(state: State, code: int, why: str) -> State:
    """The state of an agent that has made up its mind to end; the first reason stays."""
    return state if state.shutdown.leaving else state.with_shutdown(leaving=Leaving(code, why))


# stages


class Stage(StrEnum):
    """What an agent is about."""

    JOINING = "joining"  # its rank is not its own yet
    AT_BARRIER = "at-barrier"  # it waits to start together with the others
    RUNNING = "running"  # it has started in its generation; its part of a job may be over already
    STOPPING = "stopping"  # its part in the generation is over, and what is left of its workload goes
    ISOLATED = "isolated"  # it was cut off from everybody, so its workload goes, or has gone, at once
    DRAINING = "draining"  # the Unit goes down because somebody asked, rank 0's workload first
    LEAVING = "leaving"  # it will end, with an exit code that it knows


def find_stage(state: State) -> Stage:
    """The stage of an agent with this state."""
    if state.shutdown.leaving is not None:
        return Stage.LEAVING
    if state.shutdown.draining is not None:
        return Stage.DRAINING
    if state.workload.cut_off:
        return Stage.ISOLATED
    if not state.joined:
        return Stage.JOINING
    if not state.in_gang:
        return Stage.AT_BARRIER
    return Stage.RUNNING if _takes_part(state) else Stage.STOPPING


def _takes_part(state: State) -> bool:
    """Whether its workload has not been told to end, or has done all that was to do."""
    return state.done if not state.up else state.workload.phase is not WorkloadPhase.STOPPING
