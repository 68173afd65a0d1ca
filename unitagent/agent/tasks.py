"""Work that runs beside the agent's loop.

The invariant: none of it fails unseen, and what the core waits for comes, if only as a failure.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

_log = logging.getLogger(__name__)

Mend = Callable[[BaseException], object]
"""Gives the core what work that failed has not given it."""


class Tasks:
    """All that is under way."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], mend: Mend | None = None) -> asyncio.Task[None]:
        """Run it; ``mend`` is called when it fails."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, mend))
        return task

    async def close(self) -> None:
        """End all."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, mend: Mend | None, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("internal error: %r", error)
            _log.debug("why", exc_info=error)
            if mend is not None:
                mend(error)
