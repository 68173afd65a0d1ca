"""Everything that one agent knows. A state is frozen: each event makes a new one, and only ``decide``
does that.

The stage of an agent follows from its state and is stored nowhere. If two stages apply, the later one
counts: an agent that leaves may still drain, and one that drains may be isolated meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from unitagent.core.actions import Action, Level, Log
from unitagent.core.config import CoreConfig, Mode
from unitagent.core.exits import ExitCode
from unitagent.core.leases import NEVER
from unitagent.core.model import Failure, KeeperRecord, Reason, Record
from unitagent.core.state_parts import (
    Barrier,
    KeeperView,
    Leaving,
    PeerEvidence,
    Recovery,
    Shutdown,
    StoreView,
    WorkloadPhase,
    WorkloadView,
)
from unitagent.core.timing import takeover_after

T = TypeVar("T", StoreView, Barrier, WorkloadView, KeeperView, PeerEvidence, Shutdown, Recovery)


class State(Struct, frozen=True, kw_only=True):
    """The state of one agent; times are seconds on its monotonic clock.

    Attributes:
        config: The settings of the core.
        me: The record that I publish, or will publish with the next exchange.
        started: When this agent started.
        now: When the last event happened.
        suspended_at: When I last found that I had been suspended, or starved of CPU, for longer than a few
            ticks.
        generation: The highest generation that I ever heard of; it never goes down, whatever the store says.
        warned: What was logged once and is not to be logged again.
        store: The store as of its last answer.
        barrier: The barrier at which I wait.
        workload: The workload on this instance.
        keeper: The keeper on this instance.
        peers: What the peers answered.
        shutdown: The shutdown of the Unit, or of this agent.
        recovery: Failures and restarts.

    """

    config: CoreConfig
    me: Record
    started: float
    now: float
    suspended_at: float = NEVER
    generation: int = 0
    warned: frozenset[str] = frozenset()
    store: StoreView = field(default_factory=StoreView)
    barrier: Barrier = field(default_factory=Barrier)
    workload: WorkloadView = field(default_factory=WorkloadView)
    keeper: KeeperView = field(default_factory=KeeperView)
    peers: PeerEvidence = field(default_factory=PeerEvidence)
    shutdown: Shutdown = field(default_factory=Shutdown)
    recovery: Recovery = field(default_factory=Recovery)

    def with_generation(self, generation: int) -> State:
        """The state that knows of this generation; the known generation never goes down."""
        return self if generation <= self.generation else replace(self, generation=generation)

    def with_store(self, **changes: Any) -> State:
        """The state with changes to the store view."""
        store = _replace_changed(self.store, changes)
        return self if store is self.store else replace(self, store=store)

    def with_barrier(self, **changes: Any) -> State:
        """The state with changes to the barrier."""
        barrier = _replace_changed(self.barrier, changes)
        return self if barrier is self.barrier else replace(self, barrier=barrier)

    def with_workload(self, **changes: Any) -> State:
        """The state with changes to the workload view."""
        workload = _replace_changed(self.workload, changes)
        return self if workload is self.workload else replace(self, workload=workload)

    def with_keeper(self, **changes: Any) -> State:
        """The state with changes to the keeper view."""
        keeper = _replace_changed(self.keeper, changes)
        return self if keeper is self.keeper else replace(self, keeper=keeper)

    def with_peers(self, **changes: Any) -> State:
        """The state with changes to the evidence about peers."""
        peers = _replace_changed(self.peers, changes)
        return self if peers is self.peers else replace(self, peers=peers)

    def with_shutdown(self, **changes: Any) -> State:
        """The state with changes to the shutdown."""
        shutdown = _replace_changed(self.shutdown, changes)
        return self if shutdown is self.shutdown else replace(self, shutdown=shutdown)

    def with_recovery(self, **changes: Any) -> State:
        """The state with changes to the recovery."""
        recovery = _replace_changed(self.recovery, changes)
        return self if recovery is self.recovery else replace(self, recovery=recovery)

    @property
    def connected(self) -> bool:
        """Whether the last exchange was answered."""
        return self.store.leases.contact_since is not None

    @property
    def joined(self) -> bool:
        """Whether I hold my rank, as far as I know."""
        return self.store.joined_at is not None

    @property
    def holds_rank(self) -> bool:
        """Whether the store, as of its last answer, shows me as the holder of my rank. If I do not
        serve, it must not just have forgotten another holder, either.
        """
        return self.store.holder == self.me.incarnation and (self.up or not was_held_lately(self))

    @property
    def fenced(self) -> bool:
        """Whether another incarnation holds my rank and I end because of it."""
        leaving = self.shutdown.leaving
        return leaving is not None and leaving.code == ExitCode.FENCED

    @property
    def up(self) -> bool:
        """Whether any process of my workload may be alive."""
        return self.workload.phase is not WorkloadPhase.GONE

    @property
    def occupied(self) -> bool:
        """Whether any process of my workload or of my keeper may be alive."""
        return self.up or self.keeper.phase is not WorkloadPhase.GONE

    @property
    def loads_keepers(self) -> bool:
        """Whether my current generation is one that starts keepers; then nothing else is up in it."""
        return self.in_gang and self.workload.gang is not None and self.workload.gang.starts_keepers

    @property
    def in_gang(self) -> bool:
        """Whether I have started in my current generation."""
        return self.workload.gang is not None and self.workload.gang.generation == self.me.generation

    @property
    def superseded(self) -> bool:
        """Whether a higher generation than my own has been proposed."""
        return self.generation > self.me.generation

    @property
    def done(self) -> bool:
        """Whether my part of a job succeeded and nobody has proposed another generation. An exit during
        a drain is no success: the workload was told to stop.
        """
        if self.config.mode is not Mode.JOB or self.up or self.superseded or self.shutdown.draining:
            return False
        return self.workload.exit is not None and self.workload.exit.status == 0

    @property
    def ends_whole_unit(self) -> bool:
        """Whether my end ends the whole Unit: I am rank 0, or the Unit is guarded."""
        return self.config.guard or self.config.rank == 0


def _replace_changed(part: T, changes: Mapping[str, Any]) -> T:
    """The part with these changes; the same object if nothing changes, as is usual while nothing
    happens.
    """
    if all(getattr(part, name) is value for name, value in changes.items()):
        return part
    return replace(part, **changes)


Result = tuple[State, tuple[Action, ...]]


def has_news(before: State, now: State) -> bool:
    """Whether more has happened than time passing and an exchange starting."""
    store = before.store.leases is now.store.leases and before.store.records is now.store.records
    same = before.me is now.me and before.workload is now.workload and before.peers is now.peers
    unfinished = before.shutdown is now.shutdown and before.recovery is now.recovery
    return not (store and same and unfinished and before.generation == now.generation)


def initial_state(config: CoreConfig, me: Record, now: float) -> State:
    """The state of an agent that has just started."""
    if config.keepers:
        me = replace(me, keeper=KeeperRecord())
    return State(config=config, me=me, started=now, now=now, store=StoreView(next_beat=now))


def update_record(state: State, /, **changes: Any) -> State:
    """The state with changes to my own record; if there are any, it gets a new edition."""
    me = replace(state.me, **changes)
    return state if me == state.me else replace(state, me=replace(me, edition=me.edition + 1))


def log_line(level: Level, text: str, event: str = "", failure: Failure | None = None) -> tuple[Action, ...]:
    """One log line, as actions."""
    return (Log(level, text, event, failure),)


def is_observed(state: State, seconds: float, since: float = NEVER) -> bool:
    """Whether I had unbroken contact with the store for so many seconds, counted from ``since`` at the
    earliest.
    """
    leases = state.store.leases
    if leases.contact_since is None or leases.last_reply_at is None:
        return False
    return leases.last_reply_at - max(leases.contact_since, since) >= seconds


def was_held_lately(state: State) -> bool:
    """Whether the store has forgotten a holder of my rank with a later tenure. That one gets time to
    write again, and is alive as long as it answers.
    """
    former = state.store.forgotten_holder
    if state.joined and (former is None or not former.outranks(state.me)):
        return False
    lease = state.store.leases.find_hidden(state.config.rank, besides=state.me.incarnation)
    forgotten = NEVER if lease is None else lease.unchanged_since
    answered = NEVER if former is None else state.peers.known_alive_at.get(former.incarnation, NEVER)
    return state.now - max(forgotten, answered) <= longest_takeover(state, former)


def longest_takeover(state: State, *holders: Record | None) -> float:
    """Seconds of silence after which none of these can be alive; their leases may be longer than mine."""
    published = (takeover_after(one.lease) for one in holders if one is not None)
    return max([state.config.timing.takeover, *published])


def is_still_mine(state: State, patience: float | None = None) -> bool:
    """Whether my rank is certainly still mine: I took it in this contact, or nobody has claimed it for
    ``patience`` seconds, a heartbeat if None. An incarnation that took it while I was out of contact writes
    itself back by then, even into a store that was set back.
    """
    contact, joined = state.store.leases.contact_since, state.store.joined_at
    taken_now = contact is not None and joined is not None and joined >= contact
    return taken_now or is_observed(state, state.config.timing.beat_due if patience is None else patience)


def look_for_successor(state: State, patience: float | None = None) -> State:
    """Read the store again as soon as that time is over, not only at my own next heartbeat."""
    contact = state.store.leases.contact_since or state.now
    due = contact + (state.config.timing.beat_due if patience is None else patience)
    return state if due <= state.now else state.with_store(next_beat=min(state.store.next_beat, due))


def describe_rank(state: State, rank: int) -> str:
    """A rank for people: with its address, so that they find the machine."""
    record = state.me if rank == state.config.rank else state.store.records.get(rank)
    return f"rank {rank} ({record.ip})" if record else f"rank {rank}"


def describe_trouble(state: State) -> str:
    """Why the store does not answer, in parentheses; "" if nothing is known of it."""
    return f" ({state.store.last_error})" if state.store.last_error else ""


def format_clock(state: State, at: float) -> str:
    """A moment of my clock as UTC, so that it can be compared with the logs of other machines."""
    seconds = int(at + state.config.epoch)
    return f"{seconds // 3600 % 24:02}:{seconds // 60 % 60:02}:{seconds % 60:02} UTC"


def make_failure(state: State, rank: int, reason: Reason, detail: str, detect: float = 0.0) -> Failure:
    """A failure of my generation as I saw it; ``detect`` is how many seconds it had gone unnoticed."""
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
    """The state of an agent that will end; the first reason is kept."""
    return state if state.shutdown.leaving else state.with_shutdown(leaving=Leaving(code, why))


# stages


class Stage(StrEnum):
    """What an agent is doing."""

    JOINING = "joining"  # it does not hold its rank yet
    AT_BARRIER = "at-barrier"  # it waits to start with the others
    RUNNING = "running"  # it has started in its generation; its part of a job may be finished
    STOPPING = "stopping"  # its generation is over, and the rest of its workload is being stopped
    ISOLATED = "isolated"  # it was cut off from everybody, so its workload is killed at once
    DRAINING = "draining"  # the Unit was asked to stop; rank 0's workload stops first
    LEAVING = "leaving"  # it will end, with a known exit code


def find_stage(state: State) -> Stage:
    """The stage of an agent in this state."""
    if state.shutdown.leaving is not None:
        return Stage.LEAVING
    if state.shutdown.draining:
        return Stage.DRAINING
    if state.workload.isolated:
        return Stage.ISOLATED
    if not state.joined:
        return Stage.JOINING
    if not state.in_gang:
        return Stage.AT_BARRIER
    return Stage.RUNNING if _takes_part(state) else Stage.STOPPING


def _takes_part(state: State) -> bool:
    """Whether its workload runs without being told to stop, or has finished its part of a job."""
    return state.done if not state.up else state.workload.phase is not WorkloadPhase.STOPPING
