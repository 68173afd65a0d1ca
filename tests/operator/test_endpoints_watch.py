"""``unitagent endpoints --watch`` as a process, while a real store is told, killed, emptied."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest

from tests.acceptance.local import UNIT, LocalUnit, unitagent
from tests.entries import entry
from tests.listening import story, until
from tests.operator.command import UNITAGENT
from tests.ports import served_port
from tests.servers import Server, running
from tests.waiting import until as in_time
from unitagent.errors import StoreError
from unitagent.store.registry import Registry


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path) as started:
        yield started


class Watch:
    """One ``unitagent endpoints --watch``."""

    def __init__(self, url: str, folder: Path, command: str = "") -> None:
        self.path, self.told, self.said = folder / "file.json", folder / "told", folder / "said"
        argv = [*UNITAGENT, "endpoints", "--lease-seconds", "2", "--watch", str(self.path)]
        argv += ["--on-change", f"echo $$ >>{self.told}; {command}"]
        environ = {"PATH": os.environ["PATH"], "UNIT_REDIS_URL": url}
        with self.said.open("wb") as said:
            self.process = subprocess.Popen(argv, env=environ, stdin=subprocess.DEVNULL, stderr=said)

    def units(self) -> list[str] | None:
        return [one["unit"] for one in json.loads(self.path.read_text())] if self.path.exists() else None

    def changes(self) -> int:
        return len(self.commands())

    def commands(self) -> list[int]:
        """Process ids of all that were run."""
        return [int(word) for word in self.told.read_text().split()] if self.told.exists() else []

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@pytest.fixture
def watch(server: Server, tmp_path: Path) -> Iterator[Watch]:
    made = Watch(server.url, tmp_path)
    yield made
    made.process.kill()
    made.process.wait()


@contextlib.asynccontextmanager
async def announced(server: Server) -> AsyncIterator[None]:
    """A Unit with a lease of two seconds, for the time of a block; then its machine is gone."""

    async def again() -> None:
        registry = Registry(server.url, timeout=1)
        while True:
            with contextlib.suppress(StoreError):
                await registry.announce_endpoint(entry(lease=2.0))
            await asyncio.sleep(0.2)

    task = asyncio.create_task(again())
    try:
        yield
    finally:
        task.cancel()


@story
async def test_the_last_file_outlives_the_store_and_not_the_unit(server: Server, watch: Watch) -> None:
    async with announced(server):
        await until(lambda: watch.units() == ["u"])
        former = watch.path.stat().st_ino
        server.kill()
        await until(lambda: "file.json stays unchanged" in watch.said.read_text())
        server.start()  # empty
        await until(lambda: "the store answers again" in watch.said.read_text())
        server.command("FLUSHALL")
        await asyncio.sleep(0.5)  # some looks at the store, whatever they find
        assert watch.path.stat().st_ino == former
    await until(lambda: watch.units() == [])
    await until(lambda: watch.changes() == 2)
    assert watch.stop() == 0


@story
async def test_a_command_that_hangs_holds_nothing_up_and_is_not_left_behind(
    server: Server, tmp_path: Path
) -> None:
    watch = Watch(server.url, tmp_path, "sleep 1000")
    try:
        async with announced(server):
            await until(lambda: watch.units() == ["u"])
            await until(lambda: len(watch.commands()) == 1)
        await until(lambda: watch.units() == [])
        (group,) = watch.commands()  # the second has to wait for its turn
        assert members(group)
        assert watch.stop() == 0
        await until(lambda: not members(group))
    finally:
        watch.process.kill()
        watch.process.wait()


def members(group: int) -> list[str]:
    """Who runs in a group of processes."""
    found = ((one, one.info["status"]) for one in psutil.process_iter(["status"]))
    return [str(one) for one, status in found if status != psutil.STATUS_ZOMBIE and _group(one.pid) == group]


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


@story
async def test_a_store_without_units_is_believed_after_a_lease(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.json").write_text("of a former life")
    watch = Watch(server.url, tmp_path)
    await until(lambda: watch.path.read_text() == "[]\n")
    assert watch.stop() == 0


def test_a_unit_says_where_its_traffic_goes(tmp_path: Path) -> None:
    port = served_port()
    unit = LocalUnit(tmp_path, "--traffic-port", str(port), "--service", "chat")
    try:
        unit.ready()
        words = ("endpoints", "--http-address", unit.address(0))
        seen = in_time(lambda: json.loads(unitagent(*words).stdout or "[]"), "it is announced")
        expected = {"unit": UNIT, "service": "chat", "address": "127.0.0.1", "port": port}
        assert [{name: one[name] for name in expected} for one in seen] == [expected]
        assert json.loads(unitagent(*words, "--service", "other").stdout) == []
    finally:
        unit.close()
