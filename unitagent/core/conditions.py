"""What people have to know beside the phase: each condition is true, or says why not and what happens next.

The list has the same entries at all times and in a Unit of any size.
"""

from __future__ import annotations

from typing import Any

from unitagent.core import isolation
from unitagent.core.state import State

_ANSWERED = {"type": "StoreReachable", "status": "True", "reason": "StoreAnswers"}


def list_conditions(state: State, since: float | None) -> list[dict[str, Any]]:
    """All of them; ``since`` is when the store came, or when it last answered, in seconds since the epoch."""
    if state.connected:
        return list_store_conditions(since)
    reason = "StoreSilent" if state.store.ever_answered else "StoreNotReachedYet"
    return [
        {
            "type": "StoreReachable",
            "status": "False",
            "reason": reason,
            "message": f"{_describe_silence(state)}; {_describe_outage(state)}",
            "since": since,
        }
    ]


def list_store_conditions(since: float | None = None) -> list[dict[str, Any]]:
    """What is told of a Unit by whoever has just read the store."""
    return [{**_ANSWERED, "message": "the store answers", "since": since}]


def _describe_silence(state: State) -> str:
    return "the store does not answer" if state.store.ever_answered else "the store has not been reached yet"


def _describe_outage(state: State) -> str:
    """What the outage means for this instance."""
    if state.workload.cut_off:
        return "this instance was cut off: the workload was stopped, and starts when the store is back"
    if not state.up:
        return "nothing is started before it is there"
    if not isolation.can_be_isolated(state):
        return "the Unit goes on without it, and nothing new is started"
    whom = "any other rank" if state.config.rank == 0 else "rank 0"
    return (
        f"the Unit goes on; without the store and {whom} for {state.config.lease:g} s (UNIT_LEASE_SECONDS), "
        "this instance stops its workload"
    )
