"""A terminal of a given width, and what was written to it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import termios
import time

DEADLINE = 120.0


class Terminal:
    """A terminal.

    Attributes:
        end: the descriptor that programs have.
        raw: what they wrote so far.

    """

    def __init__(self, columns: int, rows: int = 40) -> None:
        self._ear, self.end = pty.openpty()
        fcntl.ioctl(self.end, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.raw = b""

    @property
    def text(self) -> str:
        return self.raw.decode(errors="replace").replace("\r\n", "\n")

    def wait_for(self, words: str) -> None:
        """Read until this has been written."""
        deadline = time.monotonic() + DEADLINE
        while words not in self.text:
            assert time.monotonic() < deadline, self.text
            self.read()

    def read(self) -> None:
        """Read what is there, and wait for it a moment."""
        if select.select((self._ear,), (), (), 0.1)[0]:
            self.raw += os.read(self._ear, 65536)

    def close(self) -> None:
        os.close(self.end)
        os.close(self._ear)
