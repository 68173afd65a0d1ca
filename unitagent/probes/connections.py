"""One connection of the probe address, from its first byte to its last.

The invariant: an idle connection may stay open (peers hold one, to notice at once when this agent dies),
but a request must be over within ``DEADLINE`` seconds of its first byte. Requests take turns of similar
length: heads with thousands of lines, which cost h11 as much as a dozen requests, are refused.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, cast

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from unitagent.probes.answers import AGENT_CHECK_REQUEST
from unitagent.probes.fair_queue import Lane

if TYPE_CHECKING:
    from collections.abc import Callable

    from unitagent.probes.admission import Client, ClientTable
    from unitagent.probes.fair_queue import FairQueue

DEADLINE = 5.0  # seconds
_MAX_HEADER = 16 * 1024  # bytes of request line and headers
_LIVENESS = tuple(f"{verb} /{path}".encode() for verb in ("GET", "HEAD") for path in ("livez", "healthz"))
_END_OF_HEAD = b"\r\n\r\n"
_MOST_LINES = 128  # of a head; clients and their proxies send a few dozen
_BLANK_LINE = re.compile(rb"\n\r?\n")  # h11 takes this for the end of a head
_WHY = b"a request has at most %d lines here\n" % _MOST_LINES
_TOO_MANY = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(_WHY), _WHY)
)


class UvicornContext:
    """The parts of uvicorn that all connections of one server share."""

    def __init__(self, app: Any) -> None:
        self.config = _configure_uvicorn(app)
        self.state = ServerState()


class ProbeConnection(H11Protocol):
    """One client: uvicorn's HTTP/1.1 protocol with a deadline for what the client has begun.

    HAProxy's agent-check speaks no HTTP: where a request could begin, its line is answered by ``agent_line``.
    """

    def __init__(
        self,
        shared: UvicornContext,
        guest: Client,
        all_: tuple[ClientTable, FairQueue],
        agent_line: Callable[[], bytes],
    ) -> None:
        super().__init__(shared.config, shared.state, {})
        self._guest = guest
        self._guests, self._turns = all_
        self._agent_line = agent_line
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the transport; the client may have been disconnected meanwhile."""
        super().connection_made(cast(asyncio.Transport, transport))
        self._guest.transport = self.transport
        if self._guest.gone:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it, with its timers."""
        super().connection_lost(exc)
        self._guests.remove(self._guest)
        self._turns.discard(self._guest.origin.party, self)
        self._unset_keepalive_if_required()
        self._cancel_deadline()

    def data_received(self, data: bytes) -> None:
        """Pass it to h11, and set a deadline for the request."""
        if self._deadline is None:
            self._deadline = self.loop.call_later(DEADLINE, self.transport.abort)
        if data == AGENT_CHECK_REQUEST and self._is_idle():
            self._wait_for_turn(self._send_agent_check, Lane.OTHER)
        else:
            super().data_received(data)

    def handle_events(self) -> None:
        """Wait for a turn to look at what h11 was given, and read no more until then."""
        if not self._is_idle():
            self.flow.pause_reading()
            begun, _ = self.conn.trailing_data
            if _END_OF_HEAD in begun:
                self._wait_for_turn(
                    self._handle_request, Lane.LIVENESS if begun.startswith(_LIVENESS) else Lane.OTHER
                )
            else:
                self._turns.enqueue(self._guest.origin.party, self, self._handle_request)

    def _wait_for_turn(self, act: Callable[[], None], lane: Lane) -> None:
        """Queue a complete request, which counts as a reason to keep the client."""
        if self._guest.asked is None:
            self._guest.asked = self.loop.time()
        own = self._guest.own and lane is not Lane.LIVENESS  # a crowd of this host is not before its probes
        self._turns.enqueue(self._guest.origin.party, self, act, Lane.OWN if own else lane)

    def _handle_request(self) -> None:
        """As uvicorn does it, but cut off where h11 allows no 400 (a broken body behind a HEAD)."""
        self.flow.resume_reading()
        if self._has_too_many_lines():
            self.transport.write(_TOO_MANY)
            self.transport.close()  # by the deadline, should this never be read
            return
        try:
            super().handle_events()
        except h11.ProtocolError:
            self.transport.abort()
        if self._is_idle():
            self._cancel_deadline()

    def _send_agent_check(self) -> None:
        self.transport.write(self._agent_line())
        self.transport.close()  # by the deadline, should earlier answers never be read

    def on_response_complete(self) -> None:
        """Give the next request, which a pipelining client may have begun already, its own time."""
        self._cancel_deadline()
        self._guest.asked, self._guest.answered = None, True
        super().on_response_complete()
        if not self._is_idle():
            self._deadline = self.loop.call_later(DEADLINE, self.transport.abort)

    def timeout_keep_alive_handler(self) -> None:
        """Cut off instead of a polite end, which would wait for a client that does not read."""
        self.transport.abort()

    def _is_idle(self) -> bool:
        """Whether nothing has begun: neither a request under way nor a part of the next header."""
        idle: Any = h11.IDLE
        return self.conn.their_state is idle and not self.conn.trailing_data[0]

    def _has_too_many_lines(self) -> bool:
        """Look at the next head without h11, which reads line by line."""
        idle: Any = h11.IDLE
        begun, _ = self.conn.trailing_data
        if self.conn.their_state is not idle or begun.count(b"\n") <= _MOST_LINES:
            return False
        end = _BLANK_LINE.search(begun)
        return begun.count(b"\n", 0, end.start() if end else len(begun)) > _MOST_LINES

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _configure_uvicorn(app: Any) -> Config:
    """Set uvicorn to be quiet: no console log, no access log, no start-up protocol, no other protocols."""
    config = Config(
        app,
        http=ProbeConnection,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        interface="asgi3",
        workers=1,
        h11_max_incomplete_event_size=_MAX_HEADER,
    )
    config.load()
    return config
