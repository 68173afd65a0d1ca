"""What one seed means: the Unit's size, its settings, and what kind of trouble it will see."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random

from unitagent.core.model import Mode, Restart, Rules


class Profile(StrEnum):
    """Kinds of trouble; some guarantees can be told exactly only when nothing else goes on."""

    ANYTHING = "anything"
    BURST = "burst"  # several failures at the same moment in a guarded Unit that was well
    STORE = "store"  # trouble of the store only
    FOLLOWER = "follower"  # no guard, and only ranks other than 0 fail
    DRAIN = "drain"  # signals and orders only
    JOB = "job"


_WEIGHTS = {
    Profile.ANYTHING: 9,
    Profile.BURST: 2,
    Profile.STORE: 2,
    Profile.FOLLOWER: 2,
    Profile.DRAIN: 3,
    Profile.JOB: 2,
}

FAULTS_FROM = 7.0  # seconds; by then an undisturbed Unit is ready
FAULTS_SPAN = 16.0
FEW_RESTARTS = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that was drawn before the first event.

    Attributes:
        tick: seconds between two looks at the clock.
        load: seconds from a spawn until rank 0's health check passes.
        stubborn: share of workloads that ignore SIGTERM.
        contagion: chance that a workload crashes some seconds after another of its gang died.
        healed: when the last fault ends.

    """

    seed: int
    profile: Profile
    size: int
    guard: bool
    mode: Mode
    restart: Restart
    probes: bool
    health: bool
    tick: float
    load: float
    stubborn: float
    contagion: float
    max_restarts: int
    healed: float

    def rules(self, rank: int, incarnation: str) -> Rules:
        """What an agent of this world is told at its start."""
        return Rules(
            unit="sim",
            rank=rank,
            size=self.size,
            incarnation=incarnation,
            guard=self.guard,
            mode=self.mode,
            restart=self.restart,
            probes=self.probes,
            health=self.health,
            startup=12.0 if self.health and self.guard else 0.0,
            stop_grace=15.0,
            restart_grace=2.0,
            drain=5.0,
            deregister=1.0,
            max_restarts=self.max_restarts,
            backoff=(0.0, 0.5, 1.0),
        )


def draw(rng: Random, seed: int) -> Plan:
    """The plan of this seed."""
    profile = rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
    guard = {Profile.BURST: True, Profile.FOLLOWER: False}.get(profile, rng.random() < 0.65)
    few = profile is Profile.ANYTHING and guard and rng.random() < 0.2
    return Plan(
        seed=seed,
        profile=profile,
        size=rng.choices((1, 2, 3, 4, 5, 8), (1, 6, 8, 5, 2, 1))[0],
        guard=guard,
        mode=Mode.JOB if profile is Profile.JOB else Mode.SERVICE,
        restart=Restart.RECREATE if guard and rng.random() < 0.2 else Restart.INPLACE,
        probes=rng.random() < 0.85,
        health=rng.random() < 0.6,
        tick=rng.choice((0.25, 0.4, 0.5)),
        load=rng.uniform(0.2, 1.5),
        stubborn=rng.choice((0.0, 0.0, 0.2)),
        contagion=rng.choice((0.0, 0.5)) if guard else 0.0,
        max_restarts=FEW_RESTARTS if few else 100,
        healed=FAULTS_FROM + FAULTS_SPAN,
    )
