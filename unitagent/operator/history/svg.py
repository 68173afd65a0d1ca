"""``unitagent timeline --svg``: the timeline as a self-contained SVG picture without scripts."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from textwrap import wrap

from unitagent.core.model import InstanceState
from unitagent.operator.history.event_text import format_time
from unitagent.operator.history.timeline import Span, Timeline
from unitagent.system import safe_output

# In painting order: later states cover earlier ones.
COLOURS = {
    InstanceState.HEALTHY: "#31a354",
    InstanceState.RUNNING: "#74c476",
    InstanceState.WAITING: "#d0d0d0",
    InstanceState.IDLE: "#9ecae1",
    InstanceState.STARTING: "#3182bd",
    InstanceState.STOPPING: "#fdae6b",
    InstanceState.EXITED: "#e6550d",
    InstanceState.LOST: "#a50f15",
}
_DEPTH = {state: depth for depth, state in enumerate(COLOURS)}
_WIDTH, _LABEL, _MARGIN, _TOP = 1000, 70, 10, 90  # pixels
_LANE, _LINE = 18, 16
_THINNEST = 1.5  # pixels; even a short span is visible
_TICKS = 8
_NAME_WIDTH = 80  # pixels for the name of a generation
_LETTERS = 150  # in a line below
_STYLE = "text{font:12px sans-serif;fill:#222}.small{font-size:10px}.fault{stroke:#d00;stroke-dasharray:3 2}"


def draw_svg(unit: str, line: Timeline) -> str:
    """Return the text of an SVG file."""
    bottom = _TOP + _LANE * len(line.ranks)
    sentences = _list_sentences(line)
    width = _LABEL + _WIDTH + _MARGIN
    height = bottom + 40 + _LINE * len(sentences)
    body = [
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        _draw_text(_MARGIN, 20, f"Unit {unit}: {format_time(line.begin)} to {format_time(line.end)}"),
        *_draw_legend(),
        *_draw_lanes(line),
        *_draw_spans(line),
        *_draw_ticks(line, bottom),
        *_draw_generations(line),
        *_draw_faults(line, bottom),
        *(_draw_text(_MARGIN, bottom + 40 + _LINE * row, text) for row, text in enumerate(sentences)),
    ]
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    inside = "\n".join(body)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{_STYLE}</style>\n{inside}\n</svg>\n'


def _draw_text(x: float, y: float, text: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{named}>{escape(safe_output.escape_line(text))}</text>'


def _scale_x(line: Timeline, at: float) -> float:
    return _LABEL + _WIDTH * (at - line.begin) / max(line.end - line.begin, 0.001)


def _draw_legend() -> Iterator[str]:
    for place, (state, colour) in enumerate(COLOURS.items()):
        x = _MARGIN + place * 95
        yield f'<rect x="{x}" y="32" width="12" height="12" fill="{colour}"/>'
        yield _draw_text(x + 16, 43, state)
    x = _MARGIN + len(COLOURS) * 95
    yield f'<path class="fault" d="M{x + 6} 30 V46"/>'
    yield _draw_text(x + 16, 43, "failure")


def _draw_lanes(line: Timeline) -> Iterator[str]:
    for place, rank in enumerate(line.ranks):
        yield _draw_text(_MARGIN, _TOP + place * _LANE + 13, f"rank {rank}")


def _draw_spans(line: Timeline) -> Iterator[str]:
    lanes = {rank: _TOP + place * _LANE for place, rank in enumerate(line.ranks)}
    for span in sorted(line.spans, key=lambda span: _DEPTH[span.state]):
        x, end = _scale_x(line, span.begin), _scale_x(line, span.end)
        box = f'x="{x:.1f}" y="{lanes[span.rank]}" width="{max(_THINNEST, end - x):.1f}" height="{_LANE - 3}"'
        yield f'<rect {box} fill="{COLOURS[span.state]}"><title>{escape(_describe_span(span))}</title></rect>'


def _describe_span(span: Span) -> str:
    lasted = f"{format_time(span.begin)} to {format_time(span.end)}, {span.end - span.begin:.3f} s"
    return f"rank {span.rank} {span.state}: {lasted}"


def _draw_ticks(line: Timeline, bottom: int) -> Iterator[str]:
    for tick in range(_TICKS):
        at = line.begin + (line.end - line.begin) * tick / _TICKS
        x = _scale_x(line, at)
        yield f'<path d="M{x:.1f} {bottom} v5" stroke="#888"/>'
        yield _draw_text(x, bottom + 16, format_time(at)[11:23], "small")


def _draw_generations(line: Timeline) -> Iterator[str]:
    """Label the generations that have room for a label."""
    free = 0.0
    for number, at in line.generations.items():
        x = min(_scale_x(line, at), _LABEL + _WIDTH - _NAME_WIDTH)
        if x >= free:
            yield _draw_text(x, _TOP - 22, f"generation {number}", "small")
            free = x + _NAME_WIDTH


def _draw_faults(line: Timeline, bottom: int) -> Iterator[str]:
    """Draw each failure as a line through all ranks, with its number."""
    for number, fault in enumerate(line.faults, 1):
        x = _scale_x(line, fault.at)
        lane = _TOP + line.ranks.index(fault.rank) * _LANE + _LANE / 2 - 1
        yield f'<path class="fault" d="M{x:.1f} {_TOP - 4} V{bottom}"/>'
        yield f'<circle cx="{x:.1f}" cy="{lane:.1f}" r="4" fill="#d00"/>'
        yield _draw_text(x - 3, _TOP - 8, str(number), "small")


def _list_sentences(line: Timeline) -> list[str]:
    """List the sentences below the picture, wrapped to fit."""
    sentences = [
        f"{number}  {format_time(fault.at)}  {fault.detail}" for number, fault in enumerate(line.faults, 1)
    ]
    for name, events in (("gap", line.gaps), ("start", line.starts)):
        sentences += [f"{name}  {format_time(one.at)}  {one.detail}" for one in events]
    return [part for sentence in sentences for part in wrap(safe_output.escape_line(sentence), _LETTERS)]
