"""How long until another rank acted on a fault, how long until all ran again, and whether it was in time."""

from __future__ import annotations

from collections.abc import Iterator

from tests.chaos import limits
from tests.chaos.faults import KINDS
from tests.chaos.history import History, Round


def detected(history: History, one: Round) -> float | None:
    """From the strike of a lone fault to the end of the first workload that ended by it, on another rank."""
    fault = one.faults[0]
    ends = [
        life.died
        for life in history.lives
        if life.main and life.generation == one.before and life.rank != fault.rank and life.died is not None
    ]
    first = min((died for died in ends if died >= fault.struck), default=None)
    return None if first is None else first - fault.struck


def noticed_in_time(history: History) -> Iterator[str]:
    """A lone fault is acted on by others as soon as its kind allows."""
    for one in history.rounds:
        kind = one.faults[0].kind
        promised = KINDS[kind].noticed
        if len(one.faults) > 1 or promised is None or one.stuck:
            continue
        limit = promised(history.timing)
        after = detected(history, one)
        if after is None or after > limit:
            told = "never" if after is None else f"after {after:.2f} s"
            yield f"round {one.number}: {kind} was noticed {told}, not within {limit:g} s"


def recovered(history: History, one: Round) -> float | None:
    """From when all faults were over to when the last workload was started."""
    born = [life.born for life in history.lives if life.main and one.before < life.generation == one.after]
    return max(0.0, max(born) - one.over) if born and not one.stuck else None


def rebuilt_quickly(history: History) -> Iterator[str]:
    """Who is rebuilt in its own place waits for no lease."""
    for one in history.rounds:
        kind = one.faults[0].kind
        limit, after = KINDS[kind].quick, recovered(history, one)
        if len(one.faults) > 1 or limit is None or after is None:
            continue
        waited = after - _came_up(history, one)
        limit += limits.KEEPERS if history.kept else 0.0
        if waited > limit:
            yield f"round {one.number}: {kind} took {waited:.2f} s to start again, not {limit:g} s"


def _came_up(history: History, one: Round) -> float:
    """From when the fault was over to the rebuilt agent's first answer: what the machine took to start it."""
    rank = one.faults[0].rank
    first = [flip.at for flip in history.flips if flip.host == rank and flip.code and flip.at > one.over]
    silent = [
        flip.at for flip in history.flips if flip.host == rank and not flip.code and flip.at > one.begun
    ]
    return next((at - one.over for at in first if silent and at > silent[0]), 0.0)
