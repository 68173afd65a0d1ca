"""A request that always ends.

The invariant: whatever the other side does (trickles bytes, sends without end, never answers), the caller
has an answer or an error by the deadline, the event loop never blocks, and no thread is left behind.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from socket import SHUT_RDWR
from typing import TYPE_CHECKING

from unitagent.system.threads import run_in_daemon_thread

if TYPE_CHECKING:
    import socket


@dataclass(frozen=True, slots=True)
class FetchedPage:
    """A whole response."""

    code: int
    body: bytes


class FetchError(Exception):
    """No usable response."""


@dataclass(slots=True)
class AbortableSocket:
    """The socket of one request, so that it can be aborted from outside the thread that blocks on it."""

    _sockets: list[socket.socket] = field(default_factory=list)
    _aborted: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def attach_connection(self, connected: socket.socket) -> None:
        """Take the socket of a connection just made."""
        with self._lock:
            self._sockets.append(connected)
            self._shut_down_if_aborted()

    def abort_connection(self) -> None:
        """End the connection, now or as soon as it is made."""
        with self._lock:
            self._aborted = True
            self._shut_down_if_aborted()

    def _shut_down_if_aborted(self) -> None:
        for connected in self._sockets if self._aborted else ():
            with suppress(OSError):
                connected.shutdown(SHUT_RDWR)


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRequest:
    """What to ask for.

    Attributes:
        timeout: seconds for the whole of it, name resolution and body included.
        limit: bytes of body that are accepted.
        body: JSON to post; None for a GET.
        verified: whether the certificate of an ``https`` server has to be a good one.

    """

    url: str
    timeout: float
    limit: int
    body: bytes | None = None
    verified: bool = True


async def fetch_url(request: FetchRequest) -> FetchedPage:
    """Ask in a thread of its own; redirects are not followed, proxies of the environment not used.

    Raises:
        FetchError: no usable response in time.

    """
    connected = AbortableSocket()

    def fetch() -> FetchedPage:
        from unitagent.probes.http_blocking import send_request  # noqa: PLC0415 (6 MiB; most ranks never ask)

        return send_request(request, connected)

    try:
        async with asyncio.timeout(request.timeout):
            return await run_in_daemon_thread(fetch, "fetch")
    except TimeoutError:
        raise FetchError(f"no answer within {request.timeout:g} s") from None
    except OSError as error:  # no thread is available
        raise FetchError(error.strerror or str(error)) from None
    finally:
        connected.abort_connection()
