"""The restart budget: how many restarts a window allows, and how long to pause before each."""

from __future__ import annotations

from collections.abc import Sequence

Times = tuple[float, ...]


def within(times: Times, now: float, window: float) -> Times:
    """The restarts that still count."""
    return tuple(at for at in times if now - at < window)


def spent(times: Times, allowed: int) -> bool:
    """Whether the last of these restarts was one too many."""
    return len(times) > allowed


def pause(times: Times, backoff: Sequence[float]) -> float:
    """Seconds to wait before the last of these restarts; the last value of ``backoff`` repeats."""
    if not times or not backoff:
        return 0.0
    return backoff[min(len(times), len(backoff)) - 1]
