"""Names that resolve slowly, to several addresses, or to another one each time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.groups import one_node, one_sentinel
from tests.listening import story, until
from tests.records import exchange, record
from tests.servers import running
from tests.store.outage import recovered
from unitagent.errors import StoreError
from unitagent.store import connection
from unitagent.store.redis_store import RedisStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers import Server

MINE = exchange(record(0, "a"))


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A resolver that answers only when the event is set."""
    release = threading.Event()

    def resolve(host: str) -> list[str]:
        release.wait(60)
        return ["127.0.0.1"]

    monkeypatch.setattr(connection, "resolve_blocking", resolve)
    yield release
    release.set()


@story
async def test_an_address_is_no_name(stuck: threading.Event) -> None:
    for address in ("127.0.0.1", "::1"):
        assert await connection.resolve_host(address) == [address]
    assert await connection.resolve_host("fd00:0::1") == ["fd00::1"]


@story
async def test_a_hung_resolver_blocks_nobody_and_piles_nothing_up(
    server: Server, stuck: threading.Event
) -> None:
    store = RedisStore("u", f"redis://hung:{server.port}", timeout=0.1, rank=0, incarnation="a")
    threads = threading.active_count()
    loop_lag = 0.0
    for _ in range(5):
        asking = asyncio.create_task(store.exchange(MINE))
        while not asking.done():
            before = time.monotonic()
            await asyncio.sleep(0.01)
            loop_lag = max(loop_lag, time.monotonic() - before)
        assert "the name server has not answered for hung so far" in str(asking.exception())
    assert threading.active_count() <= threads + 1
    assert loop_lag < 5
    stuck.set()
    await until(lambda: threading.active_count() <= threads)
    assert (await recovered(store)).holder == "a"


@pytest.mark.parametrize("form", ["redis://{}", "redis+sentinel://{}/main", "redis+cluster://{}"])
def test_a_lookup_that_takes_longer_than_an_operation_only_delays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """For each server that is asked on the way, one lookup at a time."""
    name = "slow-" + urlsplit(form).scheme.replace("+", "-")
    looked_up: list[str] = []

    def resolve(host: str) -> list[str]:
        looked_up.append(host)
        time.sleep(0.5)
        return ["127.0.0.1"]

    @story
    async def tell(url: str) -> None:
        store = RedisStore("u", url, timeout=0.2, rank=0, incarnation="a")
        failures = 0
        while True:
            with contextlib.suppress(StoreError):
                assert (await store.exchange(MINE)).holder == "a"
                break
            failures += 1
        assert failures > 0
        assert 1 <= looked_up.count(name) <= 2

    monkeypatch.setattr(connection, "resolve_blocking", resolve)
    with contextlib.ExitStack() as ends:
        asked = _asked(tmp_path, form, ends)
        tell(form.format(f"{name}:{asked.port}"))


def _asked(folder: Path, form: str, ends: contextlib.ExitStack) -> Server:
    """The server that such a URL names."""
    if "cluster" in form:
        return ends.enter_context(one_node(folder))
    server = ends.enter_context(running(folder))
    return ends.enter_context(one_sentinel(folder, server)) if "sentinel" in form else server


@story
async def test_all_addresses_of_a_name_are_tried(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as deaf:  # listens, never answers
        deaf.bind(("127.0.0.2", server.port))
        deaf.listen(1)
        addresses = ["127.0.0.3", "127.0.0.2", "127.0.0.1"]  # refused, hung, good
        monkeypatch.setattr(connection, "resolve_blocking", lambda host: addresses)
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
