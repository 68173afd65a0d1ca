"""Streams of output as bytes: their descriptors, whole writes, and lines that a progress bar rewrites."""

from __future__ import annotations

import os
import select

STDOUT, STDERR = 1, 2


def write_all(sink: int, data: bytes) -> None:
    """Write all of ``data``, however long the reader takes.

    Raises:
        OSError: the reader is gone, or the disk is full.

    """
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(sink, view) :]
        except BlockingIOError:  # another process made the shared description non-blocking
            select.select((), (sink,), ())


def drop_overwritten(line: bytes) -> bytes:
    """Drop what a progress bar has overwritten; a carriage return at the end may belong to the line's end."""
    return line[line.rfind(b"\r", 0, -1) + 1 :]
