"""A GET to a peer, on the event loop: no thread, no pool, and nothing left to import when a peer has just
died.

The invariant: it waits only where it can be cancelled, reads at most ``_MAX_ANSWER`` bytes, and yields to the
event loop after each piece. Agents answer with one whole response. A chunked response cannot come from an
agent, and thousands of tiny chunks would keep the loop busy, so it is refused.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import h11
from msgspec import Struct

from unitagent.system.host_port import bracket_ipv6

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

_MAX_ANSWER = 1 << 20  # bytes of a peer's answer
_CHUNK = 1 << 16  # bytes


class HttpResponse(Struct, frozen=True):
    """A whole response; the names of its headers are in lower case."""

    code: int
    headers: Mapping[str, str]
    body: bytes


async def get_response(
    address: tuple[str, int],
    path: str,
    headers: Mapping[str, str],
    source: str = "",
    on_connect: Callable[[socket.socket], None] = lambda _: None,
) -> HttpResponse:
    """Ask once, from ``source`` if set; the caller bounds the time.

    Raises:
        ValueError: the response is not HTTP, truncated or too long.
        ConnectionRefusedError: the machine answers that nobody listens there.
        OSError: no connection, or it broke.

    """
    local = (source, 0) if source else None
    reader, writer = await asyncio.open_connection(*address, local_addr=local)
    try:
        on_connect(writer.get_extra_info("socket"))
        theirs = h11.Connection(h11.CLIENT)
        request = h11.Request(method="GET", target=path, headers=_build_headers(address[0], headers))
        writer.write(theirs.send(request) or b"")
        writer.write(theirs.send(h11.EndOfMessage()) or b"")
        return await _read_response(theirs, reader)
    except h11.ProtocolError as error:
        raise ValueError(f"no HTTP response: {error}") from error
    finally:
        writer.transport.abort()


def _build_headers(host: str, headers: Mapping[str, str]) -> list[tuple[str, str]]:
    return [
        ("Host", bracket_ipv6(host)),
        ("Connection", "close"),
        ("User-Agent", "unitagent"),
        *headers.items(),
    ]


async def _read_response(theirs: h11.Connection, reader: asyncio.StreamReader) -> HttpResponse:
    response = await _read_head(theirs, reader)
    body, length = list[bytes](), 0
    while True:
        event = theirs.next_event()
        match event:
            case h11.NEED_DATA:
                theirs.receive_data(await reader.read(_CHUNK))
                await asyncio.sleep(0)
            case h11.Data():
                body.append(bytes(event.data))
                length += len(event.data)
                if length > _MAX_ANSWER:
                    raise ValueError(f"more than {_MAX_ANSWER} bytes")
            case h11.EndOfMessage():
                return HttpResponse(response.status_code, _decode_headers(response), b"".join(body))
            case _:
                raise ValueError("the connection ended before the response did")


async def _read_head(theirs: h11.Connection, reader: asyncio.StreamReader) -> h11.Response:
    while (event := theirs.next_event()) is h11.NEED_DATA:
        theirs.receive_data(await reader.read(_CHUNK))
    if not isinstance(event, h11.Response):
        raise ValueError("no final response")  # noqa: TRY004  # it is what came, and no argument
    if "transfer-encoding" in _decode_headers(event):
        raise ValueError("a response in chunks")
    return event


def _decode_headers(response: h11.Response) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in response.headers}
