"""One GET that always comes to an end.

The invariant: whatever the other side does (trickles bytes, sends without end, never answers), the caller has
an answer or an error by the deadline, the event loop never waits, and no thread stays behind.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from socket import SHUT_RDWR
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class FetchedPage:
    """A response."""

    code: int
    body: bytes


class FetchError(Exception):
    """No usable response."""


@dataclass(slots=True)
class AbortableSocket:
    """The socket of one request, so that it can be cut from outside the thread that blocks on it."""

    _sockets: list[socket.socket] = field(default_factory=list)
    _cut: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def attach(self, connected: socket.socket) -> None:
        """Take the socket of a connection just made."""
        with self._lock:
            self._sockets.append(connected)
            self._shut_down_if_aborted()

    def abort(self) -> None:
        """End the connection, now or as soon as it is made."""
        with self._lock:
            self._cut = True
            self._shut_down_if_aborted()

    def _shut_down_if_aborted(self) -> None:
        for connected in self._sockets if self._cut else ():
            with suppress(OSError):
                connected.shutdown(SHUT_RDWR)


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRequest:
    """What to ask for.

    Attributes:
        timeout: seconds for the whole of it, name resolution and body included.
        limit: bytes of body that are accepted.
        verified: whether the certificate of an ``https`` server has to be a good one.

    """

    url: str
    timeout: float
    limit: int
    verified: bool = True


async def fetch_url(get: FetchRequest) -> FetchedPage:
    """Ask in a thread of its own; redirects are not followed, proxies of the environment not used.

    Raises:
        FetchError: no usable response in time.

    """
    line = AbortableSocket()
    try:
        async with asyncio.timeout(get.timeout):
            return await _in_thread(lambda: _fetch_blocking(get, line))
    except TimeoutError:
        raise FetchError(f"no answer within {get.timeout:g} s") from None
    finally:
        line.abort()


def _fetch_blocking(get: FetchRequest, line: AbortableSocket) -> FetchedPage:
    from unitagent.probes.blocking import perform  # noqa: PLC0415 (requests costs 6 MiB; most ranks never ask)

    return perform(get, line)


async def _in_thread(function: Callable[[], FetchedPage]) -> FetchedPage:
    """Run in a daemon thread: the pools of the standard library keep a process alive until they are done."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[FetchedPage] = loop.create_future()

    def work() -> None:
        try:
            outcome = function()
        except Exception as error:  # noqa: BLE001 (handed to the caller)
            _call(loop, _settle, result, None, error)
        else:
            _call(loop, _settle, result, outcome, None)

    try:
        threading.Thread(target=work, name="fetch", daemon=True).start()
    except RuntimeError as error:  # there are as many as there may be
        raise FetchError(str(error)) from None
    return await result


def _call(loop: asyncio.AbstractEventLoop, *call: Any) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(*call)


def _settle(
    result: asyncio.Future[FetchedPage], outcome: FetchedPage | None, error: Exception | None
) -> None:
    if result.done():
        return
    if outcome is not None:
        result.set_result(outcome)
    elif error is not None:
        result.set_exception(error)
