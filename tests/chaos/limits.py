"""Every duration of a run that depends on the lease and the heartbeat, derived from the Unit's ``Timing``.

At the usual lease of 5 s and a heartbeat of 1 s these are: an outage of 2 to 9 s, 8 to 11 s in which somebody
is unreachable, a pause of 1 to 2.4 s; 7 s to detect, to stop in isolation and to say no longer that all is
ready.
"""

from __future__ import annotations

from collections.abc import Callable

from unitagent.core.timing import Timing

Limit = Callable[[Timing], float]
Span = Callable[[Timing], tuple[float, float]]

AT_ONCE, QUICK = 1.5, 3.0  # seconds, whatever the timing: nothing else of it waits for a beat or a lease
KEEPERS = 3.0  # seconds in which keepers end, and others start, before the workload does
_SLACK = 0.8  # seconds by which a busy machine may wake somebody late


def no_time(_timing: Timing) -> tuple[float, float]:
    return 0.0, 0.0


def long(timing: Timing) -> tuple[float, float]:
    """Longer than it takes to replace somebody."""
    return timing.takeover + 1.0, timing.takeover + 4.0


def outage(timing: Timing) -> tuple[float, float]:
    """Shorter than a lease, or longer."""
    return 0.4 * timing.lease, 1.8 * timing.lease


def pause(timing: Timing) -> tuple[float, float]:
    """What an agent may miss after a beat without being lost."""
    spare = timing.lease - timing.heartbeat
    most = max(0.1, min(0.6 * spare, spare - _SLACK))
    return 0.4 * most, most


def bad_line(timing: Timing) -> tuple[float, float]:
    """The delay each way, in seconds, and the share that is lost, which a Unit has to bear.

    A lost packet is sent again after two delays and 0.2 s, then after twice that: a longer lease bears more.
    """
    return 0.04 * timing.lease, 0.3


def for_a_moment(_timing: Timing) -> tuple[float, float]:
    return 1.0, 2.5


def until_all_know(timing: Timing) -> tuple[float, float]:
    """Long enough for every agent to find out without a store."""
    return 4 * timing.lease, 4 * timing.lease + 2.0


def at_once(_timing: Timing) -> float:
    """What an agent sees itself is known at once,"""
    return AT_ONCE


def refused(timing: Timing) -> float:
    """and what is refused when its next beat is missing."""
    return AT_ONCE + timing.beat_due


def in_time(timing: Timing) -> float:
    """What is silent is known a second after its lease at the latest, and workloads end in another."""
    return timing.takeover


def after_one_more_beat(timing: Timing) -> float:
    """Who only hears nothing any more may be heard once more, a heartbeat later."""
    return in_time(timing) + timing.heartbeat


def isolated(timing: Timing) -> float:
    """Who is cut off has stopped when its rank may be taken."""
    return timing.takeover


def told(timing: Timing) -> float:
    """Readiness may still be said so long after a workload's death,"""
    return timing.takeover


def found_out(timing: Timing) -> float:
    """and so long while the store is away, when every agent has to find out for itself."""
    return timing.lease + timing.takeover


def settled(_timing: Timing) -> float:
    """How long to look on after a round,"""
    return 1.5


def taken_over(timing: Timing) -> float:
    """and after one that somebody may act on only when a lease or a takeover has run out."""
    return timing.takeover + timing.heartbeat
