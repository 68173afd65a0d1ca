"""Runs a blocking call in a daemon thread of its own.

Not in the shared thread pool of the loop: a stop must not queue behind slow DNS lookups. And in daemon
threads: reading ``/proc/PID/maps`` of a process that hangs in a driver can hang as well, and must not keep us
from exiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


async def run_in_daemon_thread(work: Callable[[], T]) -> T:
    """Run ``work`` in a thread of its own and return its result or raise its error.

    Cancelling stops the waiting, not the work. Without a free thread (a fork bomb) the work runs here: then
    stopping the workload matters more than a responsive loop.
    """
    done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    try:
        threading.Thread(target=_run_work, args=(work, done), daemon=True).start()
    except RuntimeError:
        return work()
    return await done


def _run_work(work: Callable[[], T], done: asyncio.Future[T]) -> None:
    try:
        result = work()
    except Exception as error:  # noqa: BLE001 - passed to the waiter
        _set_outcome(done, done.set_exception, error)
    else:
        _set_outcome(done, done.set_result, result)


def _set_outcome(done: asyncio.Future[T], setter: Callable[..., None], value: object) -> None:
    def settle() -> None:
        if not done.done():
            setter(value)

    with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
        done.get_loop().call_soon_threadsafe(settle)
