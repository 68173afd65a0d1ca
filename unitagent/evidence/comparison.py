"""Compares where all ranks are, and names the odd one out.

The invariant: nobody is named without a reason. Processes of one role are grouped by their places; a rank is
odd if most others are somewhere else, if it is stopped or stuck where others are not, or if it does something
while all others wait for it.
"""

from __future__ import annotations

from collections import Counter
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from unitagent.evidence.places import Place

_MOST_NAMED = 3
_LONGEST = 400  # characters

Placed = tuple[int, "Place"]  # the rank of a process, and where it is


class _Certainty(IntEnum):
    """How sure it is that somebody is odd."""

    MOST_ARE_ELSEWHERE = 1
    OTHERS_WAIT = 2
    HALTED = 3  # stopped or stuck


def compare_ranks(places: Mapping[int, Sequence[Place]]) -> str:
    """Return ``3 of 4 ranks wait in all_reduce, rank 1 is in open`` or the like; empty if none is odd."""
    if len(places) < 2:  # noqa: PLR2004 (nobody to compare with)
        return ""
    verdicts = [_judge_role(role) for role in _group_roles(places)]
    best = max(filter(None, verdicts), key=lambda one: one[0], default=None)
    empty = [rank for rank, found in sorted(places.items()) if not found]
    if best is None and empty and len(empty) <= len(places) / 2:
        return f"{_name_ranks(empty)} {'has' if len(empty) == 1 else 'have'} no workload process left"
    return best[1][:_LONGEST] if best else ""


def _group_roles(places: Mapping[int, Sequence[Place]]) -> Iterator[list[Placed]]:
    """Yield the processes of each role that several ranks have."""
    roles: dict[str, list[Placed]] = {}
    for rank, found in sorted(places.items()):
        for place in found:
            roles.setdefault(place.role, []).append((rank, place))
    yield from (placed for placed in roles.values() if len({rank for rank, _ in placed}) > 1)


def _judge_role(placed: list[Placed]) -> tuple[_Certainty, str] | None:
    """Return how sure it is that somebody is odd, and the clause; None if nobody is."""
    groups = Counter(place.key for _, place in placed)
    key, count = groups.most_common(1)[0]
    if len(groups) == 1:
        return None
    waiting = {place.key for _, place in placed if place.waits}
    if len(waiting) == 1 and 2 * groups[next(iter(waiting))] >= len(placed):
        key = next(iter(waiting))
        count = groups[key]
    halted = [one for one in placed if one[1].halted]
    if halted and len(halted) <= len(placed) / 2:
        moving = [one for one in placed if not one[1].halted]
        return _Certainty.HALTED, _write_clause(placed, moving, halted)
    most = [one for one in placed if one[1].key == key]
    odd = [one for one in placed if one[1].key != key]
    if key in waiting:
        return _Certainty.OTHERS_WAIT, _write_clause(placed, most, odd)
    if 2 * count > len(placed):
        return _Certainty.MOST_ARE_ELSEWHERE, _write_clause(placed, most, odd)
    return None


def _write_clause(placed: list[Placed], most: list[Placed], odd: list[Placed]) -> str:
    single = len({rank for rank, _ in placed}) == len(placed)
    noun = "ranks" if single else f"processes of {placed[0][1].role}"
    first = Counter(place.words for _, place in most).most_common(1)[0][0]
    waits = most[0][1].waits
    same = len({place.key for _, place in most}) == 1
    named = [_describe_odd(one, single=single) for one in odd[:_MOST_NAMED]]
    if len(odd) > _MOST_NAMED:
        named.append(f"{len(odd) - _MOST_NAMED} more are elsewhere")
    verb = ("waits" if len(most) == 1 else "wait") if waits else ("is" if len(most) == 1 else "are")
    if len(placed) == 2 and single:  # noqa: PLR2004 (both can be named)
        return f"rank {most[0][0]} {verb} {first}, {', '.join(named)}"
    if not same:
        return f"{', '.join(named)}, of {len(placed)} {noun}"
    return f"{len(most)} of {len(placed)} {noun} {verb} {first}, {', '.join(named)}"


def _describe_odd(one: Placed, *, single: bool) -> str:
    rank, place = one
    who = f"rank {rank}" if single else f"process {place.pid} of rank {rank}"
    return f"{who} {'waits' if place.waits else 'is'} {place.words}"


def _name_ranks(ranks: Sequence[int]) -> str:
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"
