"""A way to a server on which connections fall silent: what was sent on them arrives late, or never."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from tests.servers import Server


class Gateway:
    """Passes on what is said, in a block of its own.

    Attributes:
        made: how many connections came so far.

    """

    def __init__(self, server: Server) -> None:
        self.made = 0
        self._server = server
        self._open: list[asyncio.Event] = []

    async def __aenter__(self) -> Self:
        self._listening = await asyncio.start_server(self._join, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._listening.close()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listening.sockets[0].getsockname()[1]}"

    def hold(self) -> None:
        """Keep what comes from now on, on the connections that there are."""
        for gate in self._open:
            gate.clear()

    def let_go(self) -> None:
        """Pass on what was kept."""
        for gate in self._open:
            gate.set()

    async def _join(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        self.made += 1
        gate = asyncio.Event()
        gate.set()
        self._open.append(gate)
        far, on = await asyncio.open_connection("127.0.0.1", self._server.port)
        try:
            await asyncio.gather(_pass(near, on, gate), _pass(far, back, gate))
        finally:
            on.close()
            back.close()


async def _pass(source: asyncio.StreamReader, sink: asyncio.StreamWriter, gate: asyncio.Event) -> None:
    while chunk := await source.read(1 << 16):
        await gate.wait()
        sink.write(chunk)
        await sink.drain()
    await gate.wait()
    sink.close()
