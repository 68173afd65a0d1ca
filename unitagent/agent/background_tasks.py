"""Work that runs beside the agent's loop.

The invariant: none of it fails unseen, and what the core waits for comes, if only as a failure: nothing is
started without saying what becomes of it then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

_log = logging.getLogger(__name__)

OnFailure = Callable[[BaseException], object]
"""Gives the core what work that failed has not given it."""


def ignore_failure(_error: BaseException) -> None:
    """Mend nothing: nobody waits for this work."""


class BackgroundTasks:
    """All that is under way."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    def start_task(self, work: Coroutine[Any, Any, None], on_failure: OnFailure) -> asyncio.Task[None]:
        """Run it; ``on_failure`` is called when it fails, or is cancelled by anybody but :meth:`close`."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(partial(self._on_done, on_failure))
        return task

    def keep_running(self, work: Callable[[], Coroutine[Any, Any, None]], pause: float) -> None:
        """Run it, and when it fails once more after ``pause`` seconds, and so on."""

        async def again() -> None:
            await asyncio.sleep(pause)
            await work()

        def renew(_error: BaseException) -> None:
            self.start_task(again(), renew)

        self.start_task(work(), renew)

    async def close(self) -> None:
        """End all."""
        self._closing = True
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _on_done(self, on_failure: OnFailure, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None or self._closing:
            return
        _log.error("internal error: %r", error)
        _log.debug("why", exc_info=error)
        on_failure(error)
