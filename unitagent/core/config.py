"""The settings of the core, which an agent has for life."""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property

from msgspec import Struct

from unitagent.core.timing import Timing


class Mode(StrEnum):
    """What it means when the workload exits and nobody asked it to."""

    SERVICE = "service"
    JOB = "job"


class Restart(StrEnum):
    """Who starts the next generation: this agent, or the platform with a new container."""

    INPLACE = "inplace"
    RECREATE = "recreate"


class CoreConfig(Struct, frozen=True, kw_only=True, dict=True):
    """The settings of the core, fixed when the agent starts. Durations are seconds.

    Attributes:
        unit: Id of the Unit.
        rank: This instance's rank.
        size: Number of instances in the Unit.
        incarnation: Id of this life of the agent.
        guard: Any failure restarts the whole Unit; without it only the failed instance ends.
        mode: What an exit of the workload means.
        restart: Who starts the next generation.
        strict: Differing fingerprints or revisions end the agent.
        probes: Peers can be asked over HTTP.
        health: Rank 0's workload has a health check.
        claimed: The rank was claimed; there may be others to claim.
        owns_store: This agent runs the store, so an empty store has forgotten nobody but my predecessor.
        keepers: Each rank has a keeper, which outlives generations.
        relaunch: The death of a keeper ends no generation: it is replaced with the next restart.
        store_timeout: For the first contact with the store.
        lease: Without a sign of life for this long an instance counts as lost.
        heartbeat: Between two heartbeats.
        barrier_timeout: Longest wait at a barrier; 0 for no limit.
        startup: From spawn until the workload must be healthy; 0 for no limit.
        stop_grace: From SIGTERM to SIGKILL when the Unit stops.
        restart_grace: From SIGTERM to SIGKILL before a restart.
        failure_grace: The same after a failure, if that is shorter; None for no difference.
        drain: Longest wait for requests in flight.
        deregister: From the start of a drain until load balancers have noticed it.
        max_restarts: Restarts allowed within ``restart_window``.
        restart_window: Over which restarts are counted.
        backoff: Pauses before the first, second, … restart within the window; the last one repeats.
        epoch: Added to the core's monotonic ``now`` it gives seconds since the epoch.

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
    claimed: bool = False
    owns_store: bool = False
    keepers: bool = False
    relaunch: bool = False
    store_timeout: float = 60.0
    lease: float = 5.0
    heartbeat: float = 1.0
    barrier_timeout: float = 0.0
    startup: float = 0.0
    stop_grace: float = 25.0
    restart_grace: float = 5.0
    failure_grace: float | None = None
    drain: float = 15.0
    deregister: float = 2.0
    max_restarts: int = 10
    restart_window: float = 3600.0
    backoff: tuple[float, ...] = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
    epoch: float = 0.0

    def __post_init__(self) -> None:
        _ = self.timing  # refuses a pair that cannot keep the inequalities

    @cached_property
    def timing(self) -> Timing:
        """All durations derived from ``lease`` and ``heartbeat``."""
        return Timing.from_lease(self.lease, self.heartbeat)
