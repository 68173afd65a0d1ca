"""Names that resolve slowly, to several addresses, or to another one each time."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.listening import story, until
from tests.records import exchange, record
from unitagent.errors import StoreError
from unitagent.store import connection
from unitagent.store.lane import Lane
from unitagent.store.redis import RedisStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Server

MINE = exchange(record(0, "a"))


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A resolver that answers only when the event is set."""
    release = threading.Event()

    def resolve(host: str, port: int) -> list[str]:
        release.wait(20)
        return ["127.0.0.1"]

    monkeypatch.setattr(connection, "resolve", resolve)
    yield release
    release.set()


@story
async def test_a_hung_resolver_blocks_nobody_and_piles_nothing_up(
    server: Server, stuck: threading.Event
) -> None:
    store = RedisStore("u", f"redis://name:{server.port}", timeout=0.1, rank=0, incarnation="a")
    threads = threading.active_count()
    loop_lag = 0.0
    for _ in range(5):
        asking = asyncio.create_task(store.exchange(MINE))
        while not asking.done():
            before = time.monotonic()
            await asyncio.sleep(0.01)
            loop_lag = max(loop_lag, time.monotonic() - before)
        assert "does not answer in time" in str(asking.exception())
    assert threading.active_count() <= threads + 1
    assert loop_lag < 5
    stuck.set()
    await until(lambda: threading.active_count() <= threads)
    assert (await store.exchange(MINE)).holder == "a"


@story
async def test_all_addresses_of_a_name_are_tried(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as deaf:  # listens, never answers
        deaf.bind(("127.0.0.2", server.port))
        deaf.listen(1)
        addresses = ["127.0.0.3", "127.0.0.2", "127.0.0.1"]  # refused, hung, good
        monkeypatch.setattr(connection, "resolve", lambda host, port: addresses)
        store = RedisStore("u", f"redis://name:{server.port}", timeout=2, rank=0, incarnation="a")
        assert (await store.exchange(MINE)).holder == "a"
    addresses[:] = ["127.0.0.1", "127.0.0.3"]
    await store.close()
    assert (await store.exchange(MINE)).holder == "a"
    await store.close()
    addresses.remove("127.0.0.1")
    with pytest.raises(StoreError, match=f"name:{server.port} cannot be reached: Connection refused"):
        await store.exchange(MINE)


@story
async def test_a_lane_gives_results_and_errors_and_survives_who_gives_up() -> None:
    lane = Lane()
    assert await lane.run(lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        await lane.run(lambda: 1 // 0)
    release = threading.Event()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await lane.run(lambda: release.wait(20))
    with pytest.raises(TimeoutError):  # one at a time
        async with asyncio.timeout(0.01):
            await lane.run(lambda: 6)
    release.set()
    assert await lane.run(lambda: 7) == 7


@story
async def test_a_machine_without_a_thread_to_spare_is_told_and_tried_again(server: Server) -> None:
    store = RedisStore("u", f"redis://localhost:{server.port}", timeout=2, rank=0, incarnation="a")
    before = threading.stack_size(2**46)  # no address space holds that: no thread can start
    try:
        for _ in range(2):
            with pytest.raises(StoreError, match="cannot be reached: Resource temporarily unavailable"):
                await store.exchange(MINE)
    finally:
        threading.stack_size(before)
    assert (await store.exchange(MINE)).holder == "a"


def test_a_hung_call_does_not_delay_the_end_of_the_loop() -> None:
    release = threading.Event()

    async def tell() -> None:
        async with asyncio.timeout(0.01):
            await Lane().run(lambda: release.wait(20))

    with pytest.raises(TimeoutError):
        asyncio.run(tell())
    release.set()  # the thread ends after its loop, and nobody minds
