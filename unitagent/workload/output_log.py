"""The last output of an instance's workload, over its generations, for ``/logs``.

The invariant: memory is bounded by ``MOST_BYTES`` and taken as output comes, so the log of a workload that
writes nothing costs nothing. Bytes are kept as they were written, and made fit to show only when somebody
reads them: a page at a time. Streams take turns by whole lines, so the lines of two never mix.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from typing import TYPE_CHECKING

from msgspec import Struct

from unitagent.system.output_streams import drop_overwritten

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_BYTES = 256 * 1024
_CUT = MOST_BYTES // 8  # bytes that make room at once
_LONGEST_LINE = 4096  # bytes of a line without an end, which is kept in pieces then
_MOST_STARTS = 64  # generations whose starts are remembered
PAGE_BYTES = 32 * 1024


class OutputPart(Struct, frozen=True):
    """Output of one generation: whole lines, as they were written."""

    generation: int
    data: bytes


class OutputPage(Struct, frozen=True):
    """A part of the log.

    Attributes:
        begin: where it begins, in bytes since the agent started.
        end: where the next page begins.
        more: whether there is a next page now.
        parts: in the order in which they were written.

    """

    begin: int
    end: int
    more: bool
    parts: tuple[OutputPart, ...]


class OutputLog:
    """The last whole lines of all streams of the workload, of one generation after the other.

    Attributes:
        listener: takes the lines, too, as they come; None for nobody. It must not block.

    """

    def __init__(self) -> None:
        self.listener: Callable[[bytes], None] | None = None
        self._data = bytearray()
        self._begin = 0  # where these begin, in bytes since the agent started
        self._starts: deque[tuple[int, int]] = deque(maxlen=_MOST_STARTS)  # where each generation begins

    def begin_generation(self, generation: int) -> None:
        """Count what follows to this generation."""
        end = self._begin + len(self._data)
        if self._starts and self._starts[-1][0] == end:  # the last one has written nothing
            self._starts.pop()
        self._starts.append((end, generation))

    def append_lines(self, lines: bytes) -> None:
        """Append whole lines, in the place of the oldest where there is no room."""
        self._data += lines[-MOST_BYTES:]
        self._begin += max(0, len(lines) - MOST_BYTES)
        excess = len(self._data) - MOST_BYTES
        if excess > 0:
            cut = self._data.find(b"\n", min(excess + _CUT, len(self._data) - 1)) + 1
            del self._data[:cut]
            self._begin += cut
        if self.listener is not None:
            self.listener(lines)

    def read_page(self, after: int) -> OutputPage:
        """Return the lines that follow ``after``, a page's end; the oldest where it is none of this log."""
        known = self._begin <= after <= self._begin + len(self._data)
        begin = after if known else self._begin
        start = begin - self._begin
        stop = min(start + PAGE_BYTES, len(self._data))
        if stop < len(self._data):
            stop = self._data.rfind(b"\n", start, stop) + 1 or self._data.find(b"\n", stop) + 1
        end = self._begin + stop
        return OutputPage(begin, end, stop < len(self._data), tuple(self._split_generations(begin, end)))

    def _split_generations(self, begin: int, end: int) -> list[OutputPart]:
        offsets = [offset for offset, _ in self._starts]
        parts = []
        while begin < end:
            index = bisect_right(offsets, begin)
            stop = min(end, offsets[index]) if index < len(offsets) else end
            data = bytes(self._data[begin - self._begin : stop - self._begin])
            parts.append(OutputPart(self._starts[index - 1][1] if index else 0, data))
            begin = stop
        return parts


class OutputStream:
    """One stream of bytes on its way into the log, which gets whole lines only."""

    def __init__(self, log: OutputLog) -> None:
        self._log = log
        self._partial = b""

    def feed_bytes(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        lines, newline, rest = data.rpartition(b"\n")
        if newline:
            self._log.append_lines(self._partial + lines + newline)
            self._partial = b""
        self._partial = drop_overwritten(self._partial + rest)
        if len(self._partial) > _LONGEST_LINE:
            self.end_line()

    def end_line(self) -> None:
        """Keep an unfinished line as it is; the stream may have ended."""
        if self._partial:
            self._log.append_lines(self._partial + b"\n")
            self._partial = b""
