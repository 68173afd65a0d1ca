"""Worlds whose ranks have keepers: those of the same seeds, as far as keepers are accepted there."""

from __future__ import annotations

from random import Random
from typing import Any

from tests.simulation.plan import Profile
from tests.simulation.run import Outcome, simulate
from unitagent.core.config import Mode, Restart

_PROFILES = {
    Profile.ANYTHING: 4, Profile.MOMENTS: 3, Profile.BURST: 2, Profile.STORE: 2, Profile.DRAIN: 3
}  # fmt: skip
_WILD = (Profile.ANYTHING, Profile.MOMENTS)  # in the others workloads end when they are killed


def simulate_keepers(seed: int, told: bool = False, **changes: Any) -> Outcome:
    """Live through the world of this seed with keepers: with guard, as a service, restarted in place."""
    rng = Random(f"keepers {seed}")
    profile = rng.choices(list(_PROFILES), list(_PROFILES.values()))[0]
    policy = rng.choice(("restart-unit", "relaunch"))
    kept: dict[str, Any] = {"keeper": policy, "profile": profile, "guard": True}
    service: dict[str, Any] = {"mode": Mode.SERVICE, "restart": Restart.INPLACE, "barrier_timeout": 0.0}
    calm: dict[str, Any] = {} if profile in _WILD else {"slow": 0.0, "immortal": 0.0, "twins": False}
    return simulate(seed, told, **{**kept, **service, **calm, **changes})
