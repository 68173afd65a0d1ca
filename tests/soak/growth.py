"""Whether something grows: what was seen over many restarts, and how much each measure rose.

The slope is the median of those between all pairs of looks (Theil and Sen), so that one look at a bad moment
does not decide. Memory that grows by steps has none: there the ends of the run count too.

One step of memory is known and is left out. CPython keeps all interned strings in one table; those that come
and go fill it with what is deleted, and after some hundred restarts it is made anew at twice its size, where
it stays: 2**16 to 2**17 slots, 939 KiB at once (seen in 3.11 by a debugger, with as many strings before and
after). A second one counts.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

_WARM_UP = 0.2  # of the looks: caches and pools fill first
_AT_MOST = 400  # looks that are compared pair by pair
_TABLE = 939.0  # KiB, by which the interpreter's table of strings grows once

# What may be added over a whole run, whatever its length: KiB of memory (an interpreter's heap settles for
# long), open files, threads, entries in the store.
ALLOWED = {"memory": 512.0, "files": 0.5, "threads": 0.5, "entries": 0.5}


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen at one moment: of all agents the largest, and of the store.

    Attributes:
        memory: proportional share (PSS) of what is no file, in KiB.

    """

    restarts: int
    memory: float
    files: float
    threads: float
    entries: float


@dataclass(frozen=True, slots=True)
class Growth:
    """One measure over a run, the warm-up left out.

    Attributes:
        grown: fitted, from the first look to the last.
        in_1000: the same, for 1,000 restarts.

    """

    first: float
    last: float
    largest: float
    grown: float
    in_1000: float
    flat: bool


def judge(looks: Sequence[Look]) -> dict[str, Growth]:
    """Each measure's growth over these looks, oldest first."""
    settled = looks[round(len(looks) * _WARM_UP) :]
    return {measure: _growth(settled, measure, allowed) for measure, allowed in ALLOWED.items()}


def _growth(looks: Sequence[Look], measure: str, allowed: float) -> Growth:
    values: list[float] = [getattr(look, measure) for look in looks]
    restarts = looks[-1].restarts - looks[0].restarts
    steady = _without_the_table(values) if measure == "memory" else values
    grown = restarts * _slope([(look.restarts, value) for look, value in zip(looks, steady, strict=True)])
    if measure == "memory":
        grown = max(grown, _risen(steady))
    slope = grown / restarts
    return Growth(
        values[0], values[-1], max(values), round(grown, 1), round(1000 * slope, 1), flat=grown <= allowed
    )


def _risen(values: list[float]) -> float:
    """From the first fifth to the last: what grows by steps has no slope between most looks."""
    fifth = max(1, len(values) // 5)
    return statistics.median(values[-fifth:]) - statistics.median(values[:fifth])


def _without_the_table(values: list[float]) -> list[float]:
    largest, place = max((after - before, at) for at, (before, after) in enumerate(pairwise(values), 1))
    if not 0.9 * _TABLE < largest < 1.1 * _TABLE:
        return values
    return [*values[:place], *(value - largest for value in values[place:])]


def _slope(points: Sequence[tuple[int, float]]) -> float:
    thinned = points[:: max(1, len(points) // _AT_MOST)]
    return statistics.median(
        (after[1] - before[1]) / (after[0] - before[0]) for before, after in combinations(thinned, 2)
    )


def table(found: dict[str, Growth], restarts: int) -> str:
    """The same for a person."""
    lines = [f"over {restarts} restarts, of the agent with the most; memory is PSS without files, in KiB"]
    for measure, one in found.items():
        told = "flat" if one.flat else f"GREW by more than {ALLOWED[measure]:g}"
        lines.append(
            f"  {measure:<8} {one.first:>8g} to {one.last:>8g}, at most {one.largest:>8g}; "
            f"grown {one.grown:g}, {one.in_1000:g} in 1,000 restarts: {told}"
        )
    return "\n".join(lines)
