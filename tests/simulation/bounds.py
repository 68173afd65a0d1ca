"""How long each thing may take in a world, by its lease and heartbeat: what the validators hold the core to.

The invariant: a bound follows from the contract's numbers (detect within the lease and a second, isolate
within the lease and two) and from what this world adds: the step of its clocks, and the delay of its loops.
"""

from __future__ import annotations

from dataclasses import dataclass

from unitagent.core.timing import Timing

ROUND_TRIP = 0.15  # seconds, for the slowest answer of a store or a peer that is well


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Seconds.

    Attributes:
        slack: what a single step of this world may be late beyond the production's.
        detected: a silent death, by the first survivor in contact; ``told``: by all of them.
        isolated: without the store and rank 0, until the workload is gone.
        unready: a member's workload is down, until nobody says ready, in the worst case without the store.
        agreed: until all who are in contact give the same answer.
        waking: until an agent that has stood still, or a store that is back, has been heard.
        settled: of unbroken contact in which a lease can be judged.
        patience: after the last fault, until the Unit is well or has ended as it should.
        calm: that it has to stay so.
        look: between two looks of the validators.

    """

    slack: float
    detected: float
    told: float
    isolated: float
    unready: float
    agreed: float
    waking: float
    settled: float
    patience: float
    calm: float
    look: float

    @classmethod
    def of(cls, timing: Timing, tick: float, late: float, *, probes: bool) -> Bounds:
        """The bounds of a world whose clocks step by ``tick``, each up to ``late`` seconds late.

        Where nobody can be asked a death is found from when its last beat, or the loss of it, was seen.
        """
        slack = ROUND_TRIP + 2 * (max(0.0, tick - timing.tick) + late)
        exchange = timing.heartbeat + timing.operation_timeout + 2 * timing.tick
        seen = 0.0 if probes else timing.heartbeat
        return cls(
            slack=slack,
            detected=seen + timing.lease + 1.0 + slack,
            told=seen + timing.lease + 1.0 + exchange + slack,
            isolated=timing.lease + 2.0 + slack,
            unready=timing.lease + 1.0 + exchange + slack,
            agreed=exchange + timing.heartbeat + slack,
            waking=exchange + slack,
            settled=timing.lease + 1.0 + slack,
            patience=25.0 + 4 * (timing.takeover + exchange + slack),
            calm=0.8 * timing.lease,
            look=max(0.25, timing.lease / 10),
        )
