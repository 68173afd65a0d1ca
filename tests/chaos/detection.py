"""How long it took until another rank acted on a fault, and whether that was in time."""

from __future__ import annotations

from collections.abc import Iterator

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
        limit = KINDS[kind].noticed
        if len(one.faults) > 1 or limit is None or one.stuck:
            continue
        after = detected(history, one)
        if after is None or after > limit:
            told = "never" if after is None else f"after {after:.2f} s"
            yield f"round {one.number}: {kind} was noticed {told}, not within {limit:g} s"
