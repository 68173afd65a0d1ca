"""One connection to the server that holds one key. It carries operations one after the other.

Operations are hedged: if the network loses one, it is sent once more on a second connection, and the
connection that is answered first is kept. A server that is merely slow is asked once.

The invariant: any failure drops the connection, so the next operation starts afresh, and ``on_break``
reports every change of connection.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from unitagent.store.connection import get_destination, is_connection_acknowledged
from unitagent.store.errors import explain_error
from unitagent.store.topology import Dialer
from unitagent.system.hedging import hedged

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio.connection import AbstractConnection

    from unitagent.errors import StoreError
    from unitagent.store.address import LocationSource

T = TypeVar("T")
_TRIES = 6  # that begin within the timeout


class StoreConnection:
    """A connection that is made when it is needed.

    Args:
        url: where the server is; a callable is asked at each connect, in a thread.
        key: the key whose server is wanted; in a Cluster every operation has to stay in its slot.
        timeout: seconds that any operation may take, connecting included.
        on_break: called whenever a connection is let go, and before another is made.
        remedy: what a person can do when the server is not reached.

    """

    def __init__(
        self,
        url: str | LocationSource,
        key: str,
        timeout: float,
        on_break: Callable[[], None] = lambda: None,
        remedy: str = "",
    ) -> None:
        self._dialer = Dialer(url, key)
        self._timeout = timeout
        self._on_break = on_break
        self._remedy = remedy
        self._lock = asyncio.Lock()
        self._connection: AbstractConnection | None = None
        self._tried: list[AbstractConnection] = []  # for the operation under way
        self._spoken = False  # an operation was answered once

    async def execute(self, work: Callable[[AbstractConnection], Awaitable[T]]) -> T:
        """Run one operation within the timeout. It must be idempotent: it may run twice.

        Raises:
            StoreError: it failed, and the connection is gone.

        """
        try:
            async with asyncio.timeout(self._timeout), self._lock:
                self._tried = []
                answer = await hedged(lambda: self._try_once(work), self._timeout / _TRIES, self._is_lost)
        except Exception as error:
            self._dialer.distrust_source()
            destination = get_destination(self._tried[-1]) if self._tried else None
            at = destination[1] if destination is not None else ""
            raise self._explain_error(error, at) from error
        self._spoken = True
        return answer

    async def close(self) -> None:
        """Close the connection; the next operation makes a new one."""
        async with self._lock:
            connection, self._connection = self._connection, None
            await self._drop_connection(connection)

    async def _try_once(self, work: Callable[[AbstractConnection], Awaitable[T]]) -> T:
        """Run on the connection, or on a new one while another attempt has it; the first done keeps its."""
        connection, self._connection = self._connection, None
        try:
            if connection is None:
                self._on_break()
                beside = self._tried[-1] if self._tried else None
                connection = await self._dialer.dial_server(self._timeout, self._tried.append, beside)
            else:
                self._tried.append(connection)
            result = await work(connection)
        except BaseException:  # cancelled in the middle, the next answer would be the wrong one
            await self._drop_connection(connection)
            raise
        if self._connection is None:
            self._connection = connection
        else:
            await self._drop_connection(connection)
        return result

    def _explain_error(self, error: Exception, at: str) -> StoreError:
        dialer, spoken = self._dialer, self._spoken
        return explain_error(error, dialer.place, self._remedy, dialer.address, at, spoken=spoken)

    def _is_lost(self) -> bool:
        return not any(map(is_connection_acknowledged, self._tried))

    async def _drop_connection(self, connection: AbstractConnection | None) -> None:
        self._on_break()
        if connection is not None:
            await connection.disconnect(nowait=True)
