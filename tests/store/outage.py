"""The two ends of an outage, as an agent meets them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.records import exchange, record
from unitagent.errors import StoreError

if TYPE_CHECKING:
    from unitagent.core.actions import Exchange
    from unitagent.core.model import Reply
    from unitagent.store.redis_store import RedisStore

MINE = exchange(record(0, "a"), generation=3)


async def trouble(store: RedisStore, request: Exchange = MINE) -> str:
    """The sentence of an exchange that fails."""
    with pytest.raises(StoreError) as raised:
        await store.exchange(request)
    return str(raised.value)


async def recovered(store: RedisStore, request: Exchange = MINE) -> Reply:
    """The first answer after an outage."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await store.exchange(request)
            except StoreError:
                await asyncio.sleep(0.02)
