"""Stores of several servers: the primary that sentinels name, the cluster node that owns the Unit."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.entries import entry
from tests.groups import one_sentinel, primary_and_replica, sentinel_url, three_nodes, three_sentinels
from tests.listening import Heard, story, until
from tests.records import exchange, moment, record
from tests.servers import Server, running
from unitagent.errors import StoreError
from unitagent.store.history import UnitHistory
from unitagent.store.redis_store import RedisStore
from unitagent.store.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

MINE = exchange(record(0, "a"), generation=3)


async def answered(store: RedisStore) -> None:
    """Wait for the first answer after an outage."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(StoreError):
                assert (await store.exchange(MINE)).holder == "a"
                return
            await asyncio.sleep(0.05)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    with primary_and_replica(tmp_path) as servers:
        yield servers


@pytest.fixture
def sentinels(tmp_path: Path, pair: tuple[Server, Server]) -> Iterator[list[Server]]:
    with three_sentinels(tmp_path, *pair) as servers:
        yield servers


@pytest.mark.slow
def test_a_failover_of_sentinels_is_followed(pair: tuple[Server, Server], sentinels: list[Server]) -> None:
    @story
    async def tell() -> None:
        primary, replica = pair
        mine = RedisStore("u", sentinel_url(sentinels), timeout=1, rank=0, incarnation="a")
        other = RedisStore("u", sentinel_url(sentinels), timeout=1, rank=1, incarnation="b")
        await answered(mine)
        sentinels[0].kill()  # the first in the list: the others are asked
        async with Heard(mine) as heard:
            primary.kill()
            await answered(mine)
            assert b"role:master" in replica.command("INFO", "replication")
            await until(lambda: heard.count >= 1)
            before = heard.count
            await other.exchange(exchange(record(1, "b"), notify=True))
            await until(lambda: heard.count > before)

    tell()


@pytest.mark.slow
def test_sentinels_that_do_not_help_are_told(sentinels: list[Server]) -> None:
    @story
    async def tell() -> None:
        for url, words in (
            (sentinel_url(sentinels, service="other"), "knows no primary for other"),
            (sentinel_url(sentinels, password="wrong"), "refused the user or password"),  # noqa: S106
        ):
            with pytest.raises(StoreError) as raised:
                await RedisStore("u", url, timeout=1).read()
            assert words in str(raised.value)
            assert "could name the server to use" in str(raised.value)

    tell()


@contextlib.contextmanager
def stale_sentinels(folder: Path, named: Server, count: int) -> Iterator[list[Server]]:
    """Sentinels that know nobody but a server that was the primary once, or so they believe."""
    with contextlib.ExitStack() as ends:
        folders = [folder / f"stale-{number}" for number in range(count)]
        for each in folders:
            each.mkdir()
        yield [ends.enter_context(one_sentinel(each, named)) for each in folders]


async def failures_before(work: Callable[[], Awaitable[object]]) -> int:
    """How often an operation fails before it succeeds."""
    for failures in range(10):
        with contextlib.suppress(StoreError):
            await work()
            return failures
    raise AssertionError("it never succeeds")


@pytest.mark.parametrize("stale", [1, 2])
def test_a_replica_that_a_stale_sentinel_names_is_left(
    tmp_path: Path, pair: tuple[Server, Server], stale: int
) -> None:
    primary, replica = pair

    @story
    async def tell(url: str) -> None:
        mine = RedisStore("u", url, timeout=2, rank=0, incarnation="a")
        assert await failures_before(lambda: mine.exchange(MINE)) == 0
        assert set((await RedisStore("u", url, timeout=2).read()).records) == {0}  # who only reads, too
        async with Heard(mine) as heard:
            await mine.close()
            assert await failures_before(lambda: mine.exchange(MINE)) == 0
            other = RedisStore("u", url, timeout=2, rank=1, incarnation="b")
            await other.exchange(exchange(record(1, "b"), notify=True))
            await until(lambda: heard.count >= 1)

    with stale_sentinels(tmp_path, replica, stale) as wrong, one_sentinel(tmp_path, primary) as right:
        tell(sentinel_url([*wrong, right], password=""))


@pytest.mark.parametrize("end", ["kill", "pause"])
def test_a_server_that_is_gone_is_not_believed_in_for_ever(
    tmp_path: Path, pair: tuple[Server, Server], end: str
) -> None:
    """Refused at once, another sentinel is asked at once; unanswered, at the next try."""
    primary, _ = pair

    @story
    async def tell(url: str) -> None:
        store = RedisStore("u", url, timeout=0.5, rank=0, incarnation="a")
        assert await failures_before(lambda: store.exchange(MINE)) <= (0 if end == "kill" else 2)

    with (
        running(tmp_path) as gone,
        stale_sentinels(tmp_path, gone, 2) as wrong,
        one_sentinel(tmp_path, primary) as right,
    ):
        getattr(gone, end)()
        tell(sentinel_url([*wrong, right], password=""))


def test_a_primary_that_becomes_a_replica_under_the_connection_is_left(
    tmp_path: Path, pair: tuple[Server, Server]
) -> None:
    old, new = pair

    @story
    async def tell(url: str) -> None:
        store = RedisStore("u", url, timeout=2, rank=0, incarnation="a")
        await store.exchange(MINE)
        new.command("REPLICAOF", "NO", "ONE")
        old.command("REPLICAOF", "127.0.0.1", new.port)
        assert await failures_before(lambda: store.exchange(MINE)) <= 1
        assert b"role:master" in new.command("INFO", "replication")

    with stale_sentinels(tmp_path, old, 1) as wrong, one_sentinel(tmp_path, new) as right:
        tell(sentinel_url([*wrong, right], password=""))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[list[Server]]:
    with three_nodes(tmp_path) as servers:
        yield servers


@pytest.mark.slow
def test_each_unit_finds_its_node_of_a_cluster(cluster: list[Server]) -> None:
    @story
    async def tell() -> None:
        url = f"redis+cluster://127.0.0.1:{cluster[2].port},127.0.0.1:{cluster[0].port}"
        for unit in ("one", "two", "three", "four"):
            mine = RedisStore(unit, url, timeout=3, rank=0, incarnation="a")
            async with Heard(mine) as heard:
                assert (await mine.exchange(MINE)).holder == "a"
                other = RedisStore(unit, url, timeout=3, rank=1, incarnation="b")
                reply = await other.exchange(exchange(record(1, "b"), notify=True))
                assert set(reply.records) == {0, 1}
                await until(lambda: heard.count == 1)
            assert set((await mine.read()).records) == {0, 1}
            history = UnitHistory(unit, url, timeout=3)
            await history.add_events([moment()], lambda: 0)
            assert len((await history.read()).events) == 1
        cluster[2].kill()
        sizes = [node.command("DBSIZE") for node in cluster[:2]]
        assert sizes != [b":0\r\n"] * 2

    tell()


@pytest.mark.slow
def test_the_list_of_units_has_a_node_of_its_own(cluster: list[Server]) -> None:
    @story
    async def tell() -> None:
        url = f"redis+cluster://127.0.0.1:{cluster[2].port},127.0.0.1:{cluster[0].port}"
        for unit in ("one", "two", "three", "four"):
            await Registry(url, timeout=3).announce_endpoint(entry(unit), first=True)
        assert set((await Registry(url, timeout=3).read()).units) == {"one", "two", "three", "four"}
        assert sorted(node.command("DBSIZE") for node in cluster) == [b":0\r\n", b":0\r\n", b":1\r\n"]

    tell()


@pytest.mark.slow
def test_a_slot_that_moves_is_followed(cluster: list[Server]) -> None:
    @story
    async def tell() -> None:
        url = f"redis+cluster://127.0.0.1:{cluster[0].port}"
        mine = RedisStore("u", url, timeout=3, rank=0, incarnation="a")
        await answered(mine)
        slot = int(cluster[0].command("CLUSTER", "KEYSLOT", "{u}").strip(b":\r\n"))
        owner = next(node for node in cluster if node.command("DBSIZE") != b":0\r\n")
        heir = next(node for node in cluster if node is not owner)
        owner.command("FLUSHALL")  # an empty slot may be handed over at once
        name = heir.command("CLUSTER", "MYID").split(b"\r\n")[1]
        for node in (heir, owner):
            node.command("CLUSTER", "SETSLOT", slot, "NODE", name)
        with pytest.raises(StoreError, match="another node"):
            await mine.exchange(MINE)
        await answered(mine)
        assert heir.command("DBSIZE") != b":0\r\n"

    tell()
