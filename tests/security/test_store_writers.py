"""Whoever writes to the store, or to a folder, keeps no agent from its work and no balancer from its file."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.entries import entry
from tests.operator.test_endpoints import DEFAULTS
from tests.probes.loops import in_loop, until
from tests.servers import DEADLINE, Server, running
from unitagent.operator.endpoints.formats import rendered
from unitagent.operator.endpoints.target import Target
from unitagent.store.keys import REGISTRY, Keys
from unitagent.store.redis import RedisStore
from unitagent.store.registry import Registry

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
async def longest_wait() -> AsyncIterator[list[float]]:
    """The longest time for which the event loop did nothing else, as it grows."""
    longest = [0.0]

    async def look() -> None:
        before = time.monotonic()
        while True:
            await asyncio.sleep(0)
            longest[0], before = max(longest[0], time.monotonic() - before), time.monotonic()

    task = asyncio.create_task(look())
    yield longest
    task.cancel()


def test_many_pushes_are_a_few_looks(server: Server) -> None:
    @in_loop
    async def hear() -> None:
        store, looks = RedisStore("u", server.url, timeout=5, incarnation="me"), list[float]()
        task = asyncio.create_task(store.listen(lambda: looks.append(time.monotonic())))
        await until(lambda: looks)
        line = b'PUBLISH %s "look another"\r\n' % Keys("u").look.encode()
        async with longest_wait() as waited:
            began = time.monotonic()
            await asyncio.to_thread(send, server, line * PUSHES)
            server.command("PUBLISH", Keys("u").look, "look last")
            await asyncio.sleep(1)
        most = (time.monotonic() - began) / 0.05 + 3
        task.cancel()
        await store.close()
        assert 2 <= len(looks) <= most
        assert waited[0] < 0.5

    hear()


def test_a_long_list_of_units_is_read_once(server: Server) -> None:
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
        async with longest_wait() as waited:
            took = [await timed(registry) for _ in range(4)]
        await registry.close()
        assert min(took[1:]) < took[0] / 3, took
        assert waited[0] < 0.5

    read()


async def timed(registry: Registry) -> float:
    began = time.monotonic()
    assert len((await registry.read()).units) <= 10_000
    return time.monotonic() - began


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
    assert Target(path, None).put("new")
    assert not path.is_symlink()
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o644)
    assert other.read_text() == "new"


@pytest.mark.parametrize("name", ["stats", "users", "unit-chat", "-x"])
def test_a_service_of_any_name_breaks_no_configuration(tmp_path: Path, name: str) -> None:
    (tmp_path / "1.cfg").write_text(DEFAULTS + "listen stats\n    bind 127.0.0.1:2\n    stats enable\n")
    entries = [entry("a", service=name), entry("b", service="chat")]
    (tmp_path / "2.cfg").write_text(rendered("haproxy", entries, None))
    argv = ["haproxy", "-c", "-f", str(tmp_path / "1.cfg"), "-f", str(tmp_path / "2.cfg")]
    said = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert said.returncode == 0, said.stderr
