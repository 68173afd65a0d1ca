"""A history as a picture: each rank's states over time, one band a minute, faults marked. Plain SVG."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from tests.chaos.history import Chronicle, Sample

COLOURS = {
    "waiting": "#d0d0d0",
    "idle": "#9ecae1",
    "starting": "#c7e9c0",
    "running": "#74c476",
    "healthy": "#31a354",
    "stopping": "#fdae6b",
    "exited": "#e6550d",
    "lost": "#a50f15",
    "silent": "#ffffff",
}
BAND, SECOND, LANE, MARGIN, LABEL = 60.0, 18, 14, 50, 30  # seconds, then pixels
SILENCE = 1.2  # seconds without an answer before a rank is drawn as silent


def picture(history: Chronicle) -> str:
    """The picture, as the text of an SVG file."""
    end = max((sample.at for sample in history.samples), default=history.began)
    bands = int((end - history.began) // BAND) + 1
    height = LANE * history.size + LABEL + 16
    body = [_legend()]
    for band in range(bands):
        body += _band(history, history.began + band * BAND, 30 + band * height)
    size = f'width="{MARGIN + int(BAND * SECOND) + 20}" height="{40 + bands * height}"'
    style = "<style>text{font:10px sans-serif}</style>"
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{style}\n' + "\n".join(body) + "\n</svg>\n"


def _legend() -> str:
    parts = []
    for place, (state, colour) in enumerate(COLOURS.items()):
        x = MARGIN + place * 90
        parts.append(f'<rect x="{x}" y="6" width="12" height="12" fill="{colour}" stroke="#888"/>')
        parts.append(f'<text x="{x + 16}" y="16">{state}</text>')
    return "".join(parts)


def _band(history: Chronicle, start: float, top: int) -> Iterator[str]:
    lanes = top + LABEL
    yield f'<text x="2" y="{top + 10}">{start - history.began:.0f} s</text>'
    for rank in range(history.size):
        y = lanes + rank * LANE
        yield f'<text x="2" y="{y + 10}">rank {rank}</text>'
        mine = sorted((one for one in history.samples if one.host == rank), key=lambda one: one.at)
        for begin, stop, state in _spans(mine):
            low, high = max(begin, start), min(stop, start + BAND)
            if low < high:
                yield (
                    f'<rect x="{MARGIN + (low - start) * SECOND:.1f}" y="{y}" '
                    f'width="{(high - low) * SECOND:.1f}" height="{LANE - 2}" fill="{COLOURS[state]}"/>'
                )
    yield from _marks(history, start, top)


def _spans(samples: list[Sample]) -> Iterator[tuple[float, float, str]]:
    """Stretches in which the answers were the same."""
    begin = 0
    for index, sample in enumerate(samples):
        last = index + 1 == len(samples)
        following = samples[index + 1] if not last else sample
        gap = following.at - sample.at > SILENCE
        if last or gap or following.state != samples[begin].state:
            yield samples[begin].at, sample.at + 0.2 if last or gap else following.at, samples[begin].state
            begin = index + 1


def _marks(history: Chronicle, start: float, top: int) -> Iterator[str]:
    bottom = top + LABEL + LANE * history.size
    for one in history.rounds:
        for place, fault in enumerate(one.faults):
            for at, colour, dash in (
                (fault.struck, "#d00", ""),
                (fault.mended, "#00c", ' stroke-dasharray="3"'),
            ):
                if at is not None and start <= at < start + BAND:
                    x = MARGIN + (at - start) * SECOND
                    yield f'<path d="M{x:.1f} {top + 4} V{bottom}" stroke="{colour}"{dash}/>'
            if start <= fault.struck < start + BAND:
                x = MARGIN + (fault.struck - start) * SECOND + 3
                label = f"{one.number}: {fault.kind} @{fault.rank}"
                yield f'<text x="{x:.1f}" y="{top + 12 + 12 * place}">{escape(label)}</text>'
