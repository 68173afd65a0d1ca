"""The restart budget: how many restarts a window allows, and how long to pause before each.

Restarts are charged by the generation that they ended, so each counts once, whoever reports it. Every agent
announces what it knows of them with its record: what one forgets, because its container was rebuilt, another
or its own former record still tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from unitagent.core.model import Charge

Charges = tuple[Charge, ...]

MOST_CHARGES = 100  # charges that fit into a record; of a larger budget no more outlive a container


def merge_charges(charges: Iterable[Charge], now: float, window: float) -> Charges:
    """The restarts that still count, oldest first, each once; ``now`` in seconds since the epoch.

    A clock that is ahead of mine dates nothing later than now, or its charges would never end.
    """
    first: dict[int, float] = {}
    for charge in charges:
        first[charge.generation] = min(charge.at, now, first.get(charge.generation, now))
    return tuple(Charge(generation=one, at=at) for one, at in sorted(first.items()) if now - at < window)


def is_spent(charges: Charges, allowed: int) -> bool:
    """Whether the last of these restarts was one too many."""
    return len(charges) > allowed


def pause_before(charges: Charges, backoff: Sequence[float]) -> float:
    """Seconds to wait before the last of these restarts; the last value of ``backoff`` repeats."""
    if not charges or not backoff:
        return 0.0
    return backoff[min(len(charges), len(backoff)) - 1]
