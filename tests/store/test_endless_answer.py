"""Whoever answers in the store's place, and never ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.listening import story
from unitagent.core.actions import Exchange
from unitagent.errors import StoreError
from unitagent.store.connection import MAX_ANSWER_BYTES
from unitagent.store.redis_store import RedisStore

LOOK = Exchange(record=None, take="", seen=0, generation=0, failure=None, judge=(), notify=False)
PIECE = b"x" * 65536
KEPT = 4 * MAX_ANSWER_BYTES  # bytes; what is on its way in buffers, too


@asynccontextmanager
async def endless(start: bytes, sent: list[int]) -> AsyncIterator[int]:
    """A server that answers whatever it is asked with this, and more of it without end."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(65536)
            writer.write(start)
            while sum(sent) <= KEPT:
                writer.write(PIECE)
                await writer.drain()
                sent.append(len(PIECE))
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        yield int(server.sockets[0].getsockname()[1])


@pytest.mark.parametrize("start", [b"$1000000000\r\n", b"+"], ids=["a value", "a line"])
@story
async def test_an_answer_without_end_is_left(start: bytes) -> None:
    sent: list[int] = []
    async with endless(start, sent) as port:
        store = RedisStore("u", f"redis://127.0.0.1:{port}", timeout=60)
        with pytest.raises(StoreError):
            await store.exchange(LOOK)
        await store.close()
    assert sum(sent) < KEPT
