"""Connections of the probe address: how many, and for how long.

The invariant: no client keeps another one out. A connection that says nothing may stay (peers hold one, to
notice at once when this agent dies), but a request once begun is over within ``DEADLINE`` seconds, requests
take turns, and when there are more than ``LIMIT`` connections (fewer where files are few), the address that
holds most of them loses its oldest.
"""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from typing import TYPE_CHECKING, Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from unitagent.probes.agent_check import ASKED
from unitagent.probes.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable

    import uvicorn
    from uvicorn.server import ServerState

LIMIT = 512
DEADLINE = 5.0  # seconds
_BACKLOG = 256


def room() -> tuple[int, int]:
    """How many connections there may be, and how many may arrive at once.

    The agent needs file descriptors for its work too: together they never take more than two thirds.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return LIMIT, _BACKLOG
    return max(1, min(LIMIT, files // 2)), max(1, min(_BACKLOG, files // 8))


class Connections:
    """All connections there are, oldest first."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.turns = Turns()
        self._limit = limit
        self._owners: dict[asyncio.Transport, str] = {}

    def __len__(self) -> int:
        return len(self._owners)

    def add(self, transport: asyncio.Transport) -> str:
        """Take one in, and return its address; past the limit another one is cut off at once."""
        peer = transport.get_extra_info("peername") or ("",)
        owner = self._owners[transport] = str(peer[0])
        if len(self._owners) > self._limit:
            self._evict()
        return owner

    def remove(self, transport: asyncio.Transport) -> None:
        """Forget one that has ended."""
        self._owners.pop(transport, None)

    def close(self) -> None:
        """Cut all of them off."""
        for transport in list(self._owners):
            transport.abort()
        self._owners.clear()

    def _evict(self) -> None:
        greediest = Counter(self._owners.values()).most_common(1)[0][0]
        oldest = next(transport for transport, owner in self._owners.items() if owner == greediest)
        self.remove(oldest)
        oldest.abort()


class Connection(H11Protocol):
    """One client: uvicorn's HTTP/1.1 protocol with a deadline for what the client has begun.

    HAProxy's agent-check speaks no HTTP: where a request could begin, its line is answered by ``agent_line``.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        state: ServerState,
        connections: Connections,
        agent_line: Callable[[], bytes],
    ) -> None:
        super().__init__(config, state, {})
        self._all = connections
        self._agent_line = agent_line
        self._address = ""
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it."""
        super().connection_made(cast(asyncio.Transport, transport))
        self._address = self._all.add(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it, with its timers."""
        super().connection_lost(exc)
        self._all.remove(self.transport)
        self._all.turns.forget(self._address, self)
        self._unset_keepalive_if_required()
        self._disarm()

    def data_received(self, data: bytes) -> None:
        """Hand it to h11, and watch the clock until the request is over."""
        if self._deadline is None:
            self._deadline = self.loop.call_later(DEADLINE, self.transport.abort)
        if data == ASKED and self._resting():
            self._all.turns.ask(self._address, self, self._say)
        else:
            super().data_received(data)

    def handle_events(self) -> None:
        """Wait for a turn to look at what h11 was given, and read no more until then."""
        if not self._resting():
            self.flow.pause_reading()
            self._all.turns.ask(self._address, self, self._handle)

    def _handle(self) -> None:
        """As uvicorn does it, but cut off where h11 allows no 400 (a broken body behind a HEAD)."""
        self.flow.resume_reading()
        try:
            super().handle_events()
        except h11.ProtocolError:
            self.transport.abort()
        if self._resting():
            self._disarm()

    def _say(self) -> None:
        self.transport.write(self._agent_line())
        self.transport.close()  # by the deadline, should earlier answers never be read

    def on_response_complete(self) -> None:
        """Give the next request, which a pipelining client may have begun already, its own time."""
        self._disarm()
        super().on_response_complete()
        if not self._resting():
            self._deadline = self.loop.call_later(DEADLINE, self.transport.abort)

    def timeout_keep_alive_handler(self) -> None:
        """Cut off instead of a polite end, which would wait for a client that does not read."""
        self.transport.abort()

    def _resting(self) -> bool:
        """Tell whether nothing has been begun: neither a request under way nor a part of the next header."""
        idle: Any = h11.IDLE
        return self.conn.their_state is idle and not self.conn.trailing_data[0]

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
