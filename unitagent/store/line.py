"""One connection that carries operations, one after the other, to the server that holds one key.

The invariant: any failure drops the connection, so the next operation starts afresh and no break is hidden.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from unitagent.store.dial import Dialer
from unitagent.store.trouble import explain

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio.connection import AbstractConnection

T = TypeVar("T")


class Line:
    """A connection that is made when it is needed.

    Args:
        url: where the server is; a callable is asked at each connect, in a thread.
        key: the key whose server is wanted; in a Cluster every operation has to stay in its slot.
        timeout: seconds that any operation may take, connecting included.
        on_break: called whenever the connection is let go.

    """

    def __init__(
        self,
        url: str | Callable[[], str],
        key: str,
        timeout: float,
        on_break: Callable[[], None] = lambda: None,
    ) -> None:
        self._dialer = Dialer(url, key)
        self._timeout = timeout
        self._on_break = on_break
        self._lock = asyncio.Lock()
        self._connection: AbstractConnection | None = None

    async def operate(self, work: Callable[[AbstractConnection], Awaitable[T]]) -> T:
        """Do one operation within the timeout, as the only one.

        Raises:
            StoreError: it failed, and the connection is gone.

        """
        try:
            async with asyncio.timeout(self._timeout), self._lock:
                return await self._attempt(work)
        except Exception as error:
            raise explain(error, self._dialer.place) from error

    async def close(self) -> None:
        """Let go of the connection; the line can be used again afterwards."""
        async with self._lock:
            await self._drop()

    async def _attempt(self, work: Callable[[AbstractConnection], Awaitable[T]]) -> T:
        try:
            if self._connection is None:
                self._connection = await self._dialer.dial(self._timeout)
            return await work(self._connection)
        except BaseException:  # cancelled in the middle, the next answer would be the wrong one
            await self._drop()
            raise

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        self._on_break()
        if connection is not None:
            await connection.disconnect(nowait=True)
