"""A page whose name was made to lead to a probe address is told nothing; whoever else asks, is."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.solo import UNIT, Solo

HOST = socket.gethostname()


@pytest.fixture(scope="module")
def solo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Solo]:
    options = ["--http-hosts", "rank-0,*.svc.cluster.local", "--service", "chat"]
    solo = Solo(Path(tmp_path_factory.mktemp("solo")), *options)
    solo.ready()
    yield solo
    solo.close()


def asked(solo: Solo, *lines: str, version: str = "1.1") -> str:
    """The first line, and headers and body as they are."""
    request = [f"GET /status HTTP/{version}", "Connection: close", *lines, "", ""]
    with socket.create_connection(("127.0.0.1", solo.port), 60) as client:
        client.sendall("\r\n".join(request).encode("latin-1"))
        with client.makefile("rb") as answer:
            return answer.read().decode()


FOREIGN = [
    "evil.example", "evil.example:9470", "localhost.evil.example", "127.0.0.1.evil.example",
    f"{HOST}.evil.example", "svc.cluster.local", "evilsvc.cluster.local", "[::1", "evil.example:9470:80",
    "127.0.0.1@evil.example", "\x9b31m",
]  # fmt: skip


@pytest.mark.parametrize("host", FOREIGN, ids=range(len(FOREIGN)))
def test_a_foreign_name_is_refused(solo: Solo, host: str) -> None:
    answer = asked(solo, f"Host: {host}")
    assert answer.startswith("HTTP/1.1 421 ")
    assert "UNIT_HTTP_HOSTS" in answer
    assert UNIT not in answer
    assert "\x9b" not in answer


OWN = [
    "127.0.0.1", "192.0.2.7:9470", "[::1]:9470", "localhost", "LOCALHOST.:80", HOST, UNIT, "chat",
    "rank-0:9470", "metrics.prod.svc.cluster.local", "",
]  # fmt: skip


@pytest.mark.parametrize("host", OWN, ids=range(len(OWN)))
def test_an_address_or_a_name_of_ours_is_answered(solo: Solo, host: str) -> None:
    answer = asked(solo, f"Host: {host}")
    assert answer.startswith("HTTP/1.1 200 "), answer
    assert "cross-origin-resource-policy: same-origin" in answer


def test_no_host_at_all_is_answered(solo: Solo) -> None:
    assert asked(solo, version="1.0").startswith("HTTP/1.1 200 ")
