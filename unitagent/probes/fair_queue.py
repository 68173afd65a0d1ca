"""A fair queue of requests: one per turn of the event loop, round robin over lanes, and within a lane over
addresses.

The invariant: however many clients send however many requests, the agent's own work waits for one request
at a time, a lane waits for one request of each other lane, and the first request of an address waits for
one of each other address in its lane.
"""

from __future__ import annotations

import asyncio
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Queue = dict[object, Callable[[], None]]


class Lane(IntEnum):
    """Requests that wait together. A crowd in one lane takes only the share of that lane."""

    OWN = 0  # this host and the Unit's instances
    LIVENESS = 1  # liveness probes
    OTHER = 2


class FairQueue:
    """Waiting requests by lane and address; those of one address in order of arrival."""

    def __init__(self) -> None:
        self._lanes: dict[Lane, dict[str, Queue]] = {}
        self._scheduled = False

    def enqueue(self, address: str, who: object, act: Callable[[], None], lane: Lane = Lane.OTHER) -> None:
        """Call ``act`` in a later turn of the loop; a request that waits already keeps its place."""
        self._lanes.setdefault(lane, {}).setdefault(address, {})[who] = act
        self._schedule_next()

    def discard(self, address: str, who: object) -> None:
        """Remove a request."""
        for lane, waiting in list(self._lanes.items()):
            queue = waiting.get(address, {})
            queue.pop(who, None)
            if not queue:
                waiting.pop(address, None)
            if not waiting:
                del self._lanes[lane]

    def _schedule_next(self) -> None:
        if self._lanes and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._run_next)

    def _run_next(self) -> None:
        self._scheduled = False
        if not self._lanes:
            return
        act = self._pop_next()
        self._schedule_next()
        act()

    def _pop_next(self) -> Callable[[], None]:
        """Take the first out; its lane and its address go behind all others."""
        lane, waiting = next(iter(self._lanes.items()))
        del self._lanes[lane]
        address, queue = next(iter(waiting.items()))
        del waiting[address]
        act = queue.pop(next(iter(queue)))
        if queue:
            waiting[address] = queue
        if waiting:
            self._lanes[lane] = waiting
        return act
