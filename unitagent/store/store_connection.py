"""The two connections to the server that holds one key: for operations, one after the other
(:class:`StoreConnection`), and for wake-ups ("look") by pub/sub (:class:`PushListener`).

Operations are hedged: if the network loses one, it is sent once more on a second connection, and the
connection that is answered first is kept. A server that is merely slow is asked once.

The invariants: any failure of an operation drops its connection, so the next one starts afresh, and
``on_break`` reports every change of connection. A lost wake-up costs one heartbeat, and no more.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, TypeVar

from redis.exceptions import NoPermissionError

from unitagent.store.connection import get_destination, is_connection_acknowledged, send_command
from unitagent.store.errors import explain_error
from unitagent.store.topology import Dialer
from unitagent.system.hedging import run_hedged

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio.connection import AbstractConnection

    from unitagent.errors import StoreError
    from unitagent.store.address import LocationSource
    from unitagent.store.errors import LimitedWarnings

T = TypeVar("T")
_TRIES = 6  # that begin within the timeout

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0  # seconds before subscribing again
BURST = 10  # calls that may come at once: a restart needs several within milliseconds
PACE = 0.08  # seconds until one more is allowed: in a storm, all wake-ups in between ask for the same
SILENCE = 5.0  # seconds without a word, after which the server is asked whether it is still there


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

    async def execute_operation(self, work: Callable[[AbstractConnection], Awaitable[T]]) -> T:
        """Run one operation within the timeout. It must be idempotent: it may run twice.

        Raises:
            StoreError: it failed, and the connection is gone.

        """
        try:
            async with asyncio.timeout(self._timeout), self._lock:
                self._tried = []
                answer = await run_hedged(lambda: self._try_once(work), self._timeout / _TRIES, self._is_lost)
        except Exception as error:
            self._dialer.deprioritize_source()
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
        """Run on the connection, or on a new one while another attempt uses it. The attempt that ends first
        keeps its connection.
        """
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


class PushListener:
    """Calls ``on_push`` for every wake-up by another agent, and after every new subscription."""

    def __init__(
        self, dialer: Dialer, channel: str, own: str, timeout: float, warnings: LimitedWarnings
    ) -> None:
        self._dialer = dialer
        self._channel = channel
        self._own = own.encode()
        self._timeout = timeout
        self._warnings = warnings

    async def listen(self, on_push: Callable[[], None]) -> None:
        """Run until cancelled, through all outages."""
        gathered = _RateLimited(on_push)
        try:
            await self._listen_forever(gathered)
        finally:
            gathered.close()

    async def _listen_forever(self, on_push: Callable[[], None]) -> None:
        pause = FIRST_PAUSE
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            try:
                await self._listen_once(on_push)
            except Exception as error:  # noqa: BLE001  # whatever a server does, the next try may work
                self._dialer.deprioritize_source()
                if isinstance(error, NoPermissionError):
                    why = explain_error(error, self._dialer.place, to=self._dialer.address)
                    self._warnings.warn_once(f"pushes cannot be heard: {why}")
            if clock() - began > LONGEST_PAUSE + self._timeout:
                pause = FIRST_PAUSE
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  # spreads the crowd
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _listen_once(self, on_push: Callable[[], None]) -> None:
        """Subscribe and listen until the connection breaks."""
        async with asyncio.timeout(self._timeout):
            connection = await self._dialer.dial_server(self._timeout)
        try:
            async with asyncio.timeout(self._timeout):
                await send_command(connection, "SUBSCRIBE", self._channel)
            on_push()
            while True:
                if self._is_wake_up(await self._read_message(connection)):
                    on_push()
                await asyncio.sleep(0)  # many may have come at once, and reading them waits for nothing
        finally:
            await connection.disconnect(nowait=True)

    async def _read_message(self, connection: AbstractConnection) -> Any:
        """Wait for the next message, and make sure that a silent server is only silent."""
        message = await connection.read_response(timeout=SILENCE)
        if message is not None:
            return message
        async with asyncio.timeout(self._timeout):
            return await send_command(connection, "PING")

    def _is_wake_up(self, message: Any) -> bool:
        """Whether this is a wake-up by another agent; anything else on the channel is garbage."""
        match message:
            case [b"message", bytes(), bytes(text)]:
                return text.startswith(b"look ") and text != b"look " + self._own
        return False


class _RateLimited:
    """Calls at once, ``BURST`` times, and then once in each ``PACE`` at most, however often it is called
    itself: a leaky bucket.
    """

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act
        self._loop = asyncio.get_running_loop()
        self._empty = 0.0  # when the bucket will have run out
        self._due: asyncio.TimerHandle | None = None

    def __call__(self) -> None:
        if self._due is not None:
            return
        free = self._empty - (BURST - 1) * PACE
        if self._loop.time() >= free:
            self._call_now()
        else:
            self._due = self._loop.call_at(free, self._call_now)

    def close(self) -> None:
        """Cancel the call that is due."""
        if self._due is not None:
            self._due.cancel()

    def _call_now(self) -> None:
        self._due = None
        self._empty = max(self._empty, self._loop.time()) + PACE
        self._act()
