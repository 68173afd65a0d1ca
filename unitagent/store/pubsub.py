"""Listen for wake-ups ("look") by pub/sub, on a separate connection. A lost wake-up costs one heartbeat."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

from redis.exceptions import NoPermissionError

from unitagent.store.connection import send_command
from unitagent.store.errors import explain_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio.connection import AbstractConnection

    from unitagent.store.topology import Dialer
    from unitagent.store.unit_view import LimitedWarnings

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0  # seconds before subscribing again
BURST = 10  # calls that may come at once: a restart needs several within milliseconds
PACE = 0.08  # seconds until one more is allowed: in a storm, all wake-ups in between ask for the same
SILENCE = 5.0  # seconds without a word, after which the server is asked whether it is still there


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
                self._dialer.distrust_source()
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
        """Call no more."""
        if self._due is not None:
            self._due.cancel()

    def _call_now(self) -> None:
        self._due = None
        self._empty = max(self._empty, self._loop.time()) + PACE
        self._act()
