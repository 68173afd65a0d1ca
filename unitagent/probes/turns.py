"""Whose request is read next: one in each turn of the event loop, and the addresses that ask in turn.

The invariant: however many clients ask for however much, the agent's own work waits for one of them at a
time, and the first of an address waits for one of each other.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Turns:
    """Everybody who waits, by address; those of an address in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[object, Callable[[], None]]] = {}
        self._scheduled = False

    def ask(self, address: str, who: object, act: Callable[[], None]) -> None:
        """Have ``act`` called in a later turn of the loop; who waits already keeps the place."""
        self._waiting.setdefault(address, {})[who] = act
        self._schedule()

    def forget(self, address: str, who: object) -> None:
        """Take out who has gone."""
        queue = self._waiting.get(address, {})
        queue.pop(who, None)
        if not queue:
            self._waiting.pop(address, None)

    def _schedule(self) -> None:
        if self._waiting and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        self._scheduled = False
        if not self._waiting:
            return
        address, queue = next(iter(self._waiting.items()))
        del self._waiting[address]
        act = queue.pop(next(iter(queue)))
        if queue:
            self._waiting[address] = queue  # behind all others
        self._schedule()
        act()
