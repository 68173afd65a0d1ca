"""Ask a probe address from many addresses at once, again whenever an answer or an end comes:
``flood.py PORT SOCKETS REQUEST``; with 0 for REQUEST nothing is said at all.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import sys

PORT, SOCKETS, PATH = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
ASKED = b"" if PATH == "0" else b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % PATH.encode()
READY = selectors.DefaultSelector()


def begin(number: int) -> None:
    """Connect from a network of its own, 127.x.y.0/24."""
    client = socket.socket()
    client.setblocking(False)
    client.bind((f"127.{100 + number // 250}.{number % 250}.9", 0))
    client.connect_ex(("127.0.0.1", PORT))
    READY.register(client, selectors.EVENT_WRITE, number)


def again(client: socket.socket, number: int) -> None:
    READY.unregister(client)
    client.close()
    begin(number)


def go_on(client: socket.socket, number: int, events: int) -> None:
    try:
        if events & selectors.EVENT_READ:
            client.recv(1 << 20)
            again(client, number)
        else:
            client.send(ASKED)
            READY.modify(client, selectors.EVENT_READ, number)
    except OSError:
        again(client, number)


for each in range(SOCKETS):
    begin(each)
print("ready", flush=True)
with contextlib.suppress(KeyboardInterrupt):
    while True:
        for key, events in READY.select():
            go_on(key.fileobj, key.data, events)  # type: ignore[arg-type]
