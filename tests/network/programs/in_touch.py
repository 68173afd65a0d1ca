"""Agents' stores that exchange once a heartbeat: ``in_touch.py URL AGENTS SECONDS [TRIES]``.

It prints how long each of them was out of touch, from answer to answer, and how many operations failed.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

from tests.records import exchange, record
from unitagent.errors import StoreError
from unitagent.store import store_connection
from unitagent.store.redis_store import RedisStore

HEARTBEAT, TIMEOUT, RETRY = 1.0, 1.8, 0.25  # seconds; the defaults of an agent


class Agent:
    """One that keeps in touch, and notes when it was answered."""

    def __init__(self, url: str, number: int) -> None:
        self.answered: list[float] = []
        self.failed = 0
        unit = f"line-{os.getpid()}-{number}"
        self._store = RedisStore(unit, url, timeout=TIMEOUT, rank=0, incarnation="a")

    async def live(self, until: float) -> None:
        while (now := time.monotonic()) < until:
            try:
                await self._store.exchange(exchange(record(0, "a")))
            except StoreError:
                self.failed += 1
                await asyncio.sleep(RETRY)
            else:
                self.answered.append(time.monotonic())
                await asyncio.sleep(max(0.0, now + HEARTBEAT - time.monotonic()))
        await self._store.close()


async def main() -> None:
    url, count, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    store_connection._TRIES = int(sys.argv[4]) if sys.argv[4:] else store_connection._TRIES
    agents = [Agent(url, number) for number in range(count)]
    until = time.monotonic() + seconds
    await asyncio.gather(*(agent.live(until) for agent in agents))
    gaps = [
        later - earlier
        for agent in agents
        for earlier, later in zip(agent.answered, agent.answered[1:], strict=False)
    ]
    print(json.dumps({"gaps": gaps, "failed": sum(agent.failed for agent in agents)}))  # noqa: T201


asyncio.run(main())
