"""Hold a connection to each peer. It breaks when the peer's agent dies: the fastest sign there is.

The invariant: a break is only a reason to ask; it never counts as the loss of a peer. A connection that
cannot be made, or that a proxy resets, costs a question now and then and nothing else.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from unitagent.system.addresses import connect_tcp, enable_keepalive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from unitagent.core.model import Record

FIRST_PAUSE, MAX_PAUSE = 0.1, 3.0  # seconds between attempts: the first pause, and the longest
MAX_PAUSE_AFTER_BREAKS = 60.0  # seconds, where a peer has no place for us: to ask it again costs both of us


class _Peer(NamedTuple):
    rank: int
    incarnation: str
    ip: str
    port: int


class PeerConnectionWatcher:
    """The set of peers that are watched.

    Attributes:
        source: our address to connect from.
        timeout: seconds for one connection attempt.
        on_hangup: called with rank and incarnation when a held connection breaks; after that the peer is
            watched again only when ``watch`` names it again.

    """

    def __init__(self, source: str, timeout: float, on_hangup: Callable[[int, str], None]) -> None:
        self._source = source
        self._timeout = timeout
        self._on_hangup = on_hangup
        self._held: dict[_Peer, asyncio.Task[None]] = {}
        self._pauses: dict[_Peer, float] = {}  # before the next attempt, after breaks that came quickly

    def watch_peers(self, records: Iterable[Record]) -> None:
        """Watch these and no others; naming the same ones again changes nothing."""
        wanted = {_Peer(record.rank, record.incarnation, record.ip, record.port) for record in records}
        for peer in self._held.keys() - wanted:
            self._held.pop(peer).cancel()
            self._pauses.pop(peer, None)
        for peer in wanted:
            task = self._held.get(peer)
            if task is None or task.done():
                self._held[peer] = asyncio.create_task(self._hold_connection(peer), name=f"watch {peer.rank}")

    async def _hold_connection(self, peer: _Peer) -> None:
        await asyncio.sleep(self._pauses.get(peer, 0.0))
        wire = await self._connect_until_made(peer)
        since = asyncio.get_running_loop().time()
        try:
            await wire.broken
        finally:
            wire.abort()
        lasted = asyncio.get_running_loop().time() - since
        self._pauses[peer] = (
            _lengthen_pause(self._pauses.get(peer, 0.0), MAX_PAUSE_AFTER_BREAKS)
            if lasted < MAX_PAUSE
            else FIRST_PAUSE
        )
        self._on_hangup(peer.rank, peer.incarnation)

    async def _connect_until_made(self, peer: _Peer) -> _WatchedConnection:
        pause = 0.0
        while True:
            with suppress(OSError):
                _, wire = await connect_tcp(
                    _WatchedConnection(), peer.ip, peer.port, within=self._timeout, source=self._source
                )
                return wire
            pause = _lengthen_pause(pause)
            await asyncio.sleep(pause)


def _lengthen_pause(pause: float, longest: float = MAX_PAUSE) -> float:
    return min(longest, max(FIRST_PAUSE, 2 * pause))


class _WatchedConnection(asyncio.Protocol):
    """One held connection. An agent sends nothing unasked, so any data counts as a break."""

    def __init__(self) -> None:
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        enable_keepalive(transport.get_extra_info("socket"), idle=2, interval=1)  # about 5 s

    def data_received(self, data: bytes) -> None:  # noqa: ARG002
        self._mark_broken()
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._mark_broken()

    def abort(self) -> None:
        if isinstance(self._transport, asyncio.Transport):
            self._transport.abort()

    def _mark_broken(self) -> None:
        if not self.broken.done():
            self.broken.set_result(None)
