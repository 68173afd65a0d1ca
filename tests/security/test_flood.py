"""Many clients with many addresses at a probe address: each of its own probes is answered in time."""

from __future__ import annotations

import contextlib
import selectors
import socket
import statistics
import time

import pytest

from tests.security.starting import started
from tests.servers import DEADLINE

LIVEZ = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
STATUS = b"GET /status HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
CROWD = 400  # fewer than there are places
OWN, FOREIGN = "127.0.0.1", "127.250.0.1"  # this host, and a network that none of the flood comes from
ALLOWED = 1.0  # seconds: the shortest timeout that a liveness probe can have in Kubernetes


def seconds(port: int, source: str) -> float:
    """How long one probe takes, on a connection of its own; no answer at all takes for ever."""
    began = time.monotonic()
    try:
        with socket.create_connection((OWN, port), DEADLINE, source_address=(source, 0)) as client:
            client.sendall(LIVEZ)
            answer = client.recv(65536)
    except OSError:
        return float("inf")
    return time.monotonic() - began if answer.startswith(b"HTTP/1.1 200 ") else float("inf")


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("source", [OWN, FOREIGN])
@pytest.mark.parametrize("path", ["/livez", "/metrics", "/status", "0"])
def test_a_liveness_probe_is_answered_within_a_second(path: str, source: str) -> None:
    with started("serve.py", 64) as port, started("flood.py", port, 600, path):
        took = [seconds(int(port), source) for _ in range(20)]
    assert max(took) < ALLOWED, took


def test_a_crowd_of_the_same_host_is_not_before_its_liveness_probe() -> None:
    """All have asked, the probe last; the first answer takes longer than that."""
    with started("serve.py", 1024) as port, contextlib.ExitStack() as held:
        crowd = [_connect(int(port), held) for _ in range(CROWD)]
        probe = _connect(int(port), held)
        for client in crowd:
            client.sendall(STATUS)
        probe.sendall(LIVEZ)
        assert probe.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert len(_answered(crowd)) < CROWD * 3 / 4  # all of them, had it waited in their line


def _connect(port: int, held: contextlib.ExitStack) -> socket.socket:
    return held.enter_context(socket.create_connection((OWN, port), DEADLINE))


def _answered(clients: list[socket.socket]) -> list[object]:
    with selectors.DefaultSelector() as ready:
        for client in clients:
            ready.register(client, selectors.EVENT_READ)
        return [key.fileobj for key, _ in ready.select(0)]


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("path", ["/metrics", "/status"])
def test_a_large_unit_is_no_easier_to_keep_from_answering(path: str) -> None:
    with started("serve.py", 1024) as port, started("flood.py", port, 600, path):
        took = [seconds(int(port), FOREIGN) for _ in range(20)]
    assert max(took) < ALLOWED, took


def test_an_open_connection_is_answered_as_fast_as_a_new_one() -> None:
    with started("serve.py", 2) as port:
        new = [seconds(int(port), OWN) for _ in range(30)]
        with socket.create_connection((OWN, int(port)), DEADLINE) as client:
            kept = [again(client) for _ in range(30)]
    assert statistics.median(kept) < 3 * statistics.median(new), (kept, new)


def again(client: socket.socket) -> float:
    began, answer = time.monotonic(), b""
    client.sendall(LIVEZ)
    while not answer.endswith(b"ok\n"):
        answer += client.recv(65536)
    return time.monotonic() - began
