"""A line that loses what is sent: an operation is tried once more beside the one that is not answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.listening import story, until
from tests.records import exchange, record
from tests.store.gateway import Gateway

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers import Server
    from unitagent.store.redis import RedisStore

    Open = Callable[..., RedisStore]


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


def _run(server: Server) -> int:
    """How often the script was run by its name."""
    said = server.command("INFO", "commandstats").decode()
    return int(said.partition("evalsha:calls=")[2].partition(",")[0])
