"""The records that agents exchange and remember. All are immutable, and none reads a clock.

A *record* is what one agent publishes about itself. The store holds one record per rank; together they are
the membership table of the Unit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import msgspec
from msgspec import UNSET, Struct, UnsetType

YEAR = 366 * 86400 * 10**6  # microseconds; an order that far ahead of the store's clock is forged or corrupt
LEAP = 10**9  # generations; restarts cannot lead that far ahead of mine
_MAX_NAMED = 16  # ranks; nobody reads a longer list


class InstanceState(StrEnum):
    """The state of one instance, in the order of a normal life."""

    WAITING = "waiting"  # holds no rank yet, or cannot reach the store; not at a barrier
    IDLE = "idle"  # at the barrier of its generation; no process of an older one is alive
    STARTING = "starting"  # the barrier has opened, the workload is being spawned
    RUNNING = "running"
    HEALTHY = "healthy"  # running, and its health check passes
    STOPPING = "stopping"
    EXITED = "exited"  # no process of its workload is left
    LOST = "lost"  # reported by the others, never by the instance itself

    @property
    def serving(self) -> bool:
        """Whether the workload is up in this state."""
        return self in (InstanceState.RUNNING, InstanceState.HEALTHY)

    @property
    def started(self) -> bool:
        """Whether the barrier of the record's generation has opened for this instance."""
        return self in (InstanceState.STARTING, InstanceState.RUNNING, InstanceState.HEALTHY)


class Phase(StrEnum):
    """What the Unit as a whole is doing."""

    FORMING = "forming"
    RUNNING = "running"
    RESTARTING = "restarting"
    DRAINING = "draining"
    FAILED = "failed"
    COMPLETED = "completed"


class Reason(StrEnum):
    """Why a generation ended."""

    EXIT = "exit"
    SIGNAL = "signal"
    OOM = "oom"
    LOST = "lost"
    UNHEALTHY = "unhealthy"
    STALLED = "stalled"
    STARTUP_TIMEOUT = "startup-timeout"
    REPLACED = "replaced"
    REQUESTED = "requested"


class Charge(Struct, frozen=True, kw_only=True):
    """One restart of the Unit, charged to its restart budget.

    Attributes:
        generation: The generation that ended. Each is charged once, however many agents report it.
        at: Seconds since the epoch. Clocks may differ by less than the budget window; no lease depends on
            this.

    """

    generation: int
    at: float


class RestartPause(Struct, frozen=True, kw_only=True):
    """An operator's pause of restarts, or the end of one.

    Attributes:
        number: That of its order; a higher one is newer. It is the store's clock when it was ordered, in
            microseconds, or a little more.
        seconds: How long it lasts from then on; 0 for the end of one.
        by: Who gave the order, for people; may be empty.
        reason: The operator's reason, for people; may be empty.

    """

    number: int
    seconds: float = 0.0
    by: str = ""
    reason: str = ""


class KeeperRecord(Struct, frozen=True, kw_only=True):
    """What one agent publishes about its keeper (:mod:`keepers`).

    Attributes:
        gang: Id of the gang with which it started; empty if no process of a keeper is left.
        ready: It holds what the workload needs.

    """

    gang: str = ""
    ready: bool = False


class Record(Struct, frozen=True, kw_only=True):
    """What one agent publishes about itself. In the store some fields have shorter names.

    Attributes:
        rank: The instance's number in the Unit, from 0.
        incarnation: Random id of this life of the agent.
        size: UNIT_SIZE as this agent knows it.
        ip: Address on the chosen network interface.
        port: Port of the probe server; 0 for none.
        tenure: Grows each time an incarnation takes the rank, so the higher one is the later one
            (:mod:`rank_ownership`).
        edition: Grows with every change of this record, so an older copy is recognised as such.
        netns: Network namespace in which the agent listens at exactly ``ip`` and ``port``, or in which it
            runs if it does not listen; empty if it listens elsewhere, or if this cannot be known.
        hostname: Name of the host, for people.
        revision: UNIT_REVISION; ranks of different revisions never start together.
        fingerprint: What must be equal on all ranks, as ``name=value`` words. Values are hashes, except those
            of our own settings.
        lease: Seconds for which this agent keeps serving without contact; 0 if it does not publish this.
        generation: The generation it is in; 0 before its first barrier.
        state: State of the instance.
        predecessor_generation: The last generation that is known to have started with an earlier holder of
            this rank.
        gang: Id of the gang it has confirmed at the barrier of ``generation``; empty for none.
        master_port: Free port chosen for this generation; only rank 0 sets it.
        next_port: The port that rank 0 will choose for its next generation, if it is still free by then.
        pid: The workload's main process; None if there is none.
        exit_code: The workload's exit status as a shell reports it; None while it runs.
        stop_requested: The agent was asked to stop, by a signal or an order, so the Unit or this instance
            goes down.
        draining: The workload ends because the Unit drains, which is not charged to the restart budget.
        has_left: The agent has ended on purpose; its rank is free at once.
        budget_exhausted: The agent considers the restart budget of the Unit exhausted.
        lost: Ranks that the agent considers lost; published without guard, in Units in which not everybody
            watches everybody.
        order: Number of the last operator's order that it has applied, or that is older than its tenure.
        pause: The newest pause of restarts that it knows, perhaps one that is over; None for none.
        failed_check: Which health check of its workload fails, and how; empty if none does.
        failed_check_since: Since when, in seconds since the epoch; 0 if none does.
        restarts: Restarts of the Unit that it knows of.
        charges: Restarts within the budget window, oldest first; in the record they outlive the container.
        keeper: Its keeper; not in the record at all where the Unit has none.

    """

    rank: int
    incarnation: str
    size: int
    ip: str
    port: int
    tenure: int = 0
    edition: int = 0
    netns: str = ""
    hostname: str = ""
    revision: str = ""
    fingerprint: str = ""
    lease: float = 0.0
    generation: int = 0
    state: InstanceState = InstanceState.WAITING
    predecessor_generation: int = msgspec.field(default=0, name="begun")
    gang: str = ""
    master_port: int = 0
    next_port: int = 0
    pid: int | None = None
    exit_code: int | None = None
    stop_requested: bool = msgspec.field(default=False, name="asked")
    draining: bool = False
    has_left: bool = msgspec.field(default=False, name="left")
    budget_exhausted: bool = msgspec.field(default=False, name="failed")
    lost: tuple[int, ...] = ()
    order: int = 0
    pause: RestartPause | None = None
    failed_check: str = msgspec.field(default="", name="trouble")
    failed_check_since: float = msgspec.field(default=0.0, name="trouble_at")
    restarts: int = 0
    charges: tuple[Charge, ...] = ()
    keeper: KeeperRecord | UnsetType = UNSET

    def outranks(self, other: Record) -> bool:
        """Whether this is the later tenure of the rank; equal ones are told apart by their
        incarnations.
        """
        return (self.tenure, self.incarnation) > (other.tenure, other.incarnation)

    def had_address_of(self, me: Record) -> bool:
        """Whether the agent that wrote this record listened exactly where ``me`` listens now. The kernel
        binds an address of a network namespace to one socket at a time, so that agent is gone.
        """
        return bool(self.netns and self.port) and (self.netns, self.ip, self.port) == (
            me.netns,
            me.ip,
            me.port,
        )

    def supersedes(self, known: Record) -> bool:
        """Whether this record is newer than ``known``: a later tenure, or the same incarnation and no older
        edition.
        """
        if self.incarnation == known.incarnation:
            return self.edition >= known.edition
        return self.outranks(known)


class Failure(Struct, frozen=True, kw_only=True):
    """The first failure of a generation; the others are its consequences.

    Attributes:
        generation: The generation that it ended.
        rank: The instance that failed.
        ip: Its address, so that people find the machine.
        reason: Kind of failure.
        detail: One clause that begins with the rank.
        exit_code: The workload's exit code, if it exited.
        signal: The signal that killed the workload, if one did.
        at: Seconds since the epoch, by the clock of the reporting agent.
        detect: Seconds from the failure (or the last sign of life) to this report.
        stops: Size of the Unit if all of its ranks stop because of this failure, else 0.
        earlier: The last one of the other kind, so that a restart that an operator asked for hides no
            failure, and no failure that restart; it has no earlier one itself.

    """

    generation: int
    rank: int
    ip: str
    reason: Reason
    detail: str = ""
    exit_code: int | None = None
    signal: int | None = None
    at: float = 0.0
    detect: float = 0.0
    stops: int = 0
    earlier: Failure | None = None

    @property
    def requested(self) -> bool:
        """Whether an operator asked for it, so that nobody failed."""
        return self.reason is Reason.REQUESTED

    @property
    def sentence(self) -> str:
        """What happened, where, and which ranks stopped because of it."""
        ended = " ended" if self.stops or self.rank == 0 else ""
        sentence = f"generation {self.generation}{ended}: {self.detail}"
        stopped = [rank for rank in range(self.stops) if self.requested or rank != self.rank]
        if not stopped:
            return sentence
        others = format_ranks(stopped) if len(stopped) <= _MAX_NAMED else f"{len(stopped)} other ranks"
        return f"{sentence}; {others} stopped"


def find_last_failure(last: Failure | None) -> Failure | None:
    """The last failure that nobody asked for."""
    return last if last is None or not last.requested else last.earlier


def find_last_order(last: Failure | None) -> Failure | None:
    """The last restart that an operator asked for."""
    return last if last is None or last.requested else last.earlier


_AGE_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


def format_age(seconds: float) -> str:
    """``34 s``, ``5 min``, ``2 h`` or ``3 d``."""
    for length, name in _AGE_UNITS:
        if seconds >= 2 * length or seconds == length:
            return f"{seconds / length:.0f} {name}"
    return f"{max(0.0, seconds):.0f} s"


def format_ranks(numbers: Sequence[int]) -> str:
    """``rank 2`` or ``ranks 0, 1, 2``; long lists are shortened."""
    return f"rank{'s' if len(numbers) != 1 else ''} {', '.join(shorten_list([str(one) for one in numbers]))}"


def shorten_list(parts: Sequence[str]) -> list[str]:
    """The first parts of a long list, and how many more there are."""
    if len(parts) <= _MAX_NAMED:
        return list(parts)
    return [*parts[:_MAX_NAMED], f"and {len(parts) - _MAX_NAMED} more"]


class OrderKind(StrEnum):
    """What an operator can ask of a Unit."""

    DRAIN = "drain"
    RESTART = "restart"
    PAUSE = "pause"
    RESUME = "resume"


class Order(Struct, frozen=True, kw_only=True):
    """An operator's order: drain the Unit, end the generation that is current when the order is stored, or
    pause and resume restarts.

    Attributes:
        kind: What to do.
        generation: The highest generation that the store knew when it stored the order.
        reason: The operator's reason, for people; may be empty.
        by: Who gave it, for people; may be empty.
        number: Grows from order to order; agents apply those that are newer than their own tenure. 0 until
            stored.
        seconds: How long a pause lasts.

    """

    kind: OrderKind
    generation: int
    reason: str = ""
    number: int = 0
    by: str = ""
    seconds: float = 0.0

    @property
    def origin(self) -> str:
        """Who asked and why, for people."""
        who = f"{self.by} asked" if self.by else "an operator asked"
        what = f"{self.kind} of restarts for {self.seconds:g} s" if self.seconds else self.kind
        return f"{who} for a {what}: {self.reason or 'no reason given'}"


@dataclass(frozen=True, slots=True)
class Beat:
    """A rank's heartbeat. Its agent is alive if the count grows, whatever any clock says.

    Attributes:
        incarnation: The incarnation that wrote it.
        count: Grows by one with each heartbeat.
        age: Seconds since the store received it, by the store's own clock.

    """

    incarnation: str
    count: int
    age: float = field(default=0.0, compare=False)


class Reply(Struct, frozen=True, kw_only=True):
    """The store's answer to one exchange.

    Attributes:
        holder: Incarnation that holds my rank after this exchange; "" for nobody, or if I only read.
        generation: The highest generation that the store knows.
        records: All records of the Unit before this exchange, by rank.
        beats: Heartbeats of the requested ranks, and of my own rank's holder.
        failure: The first failure of the last generation that failed, as far as the store knows.
        order: The last operator's order.
        unit_age: Seconds since the store first heard of this Unit (it may have been wiped since).
        unverified_ranks: Ranks whose records are not signed with this Unit's secret and are therefore
            ignored.
        newest: The rank whose record changed last; None if no record is known.
        now: The store's clock, in milliseconds since its epoch; used only to make tenures grow.

    """

    holder: str
    generation: int
    records: dict[int, Record]
    beats: dict[int, Beat]
    failure: Failure | None = None
    order: Order | None = None
    unit_age: float = 0.0
    unverified_ranks: frozenset[int] = frozenset()
    newest: int | None = None
    now: int = 0


class Gang(Struct, frozen=True, kw_only=True, dict=True):
    """The instances that start together.

    Its ``id`` is the fencing token. It is never issued twice, because each incarnation confirms a gang at
    most once per generation.

    Attributes:
        generation: The generation in which they start.
        incarnations: By rank.
        ips: Addresses, by rank.
        master_port: Port that rank 0 chose for this generation.
        keepers: Id of the gang whose keepers its workload uses; empty if this gang starts keepers, and no
            workload; None where the Unit has no keepers.

    """

    generation: int
    incarnations: tuple[str, ...]
    ips: tuple[str, ...]
    master_port: int
    keepers: str | None = None

    @cached_property
    def id(self) -> str:
        """The fencing token: generation, port and a hash of the roster, short because every record carries
        it; kept, because all records are compared with it.
        """
        words = ",".join(self.incarnations)
        if self.keepers is not None:
            words = f"{words};{self.keepers}"
        roster = hashlib.sha256(words.encode(errors="surrogateescape")).hexdigest()
        return f"{self.generation}:{self.master_port}:{roster[:32]}"

    @property
    def master_address(self) -> str:
        """Address of rank 0."""
        return self.ips[0]

    @property
    def starts_keepers(self) -> bool:
        """Whether its members start their keepers, and no workload."""
        return self.keepers == ""
