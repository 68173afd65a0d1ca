"""What ``unitagent probe`` makes of an answer, word by word as it comes over the wire."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from unitagent.operator.probe_client import send_probe


@contextmanager
def answering(answer: bytes, host: str = "127.0.0.1") -> Iterator[tuple[int, list[bytes]]]:
    """Answer one question so; its port, and what was asked."""
    asked: list[bytes] = []
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                while b"\r\n\r\n" not in b"".join(asked):
                    asked.append(client.recv(4096))
                client.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], asked
        thread.join(60)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n", (True, "ok")),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\nnot ready: rank 1\nmore\n", (False, "not ready: rank 1")),
        (b"HTTP/1.0 404 Not Found\r\n\r\n", (False, "404")),
        (b"HTTP/1.1 2000 OK\r\n\r\nok\n", (False, "ok")),
        (b"HTTP/1.1\r\n\r\n", (False, "")),
        (b"HTTP/1.1 200 OK\r\n\r\n\xff\n", (True, "\ufffd")),
    ],
)
def test_the_code_decides_and_the_first_line_says_why(answer: bytes, found: tuple[bool, str]) -> None:
    with answering(answer) as (port, _):
        assert send_probe("/readyz", "127.0.0.1", port, 30) == found


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH\r\n", b"\r\n\r\n"])
def test_who_does_not_speak_http_is_told(answer: bytes) -> None:
    with answering(answer) as (port, _):
        yes, why = send_probe("/readyz", "127.0.0.1", port, 30)
    assert not yes
    assert why == f"no answer from 127.0.0.1:{port}: the process that listens there does not speak HTTP"


def test_the_question_names_the_host_and_wants_no_second_answer() -> None:
    with answering(b"HTTP/1.1 200 OK\r\n\r\n", "::1") as (port, asked):
        assert send_probe("/livez", "[::1]", port, 30) == (True, "200")
    lines = b"".join(asked).decode().split("\r\n")
    assert lines == ["GET /livez HTTP/1.1", f"Host: [::1]:{port}", "Connection: close", "", ""]


def test_an_answer_without_end_is_left() -> None:
    with answering(b"HTTP/1.1 200 OK\r\n\r\nok\n" + b"x" * (1 << 17)) as (port, _):
        assert send_probe("/livez", "127.0.0.1", port, 30) == (True, "ok")
