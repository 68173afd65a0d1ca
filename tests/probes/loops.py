"""Async tests: each in a loop of its own, with a deadline, and no error of the loop goes unseen."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any, ParamSpec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Problems = list[dict[str, Any]]

P = ParamSpec("P")
LIMIT = 60.0


def in_loop(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        problems: Problems = []
        asyncio.run(_watched(test(*args, **kwargs), problems))
        assert problems == [], problems

    return run


async def _watched(test: Awaitable[None], problems: Problems) -> None:
    def note(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), asyncio.CancelledError):  # a test's own server, cut short
            problems.append(context)

    asyncio.get_running_loop().set_exception_handler(note)
    async with asyncio.timeout(LIMIT):
        await test


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition; the deadline is the test's."""
    while not condition():  # noqa: ASYNC110 (what is waited for has no event)
        await asyncio.sleep(0.005)
