"""The probe address: HTTP answers, and HAProxy's line, from the agent's own event loop.

The invariant: an answer proves that the loop runs. There is no thread and no second loop, so an agent that
hangs fails its liveness probe; and nothing that a client sends raises out of here.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING, Any

from unitagent.errors import ConfigurationError
from unitagent.keys import Keyring
from unitagent.late import put_off
from unitagent.listening import bind, is_literal, join
from unitagent.probes import agent_check
from unitagent.probes.answers import Request, respond
from unitagent.probes.door import Door
from unitagent.probes.guests import Guest, Guests, room
from unitagent.probes.hosts import Hosts
from unitagent.probes.response import Response
from unitagent.probes.signature import BRIEF_HEADER, NONCE_HEADER
from unitagent.probes.sparing import Sparing
from unitagent.probes.turns import Turns
from unitagent.probes.units import UnitAnswers, ours

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from unitagent.probes.answers import Answers
    from unitagent.probes.connections import Shared
    from unitagent.probes.units import Units

    Message = MutableMapping[str, Any]

_log = logging.getLogger(__name__)


class ProbeServer:
    """Answers probes and peers.

    uvicorn's ``Server`` is not used: it takes over signals and wakes up ten times a second. Its protocol
    class needs neither.

    Args:
        answers: of this agent.
        keys: that answers to peers are signed with; None for none.
        units: of the store, where the page shows them all.
        hosts: the names by which it may be asked.

    """

    def __init__(
        self,
        answers: Answers,
        keys: Keyring | None = None,
        units: Units | None = None,
        hosts: Hosts | None = None,
    ) -> None:
        self._hosts = hosts or Hosts()
        self._sparing = Sparing(answers)
        self._units = None if units is None else UnitAnswers(units)
        self._keys = keys if keys is not None else Keyring()
        self._guests = Guests(room(), self._sparing.peers)
        self._turns = Turns()
        self._door: Door | None = None
        self._shared: Shared | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the actual port.

        Raises:
            ConfigurationError: the address cannot be listened on.

        """
        listener = await _listen(host, port)
        self._door = Door(listener, self._guests, self._connection)
        self._door.open()
        return int(listener.getsockname()[1])

    async def stop(self) -> None:
        """Stop listening and cut off every connection."""
        if self._door is not None:
            self._door.close()
            self._guests.close()
            if self._units is not None:
                self._units.close()
            self._door = None
            await asyncio.sleep(0)  # lets the transports call connection_lost

    def _connection(self, guest: Guest) -> asyncio.Protocol:
        """Make the protocol for a guest. With the first one comes uvicorn: no start has to wait for it."""
        put_off("uvicorn")  # its protocol is used, and not its command line
        from unitagent.probes.connections import Connection, Shared  # noqa: PLC0415

        self._shared = self._shared or Shared(self._app)
        return Connection(self._shared, guest, (self._guests, self._turns), self._agent_line)

    async def _app(
        self,
        scope: Message,
        _receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        headers = dict(scope["headers"])
        if (refusal := self._hosts.refusal(headers.get(b"host", b""))) is not None:
            response = refusal
        elif _has_body(headers):
            response = _BODY
        elif self._units is not None and ours(scope["method"], scope["path"]):
            response = await self._units.respond(scope["path"])
            await self._turn(scope)
        else:
            response = self._respond(scope, headers)
        _log.debug("%s %s -> %d", scope["method"], scope["path"], response.code)
        await send({"type": "http.response.start", "status": response.code, "headers": _headers(response)})
        await send({"type": "http.response.body", "body": response.body})

    async def _turn(self, scope: Message) -> None:
        """Wait for a turn again: all who have waited for the same would be answered in one."""
        turn = asyncio.Event()
        address, *_ = scope["client"] or ("",)
        self._turns.ask(address, turn, turn.set)
        await turn.wait()

    def _agent_line(self) -> bytes:
        return agent_check.line(self._respond(_TRAFFIC, {}).code)

    def _respond(self, scope: Message, headers: dict[bytes, bytes]) -> Response:
        nonce = headers.get(NONCE_HEADER.lower().encode(), b"").decode("latin-1")
        brief = BRIEF_HEADER.lower().encode() in headers
        query = scope["query_string"].decode("latin-1")
        request = Request(scope["method"], scope["path"], query, nonce, brief)
        try:
            return respond(self._sparing, request, self._keys)
        except Exception:  # noqa: BLE001 (whatever fails here, the agent goes on)
            _log.error("a probe of %s could not be answered", scope["path"])
            _log.debug("why", exc_info=True)
            return Response(500, b"internal error of the agent; its log says more\n")


_TRAFFIC: Message = {"method": "GET", "path": "/traffic", "query_string": b""}
_BODY = Response(413, b"a request must not have a body\n", headers=(("Connection", "close"),))


def _has_body(headers: dict[bytes, bytes]) -> bool:
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"


def _headers(response: Response) -> list[tuple[bytes, bytes]]:
    shared = (
        ("Content-Type", response.content_type),
        ("Content-Length", str(len(response.body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
    )
    return [(name.lower().encode(), value.encode()) for name, value in (*shared, *response.headers)]


async def _listen(host: str, port: int) -> socket.socket:
    try:
        return await _bound(host.strip("[]"), port)
    except (OSError, OverflowError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigurationError(
            f"UNIT_HTTP_ADDRESS={join(host, port)}: cannot listen there: {why}; "
            "give an address of this machine and a free port, or 'off'"
        ) from error


async def _bound(host: str, port: int) -> socket.socket:
    """Bind to the first address of ``host``."""
    if is_literal(host):
        return _prepared(bind(host, port))
    found = await asyncio.get_running_loop().getaddrinfo(
        host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    address, _, *scope = found[0][4]
    return _prepared(bind(str(address), port, *map(int, scope)))


def _prepared(listener: socket.socket) -> socket.socket:
    try:
        _keep_alive(listener)
    except OSError:
        listener.close()
        raise
    return listener


def _keep_alive(listener: socket.socket) -> None:
    """Have the kernel find dead clients; accepted connections inherit it (Linux, tcp(7))."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
