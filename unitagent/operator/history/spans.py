"""A Unit's history as states over time: the spans in which each rank was in one state, and the failures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from unitagent.core.history import EventKind, HistoryEvent
from unitagent.core.model import InstanceState


@dataclass(frozen=True, slots=True)
class Span:
    """A rank in one state, from one second since the epoch to another."""

    rank: int
    begin: float
    end: float
    state: InstanceState


@dataclass(frozen=True, slots=True)
class Timeline:
    """What there is to draw.

    Attributes:
        faults: the first failure of each generation that failed.
        gaps: where entries are missing, so that a state may be an older one.
        generations: when each generation was first entered.

    """

    begin: float
    end: float
    ranks: tuple[int, ...] = ()
    spans: tuple[Span, ...] = ()
    faults: tuple[HistoryEvent, ...] = ()
    gaps: tuple[HistoryEvent, ...] = ()
    generations: Mapping[int, float] = field(default_factory=dict)


def build_timeline(
    moments: Sequence[HistoryEvent], silent: Mapping[int, float], now: float, since: float | None = None
) -> Timeline:
    """Draw up a history.

    Args:
        moments: oldest first.
        silent: ranks that have said nothing for their lease, and when they last did.
        now: by the same clock.
        since: where to begin at the earliest.

    """
    if not moments:
        return Timeline(now, now)
    first = max(moments[0].at, since or 0.0)
    spans = [*_build_spans(moments, silent, now)]
    last = max((span.end for span in spans), default=now)
    shown = (span for span in spans if span.end >= first)
    return Timeline(
        begin=first,
        end=max(last, first),
        ranks=tuple(sorted({moment.rank for moment in moments})),
        spans=tuple(Span(one.rank, max(one.begin, first), one.end, one.state) for one in shown),
        faults=tuple(one for one in moments if one.kind is EventKind.FAILURE and one.at >= first),
        gaps=tuple(one for one in moments if one.kind is EventKind.GAP and one.at >= first),
        generations={number: at for number, at in _find_generations(moments) if at >= first},
    )


def _build_spans(moments: Sequence[HistoryEvent], silent: Mapping[int, float], now: float) -> Iterator[Span]:
    """A rank whose agent ended is in no state, until another takes its place."""
    current: dict[int, tuple[float, InstanceState]] = {}
    for moment in _select_holders(moments):
        was = current.get(moment.rank)
        state = None if moment.kind is EventKind.QUIT else moment.state
        if was and was[1] is state:
            continue
        if was:
            yield Span(moment.rank, was[0], moment.at, was[1])
        current.pop(moment.rank, None)
        if state:
            current[moment.rank] = moment.at, state
    for rank, (begin, state) in current.items():
        gone = max(begin, silent.get(rank, now))
        yield Span(rank, begin, gone, state)
        if gone < now:
            yield Span(rank, gone, now, InstanceState.LOST)


def _select_holders(moments: Sequence[HistoryEvent]) -> Iterator[HistoryEvent]:
    """What says in which state a rank is: not what one says that waits for it, or has been replaced."""
    holders: dict[int, str] = {}
    for moment in moments:
        if moment.kind in (EventKind.JOINED, EventKind.TAKEOVER):
            holders[moment.rank] = moment.incarnation
        own = holders.get(moment.rank, moment.incarnation) == moment.incarnation
        if moment.state and (own or moment.kind is EventKind.FAILURE):
            yield moment


def _find_generations(moments: Sequence[HistoryEvent]) -> Iterator[tuple[int, float]]:
    highest = 0
    for moment in moments:
        if moment.kind is EventKind.GENERATION and moment.generation > highest:
            highest = moment.generation
            yield highest, moment.at
