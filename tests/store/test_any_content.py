"""Any content of our keys, on a real server: an answer that holds what it promises, or an error in words."""

from __future__ import annotations

import asyncio
import ipaddress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.records import exchange, failed, moment, record
from tests.servers import Server, running
from tests.store.content import GARBAGE, LIES, Words, writes
from unitagent.errors import StoreError
from unitagent.store.history import UnitHistory
from unitagent.store.redis_store import RedisStore
from unitagent.store.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitagent.core.model import Record

FIELDS = [
    "born",
    "generation",
    "version",
    "failure",
    "order",
    "r0",
    "h0",
    "b0",
    "r1",
    "h1",
    "b1",
    "r1024",
    "rx",
]
MINE = record(0, "a", generation=4, size=2)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("content")) as server:
        yield server


def is_place(ip: str, port: int) -> bool:
    """Whether one machine may be reached there; no other text is an address."""
    address = ipaddress.ip_address(ip)
    plain = ip.isascii() and ip.isprintable() and "%" not in ip
    return plain and not (address.is_unspecified or address.is_multicast) and 0 <= port <= 65535


def means_something(one: Record) -> bool:
    """Whether a record may go into a command line, a log, and a picture of times."""
    texts = (one.hostname, one.revision, one.fingerprint, one.gang, one.incarnation, one.netns)
    times = [datetime.fromtimestamp(charge.at, tz=UTC) for charge in one.charges]
    return is_place(one.ip, one.port) and all(text.isprintable() for text in texts) and len(times) < 1e4


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(writes("u", FIELDS, GARBAGE | LIES), min_size=1, max_size=6))
def test_whatever_is_there_is_read_or_refused_in_words(shared: Server, content: list[list[Words]]) -> None:
    warned: list[str] = []
    refused: list[str] = []

    async def read() -> None:
        mine = RedisStore("u", shared.url, timeout=5, rank=0, incarnation="a", warn=warned.append)
        history = UnitHistory("u", shared.url, timeout=5, warn=warned.append)
        registry = Registry(shared.url, timeout=5, warn=warned.append)
        try:
            reply = await mine.exchange(
                exchange(MINE, generation=4, failure=failed(3), judge=(0, 1), notify=True)
            )
            assert 4 <= reply.generation < 2**53
            assert reply.unit_age >= 0
            assert all(rank == one.rank < one.size for rank, one in reply.records.items())
            assert all(map(means_something, reply.records.values()))
            await mine.put_output(1, 0, ["line"])
            snapshot = await mine.read()
            assert all(rank == one.rank < one.size for rank, one in snapshot.records.items())
            await mine.read_output(1)
            sights = (await registry.read()).units.values()
            assert all(is_place(sight.entry.ip, sight.entry.port) for sight in sights)
            assert all(0 < sight.entry.lease < 1e8 for sight in sights)
            await history.read()
            await history.add_events([moment()], lambda: 5)
            assert moment().number in [one.number for one in (await history.read()).events]
        except StoreError as error:
            refused.append(str(error))
        finally:
            await mine.close()
            await registry.close()
            await history.close()

    shared.command("FLUSHALL")
    for command in (command for one in content for command in one):
        shared.command(*command)
    asyncio.run(read())
    assert len(warned) <= 200
    assert all(said.startswith("the store at ") for said in refused)
