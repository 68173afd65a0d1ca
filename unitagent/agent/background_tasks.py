"""Tasks that run in the background of the agent's loop.

The invariant: no task fails unseen, and the core always gets the event that it waits for, if only as a
failure: each task is started with a callback for its failure.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

_log = logging.getLogger(__name__)

OnFailure = Callable[[BaseException], object]
"""Gives the core the event that a failed task did not deliver."""


def ignore_failure(_error: BaseException) -> None:
    """Do nothing: nothing waits for this task."""


class BackgroundTasks:
    """All tasks in progress."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    def start_task(self, work: Coroutine[Any, Any, None], on_failure: OnFailure) -> asyncio.Task[None]:
        """Run ``work``; call ``on_failure`` if it fails or is cancelled, except by :meth:`close`."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(partial(self._on_done, on_failure))
        return task

    def keep_running(self, work: Callable[[], Coroutine[Any, Any, None]], pause: float) -> None:
        """Run ``work``, and whenever it fails run it again after ``pause`` seconds."""

        async def again() -> None:
            await asyncio.sleep(pause)
            await work()

        def renew(_error: BaseException) -> None:
            self.start_task(again(), renew)

        self.start_task(work(), renew)

    async def close(self) -> None:
        """Cancel all tasks and wait for them."""
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
