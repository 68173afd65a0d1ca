"""Servers that die, hang, forget or cut us off: one clear sentence, and the next exchange starts afresh."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING

import pytest

from tests.listening import Heard, story, until
from tests.ports import free_port
from tests.records import exchange, failed, record
from tests.servers import running
from tests.store.outage import MINE, recovered, trouble
from unitagent.errors import StoreError
from unitagent.store.redis_store import RedisStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.servers import Server

    Open = Callable[..., RedisStore]


@story
async def test_a_server_that_restarts_empty_is_filled_again(server: Server, open_store: Open) -> None:
    store, other = open_store(), open_store(1, "b")
    await store.exchange(exchange(record(0, "a"), generation=3, failure=failed(2)))
    await other.exchange(exchange(record(1, "b")))
    server.kill()
    closed = await trouble(store)
    assert "connection" in closed.lower()  # closed, or reset
    assert "TLS" not in closed  # it has answered without
    gone = await trouble(store)
    assert gone.startswith(f"the store at 127.0.0.1:{server.port} cannot be reached: Connection refused; ")
    server.start()
    reply = await recovered(store)
    assert (reply.holder, set(reply.records), reply.generation, reply.failure) == ("a", {0}, 3, None)
    assert set((await recovered(other, exchange(record(1, "b")))).records) == {0, 1}


@story
async def test_a_hung_server_fails_within_the_timeout_and_answers_again_afterwards(
    server: Server, open_store: Open
) -> None:
    store = open_store(timeout=0.3)
    await store.exchange(MINE)
    server.pause()
    began = time.monotonic()
    hangs = f"the store at 127.0.0.1:{server.port} does not answer in time; "
    assert (await trouble(store)).startswith(hangs)
    assert time.monotonic() - began < 5
    assert "does not answer in time" in await trouble(store)
    server.resume()
    assert (await recovered(store)).holder == "a"


@story
async def test_no_answer_of_a_hung_exchange_is_taken_for_a_later_one(
    server: Server, open_store: Open
) -> None:
    store = open_store(timeout=0.3)
    await store.exchange(exchange(record(0, "a"), generation=1))
    server.pause()
    await trouble(store, exchange(generation=2))
    server.resume()
    for generation in range(3, 8):
        assert (await recovered(store, exchange(generation=generation))).generation == generation


@story
async def test_a_cancelled_exchange_leaves_no_answer_behind(server: Server, open_store: Open) -> None:
    store = open_store(timeout=10)
    await store.exchange(MINE)
    server.pause()
    asking = asyncio.create_task(store.exchange(exchange(generation=50)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    server.resume()
    assert (await store.exchange(exchange(generation=60))).generation == 60


@story
async def test_a_forgotten_script_is_sent_again(server: Server, open_store: Open) -> None:
    store = open_store()
    await store.exchange(MINE)
    server.command("SCRIPT", "FLUSH")
    assert (await store.exchange(MINE)).holder == "a"


@story
async def test_a_killed_connection_is_reported_once(server: Server, open_store: Open) -> None:
    store = open_store()
    await store.exchange(MINE)
    server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert server.url.removeprefix("redis://") in await trouble(store)
    assert (await store.exchange(MINE)).holder == "a"


@story
async def test_pushes_come_again_after_the_subscription_was_lost(server: Server, open_store: Open) -> None:
    store, other = open_store(), open_store(1, "b")
    async with Heard(store) as heard:
        server.command("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: heard.count == 1)  # subscribing anew counts
        await other.exchange(exchange(notify=True))
        await until(lambda: heard.count == 2)


@story
async def test_pushes_come_again_after_the_server_was_away(server: Server, open_store: Open) -> None:
    async with Heard(open_store()) as heard:
        server.kill()
        await asyncio.sleep(0.2)
        server.start()
        await until(lambda: heard.count == 1)
        await recovered(open_store(1, "b"), exchange(notify=True))
        await until(lambda: heard.count == 2)


@story
async def test_garbage_on_the_channel_wakes_nobody(server: Server, open_store: Open) -> None:
    async with Heard(open_store()) as heard:
        for garbage in (b"", b"look", b"look a", b"\xff\x00" * 100, b"hello", b"LOOK b"):
            server.command("PUBLISH", "unitagent:{u}:look", garbage)
        await open_store(1, "b").exchange(exchange(notify=True))
        await until(lambda: heard.count == 1)
        await asyncio.sleep(0.05)
        assert heard.count == 1


@story
async def test_a_server_without_memory_left_refuses_and_is_told(server: Server, open_store: Open) -> None:
    store = open_store()
    await store.exchange(MINE)
    server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    server.command("CONFIG", "SET", "maxmemory", "1")
    assert "out of memory (maxmemory)" in await trouble(store)
    server.command("CONFIG", "SET", "maxmemory", "0")
    assert (await store.exchange(MINE)).holder == "a"


@story
async def test_a_primary_that_became_a_replica_is_left(
    server: Server, open_store: Open, tmp_path: Path
) -> None:
    store = open_store()
    await store.exchange(MINE)
    server.command("REPLICAOF", "127.0.0.1", free_port())
    assert "read-only replica" in await trouble(store) or "lost its primary" in await trouble(store)
    assert "read-only replica" in await trouble(open_store(1, "b"), exchange())
    server.command("REPLICAOF", "NO", "ONE")
    assert (await recovered(store)).holder == "a"


@story
async def test_a_server_that_is_busy_with_a_script_is_told(server: Server, open_store: Open) -> None:
    store = open_store(timeout=5)
    await store.exchange(MINE)
    server.command("CONFIG", "SET", "busy-reply-threshold", "50")
    with socket.create_connection(("127.0.0.1", server.port)) as rude:
        rude.sendall(b"EVAL 'while true do end' 0\r\n")
        await asyncio.sleep(0.2)
        assert "long-running script" in await trouble(store)
        server.command("SCRIPT", "KILL")
    assert (await recovered(store)).holder == "a"


@story
async def test_a_server_without_connections_left_is_told(tmp_path: Path) -> None:
    with running(tmp_path, extra=("--maxclients", "1")) as small, small.connect() as first:
        first.sendall(b"PING\r\n")
        assert first.recv(16) == b"+PONG\r\n"
        store = RedisStore("u", small.url, timeout=2, rank=0, incarnation="a")
        said = {await trouble(store) for _ in range(3)}
        assert any("no connection left (maxclients)" in text for text in said), said
        first.close()
        assert (await recovered(store)).holder == "a"


@story
async def test_an_address_where_nobody_answers_fails_within_the_timeout() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(1)
        store = RedisStore("u", f"redis://127.0.0.1:{deaf.getsockname()[1]}", timeout=0.2)
        assert "does not answer in time" in await trouble(store)


@story
async def test_something_else_at_that_port_is_told_and_does_no_harm() -> None:
    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    impostor = await asyncio.start_server(web, "127.0.0.1", 0)
    port = impostor.sockets[0].getsockname()[1]
    assert f"127.0.0.1:{port}" in await trouble(RedisStore("u", f"redis://127.0.0.1:{port}", timeout=2))
    impostor.close()


@story
async def test_a_server_that_answers_nonsense_is_told(tmp_path: Path) -> None:
    async def liar(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            writer.write(b"*2\r\n:1\r\n$-1\r\n")
        writer.close()

    impostor = await asyncio.start_server(liar, "127.0.0.1", 0)
    port = impostor.sockets[0].getsockname()[1]
    store = RedisStore("u", f"redis://127.0.0.1:{port}", timeout=2, rank=0, incarnation="a")
    assert "not a store's" in await trouble(store)
    assert f"127.0.0.1:{port}" in await trouble(store)
    with pytest.raises(StoreError):
        await store.read()
    with pytest.raises(StoreError):
        await store.read_output(1)
    impostor.close()
