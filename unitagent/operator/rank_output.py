"""The output of several agents in one place, each line with its rank, as ``unitagent local`` shows it.

The invariants: whole lines are written, each of one rank, and those of one stream of a rank in their order. A
line without an end is shown once nothing has followed for a while, once it is long, and when its stream ends.
A slow reader of ours slows the workloads down, as it would without us; when it is gone, so are the pipes.
"""

from __future__ import annotations

import os
import selectors
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO

from unitagent.operator.terminal import Style, detect_style, format_rank
from unitagent.system.output_streams import STDERR, STDOUT, drop_overwritten, write_all

_CHUNK = 64 * 1024
_LONGEST_LINE = 64 * 1024  # bytes of a line that are held back
_REST = 1.0  # seconds without more of a line, after which it is shown
_RESET = b"\x1b[0m"


class RankLines:
    """Makes lines of what one rank writes to one stream."""

    def __init__(self, prefix: str, style: Style) -> None:
        self._prefix = prefix.encode()
        self._resets = style.width is not None
        self._rest = b""
        self._fed = 0.0
        self._ended_early = False

    def feed_bytes(self, data: bytes, now: float) -> bytes:
        """Take the next bytes; return the lines that are whole now, with their rank."""
        if self._ended_early:  # then its end is no empty line
            data = data.removeprefix(b"\n")
        self._ended_early = False
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest, self._fed = drop_overwritten(rest), now
        shown = b"".join(map(self._format_line, lines))
        return shown + self.end_line() if len(self._rest) > _LONGEST_LINE else shown

    def end_line(self) -> bytes:
        """Return the unfinished line, if there is any, as if it had ended."""
        rest, self._rest = self._rest, b""
        self._ended_early = self._ended_early or bool(rest)
        return self._format_line(rest) if rest else b""

    def end_old_line(self, now: float) -> bytes:
        """Return the unfinished line if nothing has followed for a while."""
        return self.end_line() if now - self._fed >= _REST else b""

    @property
    def is_unfinished(self) -> bool:
        """Whether a line has begun and not ended."""
        return bool(self._rest)

    def _format_line(self, line: bytes) -> bytes:
        line = drop_overwritten(line)
        end = _RESET if self._resets and b"\x1b" in line else b""  # one rank's colours do not run on
        return self._prefix + line + end + b"\n"


class RankOutput:
    """Shows what several ranks write, until :meth:`close`.

    Args:
        streams: for stdout and stderr, the pipe of each rank, in rank order.

    """

    def __init__(self, streams: Mapping[int, Sequence[IO[bytes]]]) -> None:
        same = os.path.samestat(os.fstat(STDOUT), os.fstat(STDERR))
        locks = {number: threading.Lock() for number in streams}
        self._threads = [
            threading.Thread(
                target=_relay_lines, args=(number, pipes, locks[STDOUT if same else number]), daemon=True
            )
            for number, pipes in streams.items()
        ]
        for thread in self._threads:
            thread.start()

    def close(self, limit: float) -> None:
        """Show the last lines; a reader that is stuck, or a process that keeps its pipe, delays the end by at
        most ``limit`` seconds.
        """
        deadline = time.monotonic() + limit
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def _relay_lines(sink: int, pipes: Sequence[IO[bytes]], lock: threading.Lock) -> None:
    style = detect_style(stream=sys.stderr if sink == STDERR else sys.stdout)
    with selectors.DefaultSelector() as selector:
        for rank, pipe in enumerate(pipes):
            selector.register(pipe, selectors.EVENT_READ, RankLines(format_rank(rank, style), style))
        try:
            while selector.get_map():
                if shown := _read_lines(selector):
                    with lock:
                        write_all(sink, shown)
        except OSError:  # the reader is gone: the agents learn of it as if they wrote there themselves
            for pipe in pipes:
                pipe.close()


def _read_lines(selector: selectors.BaseSelector) -> bytes:
    """Wait for the next output, or until an unfinished line is old; return what is to be shown."""
    sources = [key.data for key in selector.get_map().values()]
    ready = selector.select(_REST if any(one.is_unfinished for one in sources) else None)
    now, shown = time.monotonic(), b""
    for key, _ in ready:
        data = os.read(key.fd, _CHUNK)
        shown += key.data.feed_bytes(data, now) if data else key.data.end_line()
        if not data:
            selector.unregister(key.fileobj)
    return shown + b"".join(one.end_old_line(now) for one in sources)
