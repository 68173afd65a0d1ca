"""Stories about stores: each in a loop of its own, waiting on conditions and never on time alone."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from unitagent.store.protocol import Store

DEADLINE = 60.0  # seconds; catches a hang, promises no speed


def story(tell: Callable[..., Coroutine[None, None, None]]) -> Callable[..., None]:
    """Make a test of a coroutine function; its parameters stay fixtures."""

    @functools.wraps(tell)
    def test(*args: object, **fixtures: object) -> None:
        asyncio.run(asyncio.wait_for(tell(*args, **fixtures), DEADLINE))

    return test


async def until(condition: Callable[[], bool], deadline: float = 30.0) -> None:
    """Wait until it is true."""
    async with asyncio.timeout(deadline):
        while not condition():  # noqa: ASYNC110  # the condition is the world's, it sets no event
            await asyncio.sleep(0.005)


class Heard:
    """Listens on a store for the time of a block; counts the pushes after the first subscription."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.count = -1

    def _on_push(self) -> None:
        self.count += 1

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self.store.listen(self._on_push))
        await until(lambda: self.count == 0)
        return self

    async def __aexit__(self, *error: object) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])
