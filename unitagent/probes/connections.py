"""One connection of the probe address, from its first byte to its last, in HTTP/1.1 as h11 reads it.

The invariant: an idle connection may stay open (peers hold one, to notice at once when this agent dies),
but a request must be over within ``DEADLINE`` seconds of its first byte. Requests take turns of similar
length: heads with thousands of lines, which cost h11 as much as a dozen requests, are refused.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol, cast

import h11

from unitagent.core.probe_paths import LIVE
from unitagent.probes.admission import Lane
from unitagent.probes.answers import AGENT_CHECK_REQUEST, Response, make_text_response

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from unitagent.probes.admission import Client, ClientTable, FairQueue

_log = logging.getLogger(__name__)

DEADLINE = 5.0  # seconds
_KEEP_ALIVE = 5.0  # seconds that a connection stays open after an answer
_MAX_HEADER = 16 * 1024  # bytes of request line and headers
_LIVENESS = tuple(f"{verb} {path}".encode() for verb in ("GET", "HEAD") for path in LIVE.paths)
_END_OF_HEAD = b"\r\n\r\n"
_MOST_LINES = 128  # of a head; clients and their proxies send a few dozen
_BLANK_LINE = re.compile(rb"\n\r?\n")  # h11 takes this for the end of a head
_CLOSE = ("Connection", "close")
_MALFORMED = make_text_response(400, "this is not an HTTP/1.1 request, or its head is too long", _CLOSE)
_TOO_MANY = make_text_response(431, f"a request has at most {_MOST_LINES} lines here", _CLOSE)


class AnswerRequest(Protocol):
    """Answers a request, perhaps later; ``own``: it comes from this host, or from an instance of the Unit."""

    def __call__(self, request: h11.Request, *, own: bool) -> Response | Coroutine[Any, Any, Response]:
        """Return the response, or a coroutine that does."""


class ProbeConnection(asyncio.Protocol):
    """One client.

    HAProxy's agent-check speaks no HTTP: where a request could begin, its line is answered by ``agent_line``.

    Args:
        answer_request: answers a request of this client.
        client: its entry in ``clients``.
        queue: in which its requests take turns with all others.
        agent_line: returns the answer to HAProxy.

    """

    def __init__(
        self,
        answer_request: AnswerRequest,
        client: Client,
        clients: ClientTable,
        queue: FairQueue,
        agent_line: Callable[[], bytes],
    ) -> None:
        self._answer_call = answer_request
        self._client, self._clients, self._queue = client, clients, queue
        self._agent_line = agent_line
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEADER)
        self._loop = asyncio.get_running_loop()
        self._deadline: asyncio.TimerHandle | None = None
        self._pending: asyncio.Task[None] | None = None
        self._request: h11.Request | None = None
        self._is_full = False  # the client does not read what was written

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Enter the transport, by which the client table may disconnect it; perhaps it has already."""
        self._transport = cast(asyncio.Transport, transport)
        self._client.transport = self._transport
        if self._client.gone:
            self._transport.abort()

    def connection_lost(self, _: Exception | None) -> None:
        """Release its place, its turn and its timer."""
        self._clients.remove_client(self._client)
        self._queue.discard_request(self._client.origin.party, self)
        self._cancel_deadline()
        if self._pending is not None:
            self._pending.cancel()

    def pause_writing(self) -> None:
        """Answer nothing more until the client reads."""
        self._is_full = True

    def resume_writing(self) -> None:
        """Go on with the requests that came meanwhile."""
        self._is_full = False
        self._schedule_read()

    def data_received(self, data: bytes) -> None:
        """Hand the data to h11; the first byte of a request starts its deadline."""
        if self._is_idle():
            self._set_deadline(DEADLINE)
        if data == AGENT_CHECK_REQUEST and self._is_idle():
            self._wait_for_turn(self._write_agent_line, Lane.OTHER)
        else:
            self._http.receive_data(data)
            self._schedule_read()

    def _schedule_read(self) -> None:
        """Wait for a turn to read what h11 was given; read no more from the client until then."""
        if self._is_idle():
            return
        self._transport.pause_reading()
        if self._is_full or self._pending is not None:
            return
        begun, _ = self._http.trailing_data
        if _END_OF_HEAD in begun:
            self._wait_for_turn(
                self._read_request, Lane.LIVENESS if begun.startswith(_LIVENESS) else Lane.OTHER
            )
        else:
            self._queue.enqueue_request(self._client.origin.party, self, self._read_request)

    def _wait_for_turn(self, act: Callable[[], None], lane: Lane) -> None:
        """Wait for a turn with a whole request, which makes others leave first if places are short."""
        if self._client.asked is None:
            self._client.asked = self._loop.time()
        own = (
            self._client.own and lane is not Lane.LIVENESS
        )  # so a crowd on this host cannot delay its probes
        self._queue.enqueue_request(self._client.origin.party, self, act, Lane.OWN if own else lane)

    def _read_request(self) -> None:
        """Read one request, or the part of it that has arrived."""
        if self._has_too_many_lines():
            self._write_response(_TOO_MANY)
            return
        try:
            while (event := self._http.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                if isinstance(event, h11.Request):
                    self._answer_request(event)
        except h11.RemoteProtocolError as error:
            _log.debug("%s", error)
            self._write_response(_MALFORMED)
            return
        if event is h11.NEED_DATA:
            self._transport.resume_reading()
        self._begin_next()

    def _answer_request(self, request: h11.Request) -> None:
        self._request = request
        response = self._answer_call(request, own=self._client.own)
        if isinstance(response, Response):
            self._write_response(response)
        else:
            self._pending = asyncio.create_task(self._answer_later(response))

    async def _answer_later(self, response: Coroutine[Any, Any, Response]) -> None:
        """Write in another turn, or all clients that wait for the same answer would be served in one."""
        answer = await response

        def write() -> None:
            self._pending = None
            self._write_response(answer)
            self._begin_next()

        self._queue.enqueue_request(self._client.origin.party, self, write)

    def _write_response(self, response: Response) -> None:
        """Write a response, and close the connection after the last one; abort it when h11 allows none."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self._transport.abort()
            return
        http = self._http
        data = http.send(_make_head(response)) or b""
        if self._request is None or self._request.method != b"HEAD":
            data += http.send(h11.Data(data=response.body)) or b""
        self._transport.write(data + (http.send(h11.EndOfMessage()) or b""))
        if self._request is not None:
            method, target = self._request.method.decode(), self._request.target.decode()
            _log.debug("%s %s -> %d", method, target, response.code)
        self._client.asked, self._client.answered = None, True
        if http.our_state is h11.MUST_CLOSE:
            self._transport.close()  # at the deadline at the latest, if the client never reads

    def _begin_next(self) -> None:
        """Start over; a pipelining client may have sent the next request already."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return
        self._http.start_next_cycle()
        self._request = None
        if self._is_idle():
            self._set_deadline(_KEEP_ALIVE)
            self._transport.resume_reading()
        else:
            self._set_deadline(DEADLINE)
            self._schedule_read()

    def _write_agent_line(self) -> None:
        self._transport.write(self._agent_line())
        self._transport.close()  # at the deadline at the latest, if the client never reads

    def _is_idle(self) -> bool:
        """Whether no request is under way, and no part of the next one has arrived."""
        return self._http.their_state is h11.IDLE and not self._http.trailing_data[0]

    def _has_too_many_lines(self) -> bool:
        """Count the lines of the next head before h11 parses them one by one."""
        begun, _ = self._http.trailing_data
        if self._http.their_state is not h11.IDLE or begun.count(b"\n") <= _MOST_LINES:
            return False
        end = _BLANK_LINE.search(begun)
        return begun.count(b"\n", 0, end.start() if end else len(begun)) > _MOST_LINES

    def _set_deadline(self, seconds: float) -> None:
        self._cancel_deadline()
        self._deadline = self._loop.call_later(seconds, self._transport.abort)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _make_head(response: Response) -> h11.Response:
    headers = [
        ("date", time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())),
        ("content-type", response.content_type),
        ("content-length", str(len(response.body))),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("cross-origin-resource-policy", "same-origin"),
        *((name.lower(), value) for name, value in response.headers),
    ]
    return h11.Response(status_code=response.code, reason=HTTPStatus(response.code).phrase, headers=headers)
