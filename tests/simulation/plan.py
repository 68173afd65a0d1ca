"""What one seed means: the Unit's size, its settings, and what kind of trouble it will see."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random

from tests.simulation.bounds import Bounds
from unitagent.core.config import CoreConfig, Mode, Restart
from unitagent.core.timing import Timing


class Profile(StrEnum):
    """Kinds of trouble; some guarantees can be told exactly only when nothing else goes on."""

    ANYTHING = "anything"
    BURST = "burst"  # several failures at the same moment in a guarded Unit that was well
    STORE = "store"  # trouble of the store only
    FOLLOWER = "follower"  # no guard, and only ranks other than 0 fail
    DRAIN = "drain"  # signals and orders only
    JOB = "job"
    MOMENTS = "moments"  # trouble follows what an agent decides; no seed draws it, as for ``Plan.embedded``


_WEIGHTS = {
    Profile.ANYTHING: 9,
    Profile.BURST: 2,
    Profile.STORE: 3,
    Profile.FOLLOWER: 2,
    Profile.DRAIN: 3,
    Profile.JOB: 2,
}
_SIZES = {1: 1.0, 2: 6.0, 3: 8.0, 4: 5.0, 5: 2.0, 8: 1.0, 12: 0.3, 16: 0.2, 32: 0.08, 64: 0.02}
_EDGES = ((2.0, 1.0), (10.0, 5.0), (1.0, 0.5), (60.0, 30.0), (1.0, 0.2), (300.0, 150.0))
LARGE = 12  # instances; from here on worlds are short

FEW_RESTARTS = 1
STOP_GRACE = 15.0
USUAL_LEASE = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that was drawn before the first event.

    Attributes:
        pace: how much longer than with the usual lease things go on here.
        tick: seconds between two looks of an agent at the clock, while nothing is on.
        late: seconds that such a look may come late, on a busy machine.
        load: seconds from a spawn until rank 0's health check passes.
        stubborn: share of workloads that ignore SIGTERM; ``slow``: that take their time to die of SIGKILL.
        immortal: share of workloads of which something cannot be killed.
        contagion: chance that a workload crashes some seconds after another of its gang died.
        names: seconds that a new agent's first contacts may fail for, since name servers are slow or dead.
        auto: no instance is told its rank.
        twins: two instances have one address from the start.
        strict: as ``UNIT_STRICT``.
        spares: instances beyond the size, which take the ranks of those that are lost. Where ranks are
            numbered, one that comes back to a rank that is taken is a spare as well.
        embedded: the store is in rank 0's container; no seed draws it, since seeds are kept for their worlds.
        keeper: what a keeper's death means, ``restart-unit`` or ``relaunch``; empty for none, as in any seed.

    """

    seed: int
    profile: Profile
    size: int
    guard: bool
    mode: Mode
    restart: Restart
    probes: bool
    health: bool
    lease: float
    heartbeat: float
    pace: float
    tick: float
    late: float
    load: float
    stubborn: float
    slow: float
    immortal: float
    contagion: float
    names: float
    auto: bool
    twins: bool
    strict: bool
    barrier_timeout: float
    max_restarts: int
    faults_from: float
    faults_span: float
    embedded: bool = False
    keeper: str = ""
    spares: int = 0

    @property
    def timing(self) -> Timing:
        """What follows from lease and heartbeat in the core."""
        return Timing.from_lease(self.lease, self.heartbeat)

    @property
    def bounds(self) -> Bounds:
        """What the validators allow."""
        return Bounds.of(self.timing, self.tick, self.late, probes=self.probes)

    @property
    def healed(self) -> float:
        """When the last fault ends."""
        return self.faults_from + self.faults_span

    def config_of(self, rank: int, incarnation: str) -> CoreConfig:
        """What an agent of this world is told at its start."""
        return CoreConfig(
            unit="sim",
            rank=rank,
            size=self.size,
            incarnation=incarnation,
            guard=self.guard,
            mode=self.mode,
            restart=self.restart,
            strict=self.strict,
            probes=self.probes,
            health=self.health,
            owns_store=self.embedded and rank == 0,
            lease=self.lease,
            heartbeat=self.heartbeat,
            store_timeout=60.0 * max(1.0, self.pace),
            barrier_timeout=self.barrier_timeout,
            startup=12.0 * max(1.0, self.pace) if self.health and self.guard else 0.0,
            stop_grace=STOP_GRACE,
            restart_grace=2.0,
            drain=5.0,
            deregister=1.0,
            max_restarts=self.max_restarts,
            keepers=bool(self.keeper),
            relaunch=self.keeper == "relaunch",
            backoff=(0.0, 0.5, 1.0),
        )


def draw_plan(rng: Random, seed: int) -> Plan:
    """The plan of this seed."""
    profile = rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
    anything = profile is Profile.ANYTHING
    guard = {Profile.BURST: True, Profile.FOLLOWER: False}.get(profile, rng.random() < 0.65)
    few = anything and guard and rng.random() < 0.2
    size = rng.choices(list(_SIZES), list(_SIZES.values()))[0]
    lease, heartbeat = _lease_and_heartbeat(rng, size)
    pace = max(0.4, lease / USUAL_LEASE)
    timing = Timing.from_lease(lease, heartbeat)
    names = rng.uniform(0.5, 6.0) if anything and rng.random() < 0.1 else 0.0
    auto = rng.random() < 0.08
    plan = Plan(
        seed=seed,
        profile=profile,
        size=size,
        guard=guard,
        mode=Mode.JOB if profile is Profile.JOB else Mode.SERVICE,
        restart=Restart.RECREATE if guard and rng.random() < 0.2 else Restart.INPLACE,
        probes=rng.random() < 0.85,
        health=rng.random() < 0.6,
        lease=lease,
        heartbeat=heartbeat,
        pace=pace,
        tick=max(timing.tick, min(lease / rng.choice((20.0, 20.0, 60.0)), 0.5 * timing.operation_timeout)),
        late=rng.choice((0.0, 0.0, 0.1, 0.3)) * min(1.0, timing.tick / 0.25),
        load=rng.uniform(0.2, 1.5),
        stubborn=rng.choice((0.0, 0.2, 0.5, 0.8) if profile is Profile.DRAIN else (0.0, 0.0, 0.2, 0.5)),
        slow=0.3 if anything and rng.random() < 0.15 else 0.0,
        immortal=0.2 if anything and rng.random() < 0.05 else 0.0,
        contagion=rng.choice((0.0, 0.5)) if guard else 0.0,
        names=names,
        auto=auto,
        twins=anything and 1 < size < LARGE and rng.random() < 0.03,
        strict=rng.random() < 0.1,
        barrier_timeout=8.0 * (1 + pace) if anything and rng.random() < 0.05 else 0.0,
        max_restarts=FEW_RESTARTS if few else 100,
        faults_from=3.5 + names + 3.5 * pace + (timing.takeover if auto else 0.0),
        faults_span=(6.0 if size >= LARGE else 16.0) * pace,
    )
    return replace(plan, spares=_draw_spares(plan))


def _draw_spares(plan: Plan) -> int:
    """Drawn apart, since seeds are kept for their worlds; where ranks are numbered, few, and by words that
    leave the worlds that kill mutants as they were.
    """
    if plan.profile is Profile.JOB:
        return 0
    if plan.auto:
        return Random(f"spares {plan.seed}").choice((0, 0, 1, 2))
    if plan.twins or plan.size >= LARGE:
        return 0
    return Random(f"numbered spares at {plan.seed}").choices((0, 1, 2), (20, 1, 1))[0]


def _lease_and_heartbeat(rng: Random, size: int) -> tuple[float, float]:
    """Half of all worlds as most users have it, some at the edges, the rest from all that is accepted."""
    how = rng.random()
    if how < 0.5:
        return 5.0, 1.0
    if how < 0.65:
        return rng.choice(_EDGES)
    heartbeat = round(0.2 * (150.0 / 0.2) ** rng.random(), 3)
    most = 4.0 if size >= LARGE else 15.0 if size < 5 else 6.0  # heartbeats cost events, long leases do not
    lease = max(1.0, 2 * heartbeat * (most / 2) ** rng.random())
    return max(round(min(300.0, lease), 3), 2 * heartbeat), heartbeat
