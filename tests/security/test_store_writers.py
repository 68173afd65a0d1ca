"""Whoever writes to the store, or to a folder, keeps no agent from its work and no balancer from its file."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.entries import entry
from tests.operator.test_endpoints import DEFAULTS
from tests.probes.loops import in_loop, until
from tests.servers import DEADLINE, Server, running
from unitagent.operator.endpoints.formats import format_endpoints
from unitagent.operator.endpoints.watched_file import WatchedFile
from unitagent.store.keys import REGISTRY, KeyNames
from unitagent.store.redis_store import RedisStore
from unitagent.store.registry import MAX_ROWS, Registry

PUSHES, UNITS = 20_000, 20_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path) as server:
        yield server


def send(server: Server, commands: bytes) -> None:
    with server.connect() as client:
        client.settimeout(DEADLINE)
        client.sendall(commands + b"PING\r\n")
        answers = b""
        while b"PONG" not in answers[-100:]:
            answers = answers[-100:] + client.recv(1 << 20)


@contextlib.asynccontextmanager
async def turns() -> AsyncIterator[list[int]]:
    """How often the event loop had time for something else, as it grows."""
    taken = [0]

    async def take() -> None:
        while True:
            await asyncio.sleep(0)
            taken[0] += 1

    task = asyncio.create_task(take())
    yield taken
    task.cancel()


def test_many_pushes_are_a_few_looks(server: Server) -> None:
    @in_loop
    async def hear() -> None:
        store, looks = RedisStore("u", server.url, timeout=5, incarnation="me"), list[float]()
        task = asyncio.create_task(store.listen(lambda: looks.append(time.monotonic())))
        await until(lambda: looks)
        line = b'PUBLISH %s "look another"\r\n' % KeyNames("u").wakeup_channel.encode()
        began = time.monotonic()
        await asyncio.to_thread(send, server, line * PUSHES)
        server.command("PUBLISH", KeyNames("u").wakeup_channel, "look last")
        await asyncio.sleep(1)
        most = (time.monotonic() - began) / 0.05 + 3
        task.cancel()
        await store.close()
        assert 2 <= len(looks) <= most

    hear()


def test_the_few_pushes_of_a_restart_are_looks_at_once(server: Server) -> None:
    @in_loop
    async def hear() -> None:
        store, looks = RedisStore("u", server.url, timeout=5, incarnation="me"), list[float]()
        task = asyncio.create_task(store.listen(lambda: looks.append(time.monotonic())))
        await until(lambda: looks)
        for number in range(8):
            server.command("PUBLISH", KeyNames("u").wakeup_channel, f"look another{number}")
        await until(lambda: len(looks) == 9)  # none was gathered with another one
        task.cancel()
        await store.close()

    hear()


def test_a_long_list_of_units_is_read_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    read_anew, right = [0], msgspec.json.decode

    def decode(*words: Any, **more: Any) -> Any:
        read_anew[0] += 1
        return right(*words, **more)

    monkeypatch.setattr("unitagent.store.registry.msgspec.json.decode", decode)
    text = json.dumps({**{name: getattr(entry(), name) for name in entry().__slots__}, "unit": "NAME"})

    @in_loop
    async def read() -> None:
        for first in range(0, UNITS, 1000):
            units = [b"u%d" % number for number in range(first, first + 1000)]
            words = [
                part
                for unit in units
                for part in (unit, b"1 a 1 5000 " + text.encode().replace(b"NAME", unit))
            ]
            server.command("HSET", REGISTRY, *words)
        registry = Registry(server.url, timeout=20, warn=lambda _: None)
        async with turns() as taken:
            for _ in range(3):
                assert len((await registry.read()).units) <= MAX_ROWS
        await registry.close()
        assert read_anew[0] == MAX_ROWS  # the first time only
        assert taken[0] > MAX_ROWS / 1000

    read()


@pytest.mark.parametrize("kind", ["file", "fifo", "link"])
def test_a_file_that_somebody_has_put_there_is_made_ours(tmp_path: Path, kind: str) -> None:
    path, other = tmp_path / "units.cfg", tmp_path / "other"
    other.write_text("new")
    if kind == "file":
        path.write_text("new")
        path.chmod(0o666)
    elif kind == "link":
        path.symlink_to(other)
    else:
        subprocess.run(["mkfifo", "-m", "666", str(path)], check=True)
    assert WatchedFile(path, None).write_if_changed("new")
    assert not path.is_symlink()
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o644)
    assert other.read_text() == "new"


@pytest.mark.parametrize("name", ["stats", "users", "unit-chat", "-x"])
def test_a_service_of_any_name_breaks_no_configuration(tmp_path: Path, name: str) -> None:
    (tmp_path / "1.cfg").write_text(DEFAULTS + "listen stats\n    bind 127.0.0.1:2\n    stats enable\n")
    entries = [entry("a", service=name), entry("b", service="chat")]
    (tmp_path / "2.cfg").write_text(format_endpoints("haproxy", entries, None))
    argv = ["haproxy", "-c", "-f", str(tmp_path / "1.cfg"), "-f", str(tmp_path / "2.cfg")]
    said = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert said.returncode == 0, said.stderr
