"""What people have to know beside the phase: each condition is true, or says why not and what happens next.

The list has the same entries at all times and in a Unit of any size.
"""

from __future__ import annotations

from typing import Any

from unitagent.core import outage
from unitagent.core.state import State

_ANSWERED = {"type": "StoreReachable", "status": "True", "reason": "StoreAnswers"}


def conditions(state: State, since: float | None) -> list[dict[str, Any]]:
    """All of them; ``since`` is when the store came, or when it last answered, in seconds since the epoch."""
    if state.connected:
        return conditions_by_store(since)
    reason = "StoreSilent" if state.store.looked else "StoreNotReachedYet"
    return [
        {
            "type": "StoreReachable",
            "status": "False",
            "reason": reason,
            "message": f"{_silence(state)}; {_next(state)}",
            "since": since,
        }
    ]


def conditions_by_store(since: float | None = None) -> list[dict[str, Any]]:
    """What is told of a Unit by whoever has just read the store."""
    return [{**_ANSWERED, "message": "the store answers", "since": since}]


def _silence(state: State) -> str:
    return "the store does not answer" if state.store.looked else "the store has not been reached yet"


def _next(state: State) -> str:
    """What the outage means for this instance."""
    if state.workload.cut_off:
        return "this instance was cut off: the workload was stopped, and starts when the store is back"
    if not state.up:
        return "nothing is started before it is there"
    if not outage.can_be_isolated(state):
        return "the Unit goes on without it, and nothing new is started"
    whom = "any other rank" if state.rules.rank == 0 else "rank 0"
    return (
        f"the Unit goes on; without the store and {whom} for {state.rules.lease:g} s (UNIT_LEASE_SECONDS), "
        "this instance stops its workload"
    )
