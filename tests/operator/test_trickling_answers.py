"""Whoever answers an operator's command byte by byte, without end."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from unitagent.operator import agent_client
from unitagent.operator.probe_client import send_probe
from unitagent.system.keyring import Keyring

PATIENCE = 30.0  # seconds after which the trickle ends, so that a command that waits for it fails this test
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"


@contextmanager
def trickling() -> Iterator[int]:
    """Answer one question with a byte every tenth of a second."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_trickle, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1]


def _trickle(listener: socket.socket) -> None:
    with suppress(OSError):
        asker, _ = listener.accept()
        with asker:
            asker.sendall(HEAD)
            end = time.monotonic() + PATIENCE
            while time.monotonic() < end:
                asker.sendall(b" ")
                time.sleep(0.1)


def test_a_probe_ends_in_time() -> None:
    began = time.monotonic()
    with trickling() as port:
        send_probe("/livez", "127.0.0.1", port, 0.5)
    assert time.monotonic() - began < PATIENCE / 2


def test_a_question_about_the_unit_ends_in_time() -> None:
    began = time.monotonic()
    with trickling() as port:
        assert agent_client.fetch_status("u", "127.0.0.1", port, Keyring()) is None
    assert time.monotonic() - began < PATIENCE / 2
