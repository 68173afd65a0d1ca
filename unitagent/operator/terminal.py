"""What a terminal can show: its width, its colours, and a text that is drawn again in its place.

The invariant: only what stands here may control a terminal; all other text has been escaped before.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TextIO

from unitagent.system.safe_output import print_verbatim

_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")  # of colours
_MIN_WRAPPED = 40  # columns; narrower text would be harder to read than text that begins on a line of its own
_MIN_ROOM = 10  # columns for a text, however narrow the terminal is
_COLOURS = {"good": "32", "busy": "33", "bad": "31", "off": "2"}  # by severity
_RANK_COLOURS = (
    "36",
    "33",
    "32",
    "35",
    "34",
    "96",
    "93",
    "92",
    "95",
    "94",
)  # the next rank has the first again
_FILLER = "\0"  # escaped text has none
_HOME, _CLEAR_LINE, _CLEAR_REST, _CLEAR = "\x1b[H", "\x1b[K", "\x1b[J", "\x1b[H\x1b[2J"


@dataclass(frozen=True, slots=True)
class Style:
    """How to write for one reader.

    Attributes:
        width: columns; None where lines may be as long as they are.
        coloured: whether colours are wanted.

    """

    width: int | None = None
    coloured: bool = False

    def paint(self, text: str, severity: str) -> str:
        """Colour a text by severity, where colours are wanted."""
        code = _COLOURS.get(severity) if self.coloured else None
        return text if code is None else f"\x1b[{code}m{text}\x1b[0m"

    def fade(self, text: str) -> str:
        """Replace the colours of a text by grey, where colours are wanted."""
        return "\n".join(self.paint(_ESCAPES.sub("", line), "off") for line in text.split("\n"))

    def wrap(self, text: str, head: str = "", severity: str = "", hang: int = 2) -> list[str]:
        """Return the lines of ``head`` and ``text``, which is painted by severity.

        They are wrapped at words, below the end of ``head`` if there is room. Without one, all lines but the
        first are indented by ``hang`` columns.
        """
        if self.width is None:
            return [head + self.paint(text, severity)]
        columns = measure_text(head)
        below = bool(head.strip()) and self.width - columns < _MIN_WRAPPED
        blank = " " * (min(4, self.width // 4) if below else columns)
        room = max(_MIN_ROOM, self.width - len(blank))
        further = "" if head.strip() else " " * hang
        first, *rest = (self.paint(line, severity) for line in _wrap_words(text, room, further))
        return (
            [head.rstrip(), *(blank + line for line in (first, *rest))]
            if below
            else [head + first, *(blank + line for line in rest)]
        )


def measure_text(text: str) -> int:
    """Return how many columns a text takes; letters of East Asia take two."""
    if text.isascii():
        return len(text)
    import unicodedata  # noqa: PLC0415 (rarely needed)

    marks = sum(unicodedata.category(letter) in ("Mn", "Me") for letter in text)
    return len(text) - marks + sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)


def _wrap_words(text: str, room: int, further: str) -> list[str]:
    """Wrap a text at words; all lines but the first begin with ``further``."""
    import textwrap  # noqa: PLC0415 (only for terminals)

    # It counts letters, so one that takes two columns brings another one along.
    wide = (
        text if text.isascii() else "".join(letter + _FILLER * (measure_text(letter) - 1) for letter in text)
    )
    lines = textwrap.wrap(wide, room, subsequent_indent=further, break_on_hyphens=False)
    return [line.replace(_FILLER, "") for line in lines] or [""]


def detect_style(environ: Mapping[str, str] = os.environ, stream: TextIO | None = None) -> Style:
    """Return the style of stdout or another stream: colours on a terminal, unless NO_COLOR
    (https://no-color.org) is set.
    """
    if not (stream or sys.stdout).isatty():
        return Style()
    dull = environ.get("NO_COLOR") or environ.get("TERM") == "dumb"
    return Style(shutil.get_terminal_size().columns, not dull)


def format_rank(rank: int, style: Style) -> str:
    """Format what stands before each line of output of a rank, where there are several."""
    name = f"[rank {rank}]"
    colour = _RANK_COLOURS[rank % len(_RANK_COLOURS)]
    return f"\x1b[{colour}m{name}\x1b[0m " if style.coloured else f"{name} "


class Screen:
    """Draws a text again and again: in its place on a terminal, else one below the other."""

    def __init__(self) -> None:
        self._in_place = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self._drawn = False

    def draw(self, text: str) -> None:
        """Draw a text, which has been escaped; what does not fit on a terminal is left out."""
        if not self._in_place:
            print_verbatim(f"{text}\n")
            return
        columns, rows = shutil.get_terminal_size()
        lines = cut_lines(text.split("\n"), columns, rows - 1)
        start = _HOME if self._drawn else _CLEAR
        self._drawn = True
        print_verbatim(start + "".join(f"{line}{_CLEAR_LINE}\n" for line in lines) + _CLEAR_REST)


def cut_lines(lines: list[str], columns: int, rows: int) -> list[str]:
    """Return the first lines that fit, and how many more there are."""
    used = 0
    for number, line in enumerate(lines):
        used += max(1, -(-measure_text(_ESCAPES.sub("", line)) // max(1, columns)))
        if used > rows:
            kept = max(0, number - 1)
            return [*lines[:kept], f"… {len(lines) - kept} more lines"]
    return lines


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        title: its head.
        spare: the first columns to leave out in a narrow terminal have the highest numbers; 0 for never.
        right: whether it is aligned to the right.

    """

    title: str
    spare: int = 0
    right: bool = False


def format_columns(
    columns: list[Column],
    rows: list[list[str]],
    style: Style,
    paint: Callable[[int, int, str], str] = lambda _row, _column, text: text,
) -> list[str]:
    """Format a table whose columns are as wide as what they hold.

    Args:
        columns: the columns.
        rows: one text per column each.
        style: its width decides which columns are left out.
        paint: colours a cell, given its row, its column and its padded text.

    """
    widths = [
        max([len(column.title), *(measure_text(row[one]) for row in rows)])
        for one, column in enumerate(columns)
    ]
    kept = _choose_columns(columns, widths, style.width)
    head = "  ".join(_pad(columns[one].title, widths[one], columns[one]) for one in kept).rstrip()
    lines = [head]
    for number, row in enumerate(rows):
        cells = [paint(number, one, _pad(row[one], widths[one], columns[one])) for one in kept]
        lines.append("  ".join(cells).rstrip())
    return lines


def _choose_columns(columns: list[Column], widths: list[int], width: int | None) -> list[int]:
    kept = list(range(len(columns)))
    spare = sorted((one for one in kept if columns[one].spare), key=lambda one: -columns[one].spare)
    while spare and width is not None and sum(widths[one] + 2 for one in kept) - 2 > width:
        kept.remove(spare.pop(0))
    return kept


def _pad(text: str, width: int, column: Column) -> str:
    blank = " " * (width - measure_text(text))
    return blank + text if column.right else text + blank
