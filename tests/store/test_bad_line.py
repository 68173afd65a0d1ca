"""A line that loses what is sent: an operation is tried once more beside the one that is not answered.

Nothing is lost on loopback, so the tests say so; ``tests/network/test_partitions.py`` has real loss.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from tests.listening import story, until
from tests.records import exchange, record
from tests.store.gateway import Gateway
from unitagent.store import connection, store_connection
from unitagent.store.connection import ServerAddress, is_connection_acknowledged, open_connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers import Server
    from unitagent.store.redis_store import RedisStore

    Open = Callable[..., RedisStore]


@pytest.fixture
def lossy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that was sent is ever acknowledged."""
    monkeypatch.setattr(store_connection, "is_connection_acknowledged", lambda _connection: False)


@pytest.mark.usefixtures("lossy")
@story
async def test_a_connection_that_falls_silent_is_replaced_before_the_operation_fails(
    server: Server, open_store: Open
) -> None:
    async with Gateway(server) as gateway:
        store = open_store(url=gateway.url)
        await store.exchange(exchange(record(0, "a")))
        assert gateway.made == 1
        gateway.hold()
        assert (await store.exchange(exchange(record(0, "a")))).holder == "a"
        made = gateway.made
        assert made > 1
        for _ in range(5):
            await store.exchange(exchange(record(0, "a")))
        assert gateway.made == made, "the one that answered is kept"


@pytest.mark.usefixtures("lossy")
@story
async def test_a_second_try_goes_where_the_first_went_and_looks_nothing_up(
    server: Server, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name may be gone with its container, and the name server hang."""

    def look_up(host: str) -> list[str]:
        looked_up.append(host)
        return ["127.0.0.1"]

    looked_up: list[str] = []
    monkeypatch.setattr(connection, "resolve_blocking", look_up)
    async with Gateway(server) as gateway:
        store = open_store(url=gateway.url.replace("127.0.0.1", "name"))
        await store.exchange(exchange(record(0, "a")))
        gateway.hold()
        await store.exchange(exchange(record(0, "a")))
        assert gateway.made > 1
        assert len(looked_up) == 1


@pytest.mark.usefixtures("lossy")
@story
async def test_all_is_read_anew_on_another_connection(server: Server, open_store: Open) -> None:
    async with Gateway(server) as gateway:
        store, other = open_store(url=gateway.url), open_store(1, "b")
        await other.exchange(exchange(record(1, "b")))
        await store.exchange(exchange(record(0, "a")))
        gateway.hold()
        server.command("HDEL", "unitagent:{u}:board", "r1")  # as on a replica that took over, and had lost it
        server.command("ZREM", "unitagent:{u}:changes", "1")
        assert set((await store.exchange(exchange(record(0, "a")))).records) == {0}


@pytest.mark.usefixtures("lossy")
@story
async def test_what_arrives_late_overwrites_nothing(server: Server, open_store: Open) -> None:
    async with Gateway(server) as gateway:
        store, watcher = open_store(url=gateway.url), open_store(None, "")
        await store.exchange(exchange(record(0, "a", generation=1)))
        gateway.hold()
        await store.exchange(exchange(record(0, "a", generation=2)))
        await store.exchange(exchange(record(0, "a", generation=3)))
        run = _run(server)
        gateway.let_go()
        await until(lambda: _run(server) > run)
        assert (await watcher.read()).records[0].generation == 3


@story
async def test_a_server_that_is_only_slow_is_asked_once(server: Server, open_store: Open) -> None:
    async with Gateway(server) as gateway:
        store = open_store(url=gateway.url)
        await store.exchange(exchange(record(0, "a")))
        gateway.hold()
        asking = asyncio.create_task(store.exchange(exchange(record(0, "a"))))
        await asyncio.wait([asking], timeout=1.0)
        assert not asking.done()
        assert gateway.made == 1
        gateway.let_go()
        assert (await asking).holder == "a"


@story
async def test_what_the_other_machine_has_not_taken_has_not_arrived() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        # what is sent is more than buffers hold
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        made: list[bool] = []
        endpoint = ServerAddress(host="127.0.0.1", port=deaf.getsockname()[1])
        wire = await open_connection(
            endpoint, 5, lambda begun: made.append(is_connection_acknowledged(begun))
        )
        assert made == [False], "it is not even connected"
        assert is_connection_acknowledged(wire)
        sending = asyncio.create_task(wire.send_command("ECHO", b"x" * (1 << 24)))  # more than buffers hold
        await until(lambda: not is_connection_acknowledged(wire))
        sending.cancel()
        await asyncio.wait([sending])
        await wire.disconnect(nowait=True)
        assert not is_connection_acknowledged(wire)


def _run(server: Server) -> int:
    """How often the script was run by its name."""
    said = server.command("INFO", "commandstats").decode()
    return int(said.partition("evalsha:calls=")[2].partition(",")[0])
