"""What a Unit of a thousand costs its store: each heartbeat as much as in a small one, all records once."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from tests.listening import story
from tests.records import exchange, record
from unitagent.core.leases import find_neighbours
from unitagent.store import codec, redis_store
from unitagent.store.redis_store import RedisStore

if TYPE_CHECKING:
    from tests.servers import Server

HEARTBEATS = 20
FEW = 600  # bytes


def sent(server: Server) -> int:
    found = re.search(rb"total_net_output_bytes:(\d+)", server.command("INFO", "stats"))
    assert found is not None
    return int(found[1])


def fill(server: Server, size: int) -> None:
    """Let all others have told the store of themselves."""
    version = 10**15
    for rank in range(1, size):
        name = f"{rank:032x}"
        told = codec.encode_value(
            replace(record(rank, name, size=size), ip=f"10.0.{rank // 250}.{rank % 250}")
        )
        beat = f"{name} 7 {version // 1000}"
        server.command(
            *("HSET", "unitagent:{u}:board", f"r{rank}", told, f"h{rank}", name, f"b{rank}", beat),
            *("version", str(version + rank)),
        )
        server.command("ZADD", "unitagent:{u}:changes", str(version + rank), str(rank))


async def heartbeat_bytes(server: Server, size: int) -> float:
    """Bytes that the server sends rank 0 for each heartbeat, when it has read all."""
    server.command("FLUSHALL")
    fill(server, size)
    store = RedisStore("u", server.url, timeout=5, rank=0, incarnation="a" * 32, size=size, refresh=3600)
    request = exchange(record(0, "a" * 32, size=size), generation=1, judge=(0, *find_neighbours(0, size)))
    try:
        reply = await store.exchange(request)
        assert set(reply.records) == set(range(size))
        await store.exchange(request)
        before = sent(server)
        for _ in range(HEARTBEATS):
            assert len((await store.exchange(request)).records) == size
        return (sent(server) - before) / HEARTBEATS
    finally:
        await store.close()


@story
async def test_a_heartbeat_costs_as_many_bytes_in_a_unit_of_a_thousand(server: Server) -> None:
    small, large = [await heartbeat_bytes(server, size) for size in (8, 1024)]
    assert large == pytest.approx(small, abs=32)
    assert large < FEW


@story
async def test_whether_all_was_read_is_known_by_a_digest(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No timer reads a thousand records again, but what has changed behind their versions is found."""
    size, now = 1024, 1000.0
    server.command("FLUSHALL")
    fill(server, size)
    monkeypatch.setattr(redis_store, "time", SimpleNamespace(monotonic=lambda: now))
    store = RedisStore("u", server.url, timeout=5, rank=0, incarnation="a" * 32, size=size, refresh=10)
    request = exchange(record(0, "a" * 32, size=size), generation=1)
    try:
        await store.exchange(request)  # reads all
        before = sent(server)
        for _ in range(HEARTBEATS):
            now += 11
            assert len((await store.exchange(request)).records) == size
        assert (sent(server) - before) / HEARTBEATS < FEW
        server.command("HDEL", "unitagent:{u}:board", "r7")
        now += 9
        assert 7 in (await store.exchange(request)).records
        now += 2
        assert 7 not in (await store.exchange(request)).records
    finally:
        await store.close()
