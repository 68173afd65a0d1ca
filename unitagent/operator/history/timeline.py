"""A Unit's history as states over time, and the chart of it that ``unitagent timeline`` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from msgspec.structs import replace

from unitagent.core.history import EventKind, HistoryEvent
from unitagent.core.model import InstanceState
from unitagent.operator.history.event_text import format_time
from unitagent.operator.terminal import Style
from unitagent.system import safe_output

FAULT, GAP = "X", "!"
START = "s"  # below the chart: what a start, which the chart shows with this letter, was made of
# Later states cover earlier ones, so that a short restart is visible in a chart of a day.
LETTERS = {
    InstanceState.HEALTHY: "#",
    InstanceState.RUNNING: "=",
    InstanceState.WAITING: ".",
    InstanceState.IDLE: "-",
    InstanceState.STARTING: "s",
    InstanceState.STOPPING: "v",
    InstanceState.EXITED: "_",
    InstanceState.LOST: "?",
}
_SEVERITIES = {
    **{LETTERS[state]: "good" for state in (InstanceState.HEALTHY, InstanceState.RUNNING)},
    **{LETTERS[state]: "bad" for state in (InstanceState.EXITED, InstanceState.LOST)},
    FAULT: "bad",
    GAP: "busy",
}
_BLANK = "\N{NO-BREAK SPACE}"  # where a line must not be wrapped
_PLAIN = Style()
_DEPTH = {state: depth for depth, state in enumerate(LETTERS)}
_MIN_WIDTH = 20  # letters per row, however narrow the terminal is


@dataclass(frozen=True, slots=True)
class Span:
    """A rank in one state, from one second since the epoch to another."""

    rank: int
    begin: float
    end: float
    state: InstanceState


@dataclass(frozen=True, slots=True)
class Timeline:
    """A history as states over time.

    Attributes:
        faults: the first failure of each generation that failed, with what was found out about it later.
        gaps: where events are missing, so that a state may be outdated.
        starts: what each start of the engine was made of.
        generations: when each generation began.

    """

    begin: float
    end: float
    ranks: tuple[int, ...] = ()
    spans: tuple[Span, ...] = ()
    faults: tuple[HistoryEvent, ...] = ()
    gaps: tuple[HistoryEvent, ...] = ()
    starts: tuple[HistoryEvent, ...] = ()
    generations: Mapping[int, float] = field(default_factory=dict)


def build_timeline(
    events: Sequence[HistoryEvent], silent: Mapping[int, float], now: float, since: float | None = None
) -> Timeline:
    """Build the timeline of a history.

    Args:
        events: oldest first.
        silent: ranks that have been silent for their lease -> their last sign of life.
        now: on the same clock.
        since: omit everything before this time.

    """
    if not events:
        return Timeline(now, now)
    first = max(events[0].at, since or 0.0)
    spans = [*_build_spans(events, silent, now)]
    last = max((span.end for span in spans), default=now)
    shown = (span for span in spans if span.end >= first)
    return Timeline(
        begin=first,
        end=max(last, first),
        ranks=tuple(sorted({event.rank for event in events})),
        spans=tuple(Span(one.rank, max(one.begin, first), one.end, one.state) for one in shown),
        faults=_select_kind([*_explain_faults(events)], EventKind.FAILURE, first),
        gaps=_select_kind(events, EventKind.GAP, first),
        starts=_select_kind(events, EventKind.ENGINE, first),
        generations={number: at for number, at in _find_generations(events) if at >= first},
    )


def _explain_faults(events: Sequence[HistoryEvent]) -> Iterator[HistoryEvent]:
    """Yield the failures, each with what the evidence of its generation says."""
    found = {one.generation: one.detail for one in events if one.kind is EventKind.EVIDENCE}
    for one in events:
        if one.kind is EventKind.FAILURE:
            clause = found.get(one.generation, "")
            yield replace(one, detail=f"{one.detail}; {clause}") if clause else one


def _select_kind(events: Sequence[HistoryEvent], kind: EventKind, first: float) -> tuple[HistoryEvent, ...]:
    return tuple(one for one in events if one.kind is kind and one.at >= first)


def _build_spans(events: Sequence[HistoryEvent], silent: Mapping[int, float], now: float) -> Iterator[Span]:
    """Build the spans; a rank whose agent ended has no state until another agent takes its place."""
    current: dict[int, tuple[float, InstanceState]] = {}
    for event in _select_holders(events):
        was = current.get(event.rank)
        state = None if event.kind is EventKind.QUIT else event.state
        if was and was[1] is state:
            continue
        if was:
            yield Span(event.rank, was[0], event.at, was[1])
        current.pop(event.rank, None)
        if state:
            current[event.rank] = event.at, state
    for rank, (begin, state) in current.items():
        gone = max(begin, silent.get(rank, now))
        yield Span(rank, begin, gone, state)
        if gone < now:
            yield Span(rank, gone, now, InstanceState.LOST)


def _select_holders(events: Sequence[HistoryEvent]) -> Iterator[HistoryEvent]:
    """Select the events of each rank's current holder, not those of a waiting or replaced agent."""
    holders: dict[int, str] = {}
    for event in events:
        if event.kind in (EventKind.JOINED, EventKind.TAKEOVER):
            holders[event.rank] = event.incarnation
        own = holders.get(event.rank, event.incarnation) == event.incarnation
        if event.state and (own or event.kind is EventKind.FAILURE):
            yield event


def _find_generations(events: Sequence[HistoryEvent]) -> Iterator[tuple[int, float]]:
    highest = 0
    for event in events:
        if event.kind is EventKind.GENERATION and event.generation > highest:
            highest = event.generation
            yield highest, event.at


def draw_chart(unit: str, line: Timeline, width: int, style: Style = _PLAIN) -> str:
    """Draw a timeline, ``width`` letters wide: a row per rank, with a letter for the worst state in each
    interval.
    """
    label = f"rank {max(line.ranks, default=0)} "
    scale = _Scale(line, max(_MIN_WIDTH, width - len(label)))
    begin, end = format_time(line.begin), format_time(line.end)
    rows = style.wrap(f"Unit {unit}: {begin} to {end}, a letter is {scale.step:.3g} s")
    rows.append(f"{'gen':<{len(label)}}{scale.draw_generations()}".rstrip())
    for rank in line.ranks:
        letters = _paint_letters(scale.draw_row(rank).rstrip(), style)
        rows.append(f"{f'rank {rank}':<{len(label)}}{letters}".rstrip())
    rows += _format_legend(style)
    for mark, events in ((FAULT, line.faults), (GAP, line.gaps), (START, line.starts)):
        for one in events:
            rows += style.wrap(safe_output.escape_line(one.detail), f"{mark} {format_time(one.at)}  ")
    return "\n".join(rows)


def _paint_letters(row: str, style: Style) -> str:
    runs = ((severity, "".join(run)) for severity, run in groupby(row, key=_SEVERITIES.get))
    return "".join(style.paint(run, severity or "") for severity, run in runs)


def _format_legend(style: Style) -> list[str]:
    marks = [*((letter, state.value) for state, letter in LETTERS.items()), (FAULT, "failure"), (GAP, "gap")]
    lines = style.wrap("  ".join(f"{letter}{_BLANK}{name}" for letter, name in marks), hang=0)
    return [line.replace(_BLANK, " ") for line in lines]


class _Scale:
    """Maps times to cells of a row."""

    def __init__(self, line: Timeline, cells: int) -> None:
        self._line = line
        self._cells = cells
        self.step = max(line.end - line.begin, 0.001) / cells

    def draw_row(self, rank: int) -> str:
        """Draw the worst state in each cell; gaps in this rank's events and failures that it caused cover
        it.
        """
        depths = [-1] * self._cells
        for span in self._line.spans:
            if span.rank == rank:
                first, last = self._find_cell(span.begin), self._find_cell(span.end - self.step / 1000)
                for place in range(first, max(first, last) + 1):
                    depths[place] = max(depths[place], _DEPTH[span.state])
        letters = [" ", *LETTERS.values()]
        row = [letters[depth + 1] for depth in depths]
        for mark, events in ((GAP, self._line.gaps), (FAULT, self._line.faults)):
            for event in events:
                if event.rank == rank:
                    row[self._find_cell(event.at)] = mark
        return "".join(row)

    def draw_generations(self) -> str:
        """Draw each generation's number where it begins, if there is room."""
        row = ""
        for number, place in self._find_beginnings():
            if not row or place > len(row):
                row = f"{row:<{place}}{number}"
        return row

    def _find_beginnings(self) -> Iterator[tuple[int, int]]:
        for number, at in self._line.generations.items():
            yield number, self._find_cell(at)

    def _find_cell(self, at: float) -> int:
        return max(0, min(self._cells - 1, int((at - self._line.begin) / self.step)))
