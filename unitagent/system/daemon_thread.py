"""Blocking looks at the system, off the event loop and beholden to nobody.

Not the loop's shared pool of threads: a stop must not queue behind slow DNS lookups. And daemon threads:
reading ``/proc/PID/maps`` of a process that hangs in a driver can hang as well, which must not keep us from
exiting.
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

    Cancelling gives up waiting, not the work. Where no thread is to be had (a fork bomb used them all up) it
    runs here: then ending the workload matters more than a responsive loop.
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
    except Exception as error:  # noqa: BLE001 - handed on to whoever waits
        _set_outcome(done, done.set_exception, error)
    else:
        _set_outcome(done, done.set_result, result)


def _set_outcome(done: asyncio.Future[T], setter: Callable[..., None], value: object) -> None:
    def settle() -> None:
        if not done.done():
            setter(value)

    with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
        done.get_loop().call_soon_threadsafe(settle)
