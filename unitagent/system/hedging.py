"""Hedged requests: repeat a slow attempt in parallel and take the first result.

Where packets are lost, TCP waits longer with every retransmission, and a fresh connection is often answered
sooner. The invariant: no attempt outlives the call. Attempts must be idempotent.
"""

from __future__ import annotations

import asyncio
import fcntl
import termios
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine

T = TypeVar("T")


async def run_hedged(
    attempt: Callable[[], Coroutine[None, None, T]],
    delay: float,
    should_hedge: Callable[[], bool] = lambda: True,
) -> T:
    """Return the first result of several attempts; the caller bounds the time.

    Args:
        attempt: starts one attempt.
        delay: seconds after which another attempt starts.
        should_hedge: whether it may start: false while the attempts under way only wait for a slow server.

    Raises:
        Exception: what the last attempt raised, once none is left under way.

    """
    loop = asyncio.get_running_loop()
    first: asyncio.Future[asyncio.Task[T]] = loop.create_future()
    under_way: set[asyncio.Task[T]] = set()
    later: asyncio.TimerHandle | None = None

    def finish_attempt(task: asyncio.Task[T]) -> None:
        under_way.discard(task)
        failed = task.cancelled() or task.exception() is not None
        if not first.done() and not (failed and under_way):
            first.set_result(task)

    def start_attempt() -> None:
        nonlocal later
        if not under_way or should_hedge():
            under_way.add(task := asyncio.create_task(attempt()))
            task.add_done_callback(finish_attempt)
        later = loop.call_later(delay, start_attempt)

    start_attempt()
    try:
        return (await first).result()
    finally:
        if later is not None:
            later.cancel()
        if under_way:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)


def is_acknowledged(wire: socket.socket) -> bool:
    """Whether the other machine has acknowledged all TCP data: then only its program is slow."""
    try:
        unacknowledged = fcntl.ioctl(wire.fileno(), termios.TIOCOUTQ, bytes(4))  # SIOCOUTQ of tcp(7)
    except (OSError, ValueError):  # it is closed
        return False
    return not any(unacknowledged)
