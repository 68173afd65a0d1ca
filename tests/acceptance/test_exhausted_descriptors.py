"""A real agent with few file descriptors to spare, and clients that take all they can get."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.acceptance.local import LocalUnit
from tests.acceptance.solo import Solo

FILES = 256  # descriptors that the agent may have
GROWTH = 8 << 20  # bytes
GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
RUDE = [
    b"",
    GET,
    GET * 200,
    b"GET /livez HT",
    b"\x16\x03\x01\x02\x00\x01",
    b"x" * 100_000,
    GET + b"\xff" * 5000,
]


@pytest.fixture
def solo(tmp_path: Path) -> Iterator[Solo]:
    solo = Solo(tmp_path, "--log-level", "info", prefix=["prlimit", f"--nofile={FILES}", "--"])
    yield solo
    solo.close()


@pytest.mark.slow
def test_it_answers_and_restarts_all_the_same(solo: Solo) -> None:
    seen = solo.ready()
    agent = psutil.Process(solo.popen.pid)
    memory = agent.memory_info().rss
    with contextlib.ExitStack() as held:
        for number in range(1000):
            client = held.enter_context(socket.create_connection(("127.0.0.1", solo.port), timeout=10))
            client.setblocking(False)
            with contextlib.suppress(OSError):
                client.send(RUDE[number % len(RUDE)])
        assert solo.get("/livez") == "ok\n"
        os.kill(seen["instances"][0]["pid"], signal.SIGKILL)
        after = solo.ready(seen["generation"])
        assert (after["restarts"], after["store"]["connected"]) == (1, True)
        assert agent.num_fds() < FILES
    assert solo.get("/livez") == "ok\n"
    assert agent.memory_info().rss - memory < GROWTH
    assert "Traceback" not in solo.output.read_text()
    assert "internal error" not in solo.output.read_text()


@pytest.mark.slow
def test_a_flood_of_questions_restarts_nobody(tmp_path: Path) -> None:
    unit = LocalUnit(tmp_path, "--guard")
    try:
        former = unit.ready()
        flood(unit.port, seconds=10)  # two leases
        after = unit.ready()
        assert (after["restarts"], after["generation"]) == (0, former["generation"]), after["failure"]
    finally:
        unit.close()


def flood(port: int, seconds: float, *paths: str) -> None:
    """Keep 500 connections full of questions, the dearest if none are given, and read all answers."""
    many = (
        b"".join(
            b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path.encode() for path in paths or ["/metrics"]
        )
        * 200
    )
    deadline, count = time.monotonic() + seconds, 0
    with selectors.DefaultSelector() as ready:
        for _ in range(500):
            connect(port, ready)
        while time.monotonic() < deadline:
            for key, events in ready.select(0.1):
                client: socket.socket = key.fileobj  # type: ignore[assignment]
                try:
                    if events & selectors.EVENT_WRITE:
                        client.send(many)
                    if events & selectors.EVENT_READ:
                        count += len(client.recv(1 << 20))
                except BlockingIOError:
                    continue
                except OSError:
                    ready.unregister(client)
                    client.close()
                    connect(port, ready)
        for key in list(ready.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
    assert count


def connect(port: int, ready: selectors.BaseSelector) -> None:
    client = socket.create_connection(("127.0.0.1", port), timeout=30)
    client.setblocking(False)
    ready.register(client, selectors.EVENT_READ | selectors.EVENT_WRITE)
