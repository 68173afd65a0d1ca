"""Somebody without a password takes all places of the embedded store: whoever has it gets in all the same."""

from __future__ import annotations

import contextlib
import resource
import selectors
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.security.changing import OLD, Changing
from tests.security.test_changed_secret import Make, make
from tests.waiting import until
from unitagent.store.embedded import _MAX_CONNECTIONS

__all__ = ["make"]

BEGINNING = b"*"  # of a word, or the most that a server reads of who has not logged in
MUCH = b"*10\r\n" + 9 * (b"$16384\r\n" + b"x" * 16384 + b"\r\n")
PAUSE = 0.002  # seconds before one comes back

pytestmark = pytest.mark.skipif(
    resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 2 * _MAX_CONNECTIONS,
    reason="so many connections cannot be made",
)


class Crowd:
    """Connects again whenever it is put out, and says something: a connection on which nothing is said may be
    open at this end only, where the queue of the other was full. It takes its time: a flood keeps any server
    from answering.
    """

    def __init__(self, port: int, says: bytes) -> None:
        self._port, self._says, self._closing = port, says, threading.Event()
        self._ready = selectors.DefaultSelector()
        self.held, self.put_out = 0, 0
        for number in range(_MAX_CONNECTIONS):
            self._come(number)
        self._thread = threading.Thread(target=self._stay)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        for key in list(self._ready.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]

    def _come(self, number: int) -> None:
        client = socket.socket()
        client.setblocking(False)
        client.bind((f"127.{60 + number // 250}.{number % 250}.1", 0))
        client.connect_ex(("127.0.0.1", self._port))
        self._ready.register(client, selectors.EVENT_WRITE, number)
        self.held += 1

    def _stay(self) -> None:
        while not self._closing.is_set():
            for key, ready in self._ready.select(0.1):
                assert isinstance(key.fileobj, socket.socket)
                try:
                    if ready & selectors.EVENT_WRITE:
                        key.fileobj.send(self._says)
                        self._ready.modify(key.fileobj, selectors.EVENT_READ, key.data)
                        continue
                    key.fileobj.recv(1000)
                except OSError:
                    pass  # put out as well
                self._ready.unregister(key.fileobj)
                key.fileobj.close()
                self.put_out += 1
                self._closing.wait(PAUSE)
                self._come(key.data)


@contextlib.contextmanager
def crowd(port: int, says: bytes) -> Iterator[Crowd]:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(files[0], 2 * _MAX_CONNECTIONS), files[1]))
    one = Crowd(port, says)
    try:
        yield one
    finally:
        one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, files)


@pytest.mark.slow
@pytest.mark.alone  # so many connections take the machine
@pytest.mark.parametrize("says", [BEGINNING, MUCH], ids=["a beginning", "much"])
def test_a_crowd_of_strangers_keeps_no_rank_out(make: Make, says: bytes) -> None:
    unit: Changing = make("")
    unit.form(OLD)
    with crowd(unit.port, says) as strangers:
        until(lambda: strangers.put_out > _MAX_CONNECTIONS, "they are put out")
        unit.agents[2].close()
        unit.start(2)
        unit.ready(above=1)
        told = unit.command("status", secret=OLD, rank=0)
        assert told.returncode == 0, told.stderr
    assert "out of memory" not in unit.story() or says == MUCH
    assert "killing it" not in unit.story()
    assert "restarting it" not in unit.story()
