"""Runs programs that may hang, such as ``nvidia-smi`` on a broken GPU.

The invariant: nothing waits for one longer than it was given, and its parent stays until it has ended: an
orphan would become a child of the agent, and count as a part of the workload.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time

_PIECE = 64 * 1024


class Programs:
    """The programs of one collection."""

    def __init__(self) -> None:
        self._running: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._closed = False

    def run(self, argv: list[str], deadline: float, longest: int) -> bytes:
        """Return what the program prints until ``deadline``, on the monotonic clock, then kill it.

        Raises:
            OSError: it cannot be run.

        """
        with self._lock:
            if self._closed:
                return b""
            running = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            self._running.append(running)
        timer = threading.Timer(max(0.0, deadline - time.monotonic()), self._kill, [running])
        timer.daemon = True
        timer.start()
        try:
            return _read_output(running, longest)
        finally:
            timer.cancel()
            self._kill(running)

    def _kill(self, running: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(OSError):
            running.kill()

    def close(self) -> None:
        """Kill all, start no more, and wait until they have ended, however long that takes."""
        with self._lock:
            self._closed = True
            running = list(self._running)
        for one in running:
            self._kill(one)
        for one in running:
            one.wait()


def _read_output(running: subprocess.Popen[bytes], longest: int) -> bytes:
    output = b""
    if running.stdout is not None:
        while len(output) < longest and (piece := running.stdout.read1(_PIECE)):  # type: ignore[attr-defined]
            output += piece
    return output
