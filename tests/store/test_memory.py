"""What a store remembers, on both sides: never more than the server does, never longer than it is right."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.listening import story
from tests.records import exchange, record
from tests.servers import running
from tests.store.outage import MINE, recovered
from unitagent.store.redis_store import RedisStore
from unitagent.store.scripts import ExchangeAnswer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.servers import Server

    Open = Callable[..., RedisStore]

KEYS = ("unitagent:{u}:board", "unitagent:{u}:changes")


@story
async def test_a_wipe_is_noticed_without_a_reconnect(server: Server, open_store: Open) -> None:
    store, other = open_store(), open_store(1, "b")
    await other.exchange(exchange(record(1, "b")))
    assert set((await store.exchange(MINE)).records) == {0, 1}
    server.command("FLUSHALL")
    assert set((await store.exchange(MINE)).records) == {0}


def replica_of(server: Server) -> list[bytes]:
    """What a replica has now."""
    return [server.command("DUMP", key).partition(b"\r\n")[2][:-2] for key in KEYS]


def fail_over(server: Server, replica: list[bytes]) -> None:
    """Go back to what a replica had; the epoch is the same, and writes are lost."""
    for key, dump in zip(KEYS, replica, strict=True):
        assert server.command("RESTORE", key, 0, dump, "REPLACE") == b"+OK\r\n"


@story
async def test_records_that_a_failover_lost_are_not_remembered(server: Server, open_store: Open) -> None:
    store = open_store()
    await store.exchange(MINE)
    replica = replica_of(server)
    await open_store(1, "b").exchange(exchange(record(1, "b")))
    assert set((await store.exchange(MINE)).records) == {0, 1}
    fail_over(server, replica)  # behind a proxy that keeps our connection
    assert set((await store.exchange(MINE)).records) == {0}


@story
async def test_nor_when_others_have_written_to_the_new_primary_before(
    server: Server, open_store: Open
) -> None:
    store = open_store()
    await store.exchange(MINE)
    replica = replica_of(server)
    await open_store(1, "b").exchange(exchange(record(1, "b")))
    assert set((await store.exchange(MINE)).records) == {0, 1}
    fail_over(server, replica)
    await open_store(2, "c").exchange(exchange(record(2, "c")))
    server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert set((await recovered(store)).records) == {0, 2}


@story
async def test_a_server_whose_clock_was_ahead_is_followed_by_one_behind(
    server: Server, open_store: Open
) -> None:
    store, other = open_store(), open_store(1, "b")
    await store.exchange(MINE)
    ahead = 4_000_000_000_000_000  # microseconds: the year 2096
    server.command("HSET", KEYS[0], "version", ahead)
    await store.exchange(MINE)
    for generation in (1, 2, 3):
        await other.exchange(exchange(record(1, "b", generation)))
        assert (await store.exchange(MINE)).records[1].generation == generation
    assert int(server.command("HGET", KEYS[0], "version").split(b"\r\n")[1]) == ahead + 3


@story
async def test_everything_is_read_again_when_the_time_has_come(server: Server) -> None:
    patient, eager = (
        RedisStore("u", server.url, timeout=2, rank=0, incarnation="a", refresh=refresh)
        for refresh in (60, 0)
    )
    await RedisStore("u", server.url, timeout=2, rank=1, incarnation="b").exchange(exchange(record(1, "b")))
    for store in (patient, eager):
        assert set((await store.exchange(MINE)).records) == {0, 1}
    server.command("HDEL", KEYS[0], "r1")
    server.command("ZREM", KEYS[1], "1")
    assert set((await patient.exchange(MINE)).records) == {0, 1}
    assert set((await eager.exchange(MINE)).records) == {0}


@story
async def test_an_idle_heartbeat_carries_no_records(
    open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    carried: list[int] = []
    read = ExchangeAnswer.parse_raw

    def counting(raw: list[bytes]) -> ExchangeAnswer:
        answer = read(raw)
        carried.append(len(answer.records))
        return answer

    store = open_store()
    await open_store(1, "b").exchange(exchange(record(1, "b")))
    monkeypatch.setattr(ExchangeAnswer, "parse_raw", counting)
    for _ in range(3):
        assert set((await store.exchange(MINE)).records) == {0, 1}
    assert carried == [2, 0, 0]


@story
async def test_an_abandoned_unit_is_forgotten_after_a_day(server: Server, open_store: Open) -> None:
    store = open_store()
    await store.exchange(MINE)
    await store.put_output(1, 0, ["line"])
    for key in (*KEYS, "unitagent:{u}:output:1"):
        assert 86_000 < int(server.command("TTL", key)[1:]) <= 86_400
    for key in KEYS:
        server.command("EXPIRE", key, 1000)
    long_ago = int(time.time() - 601) * 1000  # they are kept from expiring once in ten minutes
    server.command("HSET", "unitagent:{u}:board", "b0", f"a 1 {long_ago}")
    await store.exchange(MINE)
    for key in KEYS:
        assert int(server.command("TTL", key)[1:]) > 86_000


@story
async def test_after_a_break_the_url_is_asked_for_again(server: Server, tmp_path: Path) -> None:
    urls = [server.url]
    store = RedisStore("u", lambda: urls[-1], timeout=2, rank=0, incarnation="a")
    await store.exchange(MINE)
    with running(tmp_path) as successor:
        urls.append(successor.url)
        assert set((await store.exchange(MINE)).records) == {0}  # not while the connection holds
        assert successor.command("DBSIZE") == b":0\r\n"
        server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await recovered(store)
        assert successor.command("DBSIZE") == b":2\r\n"
