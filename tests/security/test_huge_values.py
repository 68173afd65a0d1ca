"""Whoever writes huge things to the store: nobody gets to read them, and no agent swells or loses touch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.entries import entry
from tests.listening import story
from tests.records import exchange, record
from tests.servers import Server, running
from unitagent.store.keys import REGISTRY, KeyNames
from unitagent.store.redis_store import RedisStore
from unitagent.store.registry import MAX_ROWS, Registry
from unitagent.system.limits import MAX_UNIT_SIZE

HUGE = 32 << 20  # bytes
FEW = 1 << 20
LONGEST = 16384  # bytes of a value that is read
NAMES = KeyNames("u")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path) as server:
        yield server


def sent(server: Server) -> int:
    """How many bytes the server has sent so far, to everybody."""
    found = re.search(rb"total_net_output_bytes:(\d+)", server.command("INFO", "stats"))
    assert found
    return int(found[1])


@pytest.mark.parametrize("name", [b"evil", b"x" * HUGE])
def test_a_huge_line_in_the_list_of_units_is_left_out(server: Server, name: bytes) -> None:
    @story
    async def tell() -> None:
        warned: list[str] = []
        registry = Registry(server.url, timeout=20, warn=warned.append)
        await registry.announce_endpoint(entry(), first=True)
        server.command("HSET", REGISTRY, name, b"x" * HUGE)
        before = sent(server)
        assert set((await registry.read()).units) == {entry().unit}
        assert sent(server) - before < FEW
        (told,) = warned
        assert told.endswith("cannot be read; ignored it")
        assert server.command("HLEN", REGISTRY) == b":1\r\n"  # it holds nobody up again
        await registry.close()

    tell()


def test_no_crowd_in_the_list_of_units_hides_one_that_is_known(server: Server) -> None:
    @story
    async def tell() -> None:
        registry = Registry(server.url, timeout=20, warn=lambda _: None)
        await registry.announce_endpoint(entry(), first=True)
        assert set((await registry.read()).units) == {entry().unit}
        for first in range(0, 3 * MAX_ROWS, 1000):
            words = [word for one in range(first, first + 1000) for word in (b"e%d" % one, b"1 a 1 1 {}")]
            server.command("HSET", REGISTRY, *words)
        for _ in range(3):
            assert set((await registry.read()).units) == {entry().unit}
        await registry.close()

    tell()


@pytest.mark.parametrize("name", [b"7" * HUGE, b"1024", b"007", b"0007x", b"-1", b""])
def test_names_that_are_no_ranks_are_removed_and_told_once(server: Server, name: bytes) -> None:
    @story
    async def tell() -> None:
        warned: list[str] = []
        agents = [
            RedisStore(
                *("u", server.url),
                timeout=20,
                rank=rank,
                incarnation=f"a{rank}",
                refresh=0,
                warn=warned.append,
            )
            for rank in (0, 1)
        ]
        for rank, agent in enumerate(agents):
            await agent.exchange(exchange(record(rank, f"a{rank}")))
        for _ in range(2):
            server.command("ZADD", NAMES.changes, 9 * 10**15, name)
            before = sent(server)
            for _ in range(2):
                for rank, agent in enumerate(agents):
                    reply = await agent.exchange(exchange(record(rank, f"a{rank}")))
            assert set(reply.records) == {0, 1}
            assert sent(server) - before < FEW
        assert len(warned) in {1, 2}  # each agent may have found it
        assert all("strange names" in one for one in warned)
        for agent in agents:
            await agent.close()

    tell()


def fill(server: Server, fields: Iterable[str], value: bytes) -> None:
    for field in fields:
        server.command("HSET", NAMES.membership_table, field, value)


def list_ranks(server: Server, version: int) -> None:
    server.command(
        "ZADD", NAMES.changes, *(word for rank in range(MAX_UNIT_SIZE) for word in (version, rank))
    )


def test_records_of_ranks_that_a_unit_does_not_have_are_not_sent(server: Server) -> None:
    """But for a few: they tell that somebody else has been given another size."""

    @story
    async def tell() -> None:
        agent, other = (
            RedisStore("u", server.url, timeout=20, rank=rank, incarnation=f"a{rank}", size=size)
            for rank, size in ((0, 2), (200, 1024))
        )
        fill(server, (f"r{rank}" for rank in range(MAX_UNIT_SIZE)), b"x" * LONGEST)
        list_ranks(server, 1)
        await other.exchange(exchange(record(200, "a200", size=1024)))
        before = sent(server)
        reply = await agent.exchange(exchange(record(0, "a0", size=2)))
        assert sent(server) - before < FEW
        assert reply.records[200].size == 1024
        for one in (agent, other):
            await one.close()

    tell()


def test_a_version_that_is_yet_to_come_is_told_once(server: Server) -> None:
    @story
    async def tell() -> None:
        store = RedisStore("u", server.url, timeout=20, rank=0, incarnation="a0", warn=lambda _: None)
        await store.exchange(exchange(record(0, "a0")))
        fill(server, (f"r{rank}" for rank in range(1, MAX_UNIT_SIZE)), b"x" * LONGEST)
        list_ranks(server, 9 * 10**15)
        await store.exchange(exchange(record(0, "a0")))
        before = sent(server)
        assert set((await store.exchange(exchange(record(0, "a0")))).records) == {0}
        assert sent(server) - before < FEW
        await store.close()

    tell()


def test_an_operator_reads_no_more_of_a_table_than_agents_write(server: Server) -> None:
    @story
    async def tell() -> None:
        store = RedisStore("u", server.url, timeout=20, rank=0, incarnation="a0")
        await store.exchange(exchange(record(0, "a0")))
        fill(server, (f"evil{number}" for number in range(64)), b"x" * FEW)
        before = sent(server)
        assert set((await store.read()).records) == {0}
        assert sent(server) - before < FEW
        await store.close()

    tell()


def test_a_table_whose_ranks_are_all_filled_can_be_read(server: Server) -> None:
    @story
    async def tell() -> None:
        store = RedisStore("u", server.url, timeout=20, rank=0, incarnation="a0", warn=lambda _: None)
        await store.exchange(exchange(record(0, "a0")))
        fill(server, (f"{kind}{rank}" for rank in range(1, MAX_UNIT_SIZE) for kind in "rb"), b"x" * LONGEST)
        list_ranks(server, 1)
        assert set((await store.read()).records) == {0}
        await store.close()

    tell()


def test_what_is_fine_stays_readable(server: Server) -> None:
    """The longest names and lines that there may be."""

    @story
    async def tell() -> None:
        registry, unit = Registry(server.url, timeout=20), "u" * 128
        await registry.announce_endpoint(entry(unit, revision="r" * 3000))
        (found,) = (await registry.read()).units.values()
        assert found.entry.revision == "r" * 3000
        await registry.close()

    tell()
