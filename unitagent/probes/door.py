"""Taking connections in: some in each turn of the event loop, and none while there is no place for it.

The invariant: whoever comes when all places are taken by those who wait for their first answer waits too, in
the kernel's queue, and is not sent away: who is sent away comes back at once, and that helps nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from unitagent.probes.admission import Client, ClientTable

_log = logging.getLogger(__name__)

_BACKLOG = 4096  # connections that the kernel keeps for us; it may allow fewer
_AT_ONCE = 32
_SOON = 0.02  # seconds until a place may have become free
_LATER = 1.0  # seconds until there may be a file again
_NONE_LEFT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Acceptor:
    """One listening socket.

    Args:
        make: the protocol for a guest.

    """

    def __init__(
        self, listener: socket.socket, guests: ClientTable, make: Callable[[Client], asyncio.Protocol]
    ) -> None:
        self._listener = listener
        self._guests = guests
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._held: socket.socket | None = None  # who waits at the door, out of the queue already
        self._coming: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Listen."""
        self._listener.setblocking(False)
        self._listener.listen(_BACKLOG)
        self._loop.add_reader(self._listener, self._accept_batch)

    def close(self) -> None:
        """Listen no more."""
        if self._pause is not None:
            self._pause.cancel()
        if self._held is not None:
            self._held.close()
        self._loop.remove_reader(self._listener)
        self._listener.close()

    def _accept_batch(self) -> None:
        for _ in range(_AT_ONCE):
            client = self._held or self._accept_one()
            if client is None:
                return
            self._held = None
            guest = self._guests.admit_client(*_get_addresses(client), self._loop.time())
            if guest is None:
                self._held = client
                self._pause_accepting(_SOON)
                return
            coming = self._loop.create_task(self._attach_protocol(client, guest))
            self._coming.add(coming)
            coming.add_done_callback(self._coming.discard)

    def _accept_one(self) -> socket.socket | None:
        try:
            client, _ = self._listener.accept()
        except OSError as error:  # else it is an error of that one connection, or there is none (accept(2))
            if error.errno in _NONE_LEFT:
                _log.debug("no connection can be taken in: %s", error)
                self._pause_accepting(_LATER)
            return None
        client.setblocking(False)
        return client

    def _pause_accepting(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        self._pause = self._loop.call_later(seconds, self._resume_accepting)

    def _resume_accepting(self) -> None:
        self._loop.add_reader(self._listener, self._accept_batch)
        if self._held is not None:
            self._accept_batch()

    async def _attach_protocol(self, client: socket.socket, guest: Client) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: self._make(guest), client)
        except OSError:
            self._guests.remove(guest)
            client.close()


def _get_addresses(client: socket.socket) -> tuple[str, str]:
    """The address that it comes from, and the one of ours that it has connected to."""
    with contextlib.suppress(OSError):  # it has gone already
        return str(client.getpeername()[0]), str(client.getsockname()[0])
    return "", "?"
