"""The workload's stdout and stderr: relayed to ours unchanged and at once, and kept for a while: the last
lines for a failure, and the last output over all generations for ``/logs``.

The invariant: a slow or dead reader of our output never blocks the event loop. The loop reads the workload's
pipe without blocking; one thread for each stream does the blocking writes. When the reader is stuck, a
bounded amount is buffered here, then the pipe fills up and the workload blocks, exactly as it would without
us. When the reader of our stderr is gone (EPIPE), the output is dropped and the workload keeps running: a
broken log collector must not stop a Unit. When that of our stdout is gone, so is the pipe: a workload in the
middle of a pipeline learns of it as it would without us.

The memory of what is kept (:class:`OutputLog`) is bounded by ``MOST_BYTES`` and taken as output comes, so a
workload that writes nothing costs nothing. Bytes are kept as they were written, and made fit to show only
when somebody reads them: a page at a time. Streams take turns by whole lines, so the lines of two never mix.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
from bisect import bisect_right
from collections import deque
from typing import TYPE_CHECKING

from msgspec import Struct

from unitagent.system import safe_output
from unitagent.system.output_streams import STDERR, STDOUT, drop_overwritten, write_all

if TYPE_CHECKING:
    from collections.abc import Callable, Collection


_NAMES = {STDOUT: "stdout", STDERR: "stderr"}
_LINES = 20
_LINE_BYTES = 1000
_CHUNK = 64 * 1024
_HELD = 256 * 1024  # bytes read and not yet written, before we stop reading
_FINAL = (
    4 * _CHUNK
)  # bytes still read from the pipe when the tail is asked for; a pipe holds 64 KiB by default


class Tail:
    """The last lines of a byte stream, each cut to a bounded length."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque(maxlen=_LINES)
        self._partial = b""

    def feed_bytes(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        *lines, last = data.split(b"\n")
        if not lines:
            self._partial = _cut_line(self._partial + last)
            return
        lines[0] = self._partial + lines[0]
        self._lines.extend(_cut_line(line) for line in lines[-_LINES:])
        self._partial = _cut_line(last)

    def read_lines(self) -> list[str]:
        """Return the lines as text without terminal escapes, including an unfinished last one."""
        raw = [*self._lines, self._partial] if self._partial else list(self._lines)
        return [
            safe_output.escape_line(safe_output.drop_colours(line.decode(errors="replace")))
            for line in raw[-_LINES:]
        ]


def _cut_line(line: bytes) -> bytes:
    # A progress bar rewrites its line after each \r; what a terminal shows in the end is the last part.
    return line.rstrip(b"\r").rpartition(b"\r")[2][:_LINE_BYTES]


class BlockingWriter:
    """Writes to a file descriptor that may block, from a thread of its own.

    It wakes the loop once for everything written since the loop last looked, not once per piece: each wake-up
    takes room in the socket that also carries signals.
    """

    def __init__(self, sink: int, on_written: Callable[[int], None]) -> None:
        """Start; ``on_written`` is called in the running loop with the number of bytes written or dropped."""
        self.broken = False
        self._sink = sink
        self._on_written = on_written
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._written = 0
        # Started at once: later the workload may have used up the threads of this container.
        threading.Thread(target=self._run, name=f"output-{sink}", daemon=True).start()

    def write(self, data: bytes) -> None:
        """Queue ``data``."""
        self._queue.put(data)

    def _run(self) -> None:
        while True:
            data = self._queue.get()
            try:
                write_all(self._sink, data)
            except OSError as error:  # the reader is gone, or the disk is full: drop
                self.broken = isinstance(error, BrokenPipeError)
            with self._lock:
                is_scheduled, self._written = self._written > 0, self._written + len(data)
            if not is_scheduled:
                with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                    self._loop.call_soon_threadsafe(self._report_written)

    def _report_written(self) -> None:
        with self._lock:
            count, self._written = self._written, 0
        self._on_written(count)


class OutputRelay:
    """The pipe of one workload at a time, relayed to ``sink``, and copied into a log.

    Args:
        sink: stdout or stderr.
        stream: takes a copy; None for no copy.
        outlives_reader: the workload writes on when the reader of the sink is gone.

    """

    def __init__(
        self, sink: int = STDERR, stream: OutputStream | None = None, *, outlives_reader: bool = True
    ) -> None:
        self._writer = BlockingWriter(sink, self._on_written)
        self._stream = stream
        self._outlives_reader = outlives_reader
        self._tail = Tail()
        self._pipe: int | None = None
        self._reading = False
        self._held = 0
        self._written = asyncio.Event()
        self._written.set()

    def open_pipe(self) -> int:
        """Open a new pipe with an empty tail; the caller closes the returned writing end after the spawn."""
        self.close()
        self._tail = Tail()
        self._pipe, write_end = os.pipe()
        os.set_blocking(self._pipe, False)
        self._resume_reading()
        return write_end

    def read_tail(self) -> list[str]:
        """Return the last lines, including those still in the pipe."""
        left = _FINAL
        while left > 0 and (count := self._read_pipe()):
            left -= count
        return self._tail.read_lines()

    def close(self) -> None:
        """Stop reading; data already read is still written."""
        if self._pipe is not None:
            self.read_tail()
        self._close_pipe()

    async def flush(self, limit: float) -> None:
        """Wait until all data read has been written, at most ``limit`` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await self._written.wait()

    def _read_pipe(self) -> int:
        if self._pipe is None:
            return 0
        try:
            data = os.read(self._pipe, _CHUNK)
        except BlockingIOError:
            return 0
        if data:
            self._pass_on(data)
        else:
            self._close_pipe()
        return len(data)

    def _pass_on(self, data: bytes) -> None:
        self._tail.feed_bytes(data)
        if self._stream is not None:
            self._stream.feed_bytes(data)
        self._held += len(data)
        self._written.clear()
        self._writer.write(data)
        if self._held >= _HELD:
            self._pause_reading()

    def _on_written(self, count: int) -> None:
        self._held -= count
        if self._held == 0:
            self._written.set()
        if self._writer.broken and not self._outlives_reader:
            self._close_pipe()
        elif self._held < _HELD:
            self._resume_reading()

    def _close_pipe(self) -> None:
        self._pause_reading()
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None
        if self._stream is not None:
            self._stream.end_line()

    def _pause_reading(self) -> None:
        if self._reading and self._pipe is not None:
            asyncio.get_running_loop().remove_reader(self._pipe)
            self._reading = False

    def _resume_reading(self) -> None:
        if not self._reading and self._pipe is not None:
            asyncio.get_running_loop().add_reader(self._pipe, self._read_pipe)
            self._reading = True


class OutputCapture:
    """The relayed streams of an instance's workloads, and the log of what they had lately.

    Args:
        numbers: the descriptors of the workload that are relayed; the others are inherited.

    """

    def __init__(self, numbers: Collection[int] = (STDERR,)) -> None:
        self._log = OutputLog()
        self._relays = {
            number: OutputRelay(number, OutputStream(self._log), outlives_reader=number == STDERR)
            for number in sorted(numbers)
        }

    @property
    def streams(self) -> list[str]:
        """The names of the streams that are kept."""
        return [_NAMES[number] for number in self._relays]

    def set_listener(self, listener: Callable[[bytes], None] | None) -> None:
        """Pass all whole lines to ``listener``, too, as they come; None for nobody."""
        self._log.listener = listener

    def open_pipes(self, generation: int) -> dict[int, int]:
        """Open the pipes of the next workload; return their writing ends by descriptor, which the caller
        closes.
        """
        pipes = {number: relay.open_pipe() for number, relay in self._relays.items()}
        self._log.begin_generation(generation)
        return pipes

    def read_tail(self) -> list[str]:
        """Return the last lines of stderr; those of stdout if the workload has written none there."""
        tails = [self._relays[number].read_tail() for number in (STDERR, STDOUT) if number in self._relays]
        return next(filter(None, tails), [])

    def read_page(self, after: int) -> OutputPage:
        """Return a page of what the streams had lately, in this generation and the ones before."""
        return self._log.read_page(after)

    def read_generation(self) -> bytes:
        """Return what the streams had lately in the last generation, in whole lines."""
        self.read_tail()  # takes what is still in the pipes
        parts: list[OutputPart] = []
        after, more = 0, True
        while more:
            page = self._log.read_page(after)
            parts += page.parts
            after, more = page.end, page.more
        last = parts[-1].generation if parts else 0
        return b"".join(part.data for part in parts if part.generation == last)

    async def close(self, limit: float) -> None:
        """Flush the last output, waiting at most ``limit`` seconds for slow readers."""
        for relay in self._relays.values():
            relay.close()
        await asyncio.gather(*(relay.flush(limit) for relay in self._relays.values()))


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
