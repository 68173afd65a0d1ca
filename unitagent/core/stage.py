"""Where an agent stands in its life: one word, made of its state and kept nowhere.

The later word wins where two hold: who leaves may still drain, and who drains may be cut off meanwhile.
"""

from __future__ import annotations

from enum import StrEnum

from unitagent.core.state import State
from unitagent.core.state_parts import WorkloadPhase


class Stage(StrEnum):
    """What an agent is about."""

    JOINING = "joining"  # its rank is not its own yet
    AT_BARRIER = "at-barrier"  # it waits to start together with the others
    RUNNING = "running"  # it has started in its generation; its part of a job may be over already
    STOPPING = "stopping"  # its part in the generation is over, and what is left of its workload goes
    ISOLATED = "isolated"  # it was cut off from everybody, so its workload goes, or has gone, at once
    DRAINING = "draining"  # the Unit goes down because somebody asked, rank 0's workload first
    LEAVING = "leaving"  # it will end, with an exit code that it knows


def find_stage(state: State) -> Stage:
    """The stage of an agent with this state."""
    if state.shutdown.leaving is not None:
        return Stage.LEAVING
    if state.shutdown.draining is not None:
        return Stage.DRAINING
    if state.workload.cut_off:
        return Stage.ISOLATED
    if not state.joined:
        return Stage.JOINING
    if not state.in_gang:
        return Stage.AT_BARRIER
    return Stage.RUNNING if _takes_part(state) else Stage.STOPPING


def _takes_part(state: State) -> bool:
    """Whether its workload has not been told to end, or has done all that was to do."""
    return state.done if not state.up else state.workload.phase is not WorkloadPhase.STOPPING
