"""Blocking calls (DNS, files) beside the event loop: one at a time, in threads that delay nobody's end.

``asyncio.to_thread`` would queue a new lookup behind every hung one until the shared pool is full, and would
wait for all of them when the process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Lane:
    """One blocking call at a time; a caller that gives up leaves its call to end by itself."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(1)

    async def run(self, call: Callable[[], T]) -> T:
        """Run ``call`` in a thread and give what it gives, or raise what it raises.

        Raises:
            OSError: there is no thread to be had.

        """
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        try:
            threading.Thread(target=self._work, args=(loop, answer, call), daemon=True).start()
        except RuntimeError as error:  # the machine has no thread left; it may have one at the next try
            self._free.release()
            raise OSError(errno.EAGAIN, str(error)) from error
        return await answer

    def _work(
        self, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[Any], call: Callable[[], Any]
    ) -> None:
        result, error = None, None
        try:
            result = call()
        except Exception as raised:  # noqa: BLE001  # it belongs to the caller, whatever it is
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(self._settle, answer, result, error)

    def _settle(self, answer: asyncio.Future[Any], result: object, error: Exception | None) -> None:
        self._free.release()
        if answer.done():
            return
        if error is None:
            answer.set_result(result)
        else:
            answer.set_exception(error)
