"""A real server for a benchmark, and what the kernel says of its work."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import processes

from tests.ports import free_port
from tests.servers import Server, redis_binary, start_redis
from unitagent.store.embedded import EmbeddedServer
from unitagent.system.keyring import Keyring

SETTLING = 2.0  # seconds in which the server's own work is measured


@contextlib.contextmanager
def running(*extra: str) -> Iterator[Server]:
    """Run redis-server, with memory only, for the time of a block."""
    if not redis_binary():
        sys.exit("needs redis-server on PATH: apt-get install redis-server, or scripts/bench.sh as root")
    with tempfile.TemporaryDirectory() as folder:
        server = start_redis(Path(folder), extra=extra)
        try:
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def embedded() -> Iterator[tuple[int, str]]:
    """Run the embedded store, with its own limits, for the time of a block; gives its pid and its URL."""
    port = free_port()
    server = EmbeddedServer("127.0.0.1", port, Keyring())
    pid = server.spawn_server()
    try:
        asyncio.run(server.wait_until_ready())
        yield pid, f"redis://127.0.0.1:{port}"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


class Load:
    """What a server has done since this was made.

    Args:
        idle: seconds of CPU that it takes each second when nobody asks anything.

    """

    def __init__(self, pid: int, idle: float = 0.0) -> None:
        self._pid, self._idle = pid, idle
        self._begun = time.monotonic()
        self._cpu, self._sent = processes.cpu(pid), processes.written(pid)

    @property
    def seconds(self) -> float:
        """Wall-clock time."""
        return time.monotonic() - self._begun

    @property
    def cpu(self) -> float:
        """Seconds of CPU, without what it takes when idle."""
        return processes.cpu(self._pid) - self._cpu - self._idle * self.seconds

    @property
    def sent(self) -> int:
        """Bytes."""
        return processes.written(self._pid) - self._sent


def idle_cpu(pid: int) -> float:
    """Seconds of CPU that a server takes each second when nobody asks anything."""
    load = Load(pid)
    time.sleep(SETTLING)
    return load.cpu / load.seconds
