"""The values that agents exchange and remember. Everything here is immutable and knows no clock.

A *record* is what one agent says about itself; the store is the notice-board that all records hang on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from unitagent.core.timing import Timing

YEAR = 366 * 86400 * 10**6  # microseconds; an order that much ahead of the store's clock was made up
LEAP = 10**9  # generations; one so far ahead of mine has not come about by restarts
_NAMED = 16  # ranks; a sentence with more of them is not read


class InstanceState(StrEnum):
    """Where one instance stands, in the order of a normal life."""

    WAITING = "waiting"  # not at a barrier: it holds no rank yet, or cannot reach the store
    IDLE = "idle"  # at the barrier of its generation, no process of an older one alive
    STARTING = "starting"  # the barrier has opened, the workload is being spawned
    RUNNING = "running"
    HEALTHY = "healthy"  # running, and its health check passes
    STOPPING = "stopping"
    EXITED = "exited"  # nothing of its workload is left
    LOST = "lost"  # said of an instance by the others, never by itself

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


class Mode(StrEnum):
    """What an exit of the workload that nobody asked for means."""

    SERVICE = "service"
    JOB = "job"


class Restart(StrEnum):
    """Who starts the next generation: this agent, or the platform with a new container."""

    INPLACE = "inplace"
    RECREATE = "recreate"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """One restart of the Unit, charged to its budget.

    Attributes:
        generation: the one that ended; each is charged once, whoever reports it.
        at: seconds since the epoch. A window of restarts bears what clocks differ by; no lease is judged by
            it.

    """

    generation: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What one agent announces about itself.

    Attributes:
        incarnation: random id of this life of the agent.
        tenure: of its rank; each taking of a rank has a higher one than the last (:mod:`rank_ownership`).
        edition: grows with every change of this record, so that an older copy of it is known as such.
        generation: the generation it stands in; 0 before its first barrier.
        begun: the last generation in which, as far as it knows, somebody in its rank has started before it.
        gang: id of the gang it has confirmed at the barrier of ``generation``, or empty.
        ip: its address on the chosen card.
        port: port of its probe address, 0 for none.
        netns: the network namespace in which it listens at exactly ``ip`` and ``port``, or in which it is
            where it does not listen at all; empty when it listens elsewhere, or when that cannot be known.
        master_port: free port found for this generation; only rank 0 sets it.
        asked: it was asked to stop (signal or order), and the Unit or this instance goes down for it.
        draining: its workload ends because the Unit drains, which costs no restart.
        left: its agent has ended on purpose; its rank is free at once.
        failed: it holds that the restart budget of the Unit is spent.
        lost: ranks that it holds for lost; said without guard, in Units in which not all judge all.
        order: number of the last operator's order that it has obeyed, or that was given before it.
        restarts: restarts of the Unit it knows of.
        charges: those within the budget's window, oldest first; they outlive its container.
        fingerprint: what must be equal on all ranks, as ``name=value`` words; hashes, but for our settings.
        lease: seconds for which its agent serves on without contact; 0 where it does not say so.

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
    begun: int = 0
    gang: str = ""
    master_port: int = 0
    pid: int | None = None
    exit_code: int | None = None
    asked: bool = False
    draining: bool = False
    left: bool = False
    failed: bool = False
    lost: tuple[int, ...] = ()
    order: int = 0
    restarts: int = 0
    charges: tuple[Charge, ...] = ()

    def outranks(self, other: Record) -> bool:
        """Whether my tenure of the rank is the later one; two that were taken apart differ by their ids."""
        return (self.tenure, self.incarnation) > (other.tenure, other.incarnation)

    def had_address_of(self, me: Record) -> bool:
        """Whether it was written by an agent that listened exactly where I listen now. The kernel lets one
        socket listen at an address of a network namespace, so that agent is gone.
        """
        return bool(self.netns and self.port) and (self.netns, self.ip, self.port) == (
            me.netns,
            me.ip,
            me.port,
        )

    def supersedes(self, known: Record) -> bool:
        """Whether this is news, where ``known`` is known: a later tenure, or no older copy of the same
        record.
        """
        if self.incarnation == known.incarnation:
            return self.edition >= known.edition
        return self.outranks(known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The first failure of a generation: the one that the others are consequences of.

    Attributes:
        rank: the instance that failed.
        ip: its address, so that a person finds the machine.
        detail: one clause, that begins with the rank.
        exit_code: of the workload, when it exited.
        signal: that killed the workload.
        at: seconds since the epoch, by the clock of the agent that reports it.
        detect: seconds from the failure (or the last sign of life) to this report.
        stops: size of the Unit when all its ranks stop because of it, else 0.

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

    @property
    def sentence(self) -> str:
        """What happened, to whom, and who went down with it."""
        ended = " ended" if self.stops or self.rank == 0 else ""
        told = f"generation {self.generation}{ended}: {self.detail}"
        asked_for = self.reason is Reason.REQUESTED  # then nobody failed
        stopped = [rank for rank in range(self.stops) if asked_for or rank != self.rank]
        if not stopped:
            return told
        who = format_ranks(stopped) if len(stopped) <= _NAMED else f"{len(stopped)} other ranks"
        return f"{told}; {who} stopped"


def format_ranks(numbers: Sequence[int]) -> str:
    """``rank 2`` or ``ranks 0, 1, 2``; of many the first."""
    return f"rank{'s' if len(numbers) != 1 else ''} {', '.join(shorten_list([str(one) for one in numbers]))}"


def shorten_list(parts: Sequence[str]) -> list[str]:
    """As many parts of a sentence as are read, and how many more there are."""
    if len(parts) <= _NAMED:
        return list(parts)
    return [*parts[:_NAMED], f"and {len(parts) - _NAMED} more"]


class OrderKind(StrEnum):
    """What an operator can ask of a Unit."""

    DRAIN = "drain"
    RESTART = "restart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An operator's wish: to drain whoever is there, or to end the generation that it was given in.

    Attributes:
        generation: the highest that the store knew when it kept the order.
        number: grows from order to order; an agent obeys those that are newer than itself. 0 until it is
            kept.

    """

    kind: OrderKind
    generation: int
    reason: str = ""
    number: int = 0


@dataclass(frozen=True, slots=True)
class Beat:
    """A rank's sign of life: it is alive when the number grows, whatever any clock says.

    Attributes:
        age: seconds since the store got it, by the store's own clock.

    """

    incarnation: str
    count: int
    age: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the store answers to one exchange.

    Attributes:
        holder: incarnation that holds my rank after this exchange ("" for none: I only looked).
        generation: the highest generation the store has been told of.
        records: all records of the Unit as this exchange found them, by rank.
        beats: of the ranks asked for, and of my own rank's holder.
        failure: the first failure of the last generation that failed, as the store knows it.
        order: the last operator's wish.
        age: seconds since the store first heard of this Unit (it may have been wiped since).
        foreign: ranks whose records are not signed with this Unit's secret, and so are none.
        now: the store's clock, in milliseconds since its epoch; it only makes tenures grow.

    """

    holder: str
    generation: int
    records: dict[int, Record]
    beats: dict[int, Beat]
    failure: Failure | None = None
    order: Order | None = None
    age: float = 0.0
    foreign: frozenset[int] = frozenset()
    now: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gang:
    """The instances that start together. ``id`` is the fencing token: it is never issued twice,
    because each incarnation confirms a gang at most once per generation.
    """

    generation: int
    incarnations: tuple[str, ...]
    ips: tuple[str, ...]
    master_port: int

    @property
    def id(self) -> str:
        """The token: the generation, and a hash of its roster, since it is in every record."""
        roster = hashlib.sha256(",".join(self.incarnations).encode(errors="surrogateescape")).hexdigest()
        return f"{self.generation}:{self.master_port}:{roster[:32]}"

    @property
    def master_address(self) -> str:
        """Where rank 0 is."""
        return self.ips[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreConfig:
    """All that an agent is told once, at its start. Durations are seconds.

    Attributes:
        probes: whether peers can be asked over HTTP.
        health: whether rank 0's workload has a health check.
        owns_store: my own agent runs the store, so one that is empty has forgotten nobody but my predecessor.
        timing: all that follows from ``lease`` and ``heartbeat``.
        epoch: what added to the core's monotonic ``now`` gives seconds since the epoch.

    """

    unit: str
    rank: int
    size: int
    incarnation: str
    guard: bool = False
    mode: Mode = Mode.SERVICE
    restart: Restart = Restart.INPLACE
    strict: bool = False
    probes: bool = True
    health: bool = False
    owns_store: bool = False
    store_timeout: float = 60.0
    lease: float = 5.0
    heartbeat: float = 1.0
    barrier_timeout: float = 0.0
    startup: float = 0.0
    stop_grace: float = 25.0
    restart_grace: float = 5.0
    drain: float = 15.0
    deregister: float = 2.0
    max_restarts: int = 10
    restart_window: float = 3600.0
    backoff: tuple[float, ...] = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
    epoch: float = 0.0
    timing: Timing = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "timing", Timing.of(self.lease, self.heartbeat))
