"""What happens to two Units behind HAProxy while requests come in, and what became of the requests."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.local import free_port
from tests.servers import running
from tests.traffic.balancer import Balancer
from tests.traffic.client import Client, Result
from tests.traffic.units import Unit

CALM = 1.5  # seconds of plain traffic before and after
HICCUP = 1.0  # seconds without an answer of an agent
BY = ("checks", "endpoints")  # how HAProxy knows


@dataclass
class Stage:
    """Everything that runs."""

    units: list[Unit]
    balancer: Balancer


@dataclass
class Story:
    """What became of the requests of one story.

    Attributes:
        crashed: when a crash was complete, by the monotonic clock; None in a story without one.

    """

    name: str
    seconds: float
    client: Client
    crashed: float | None = None

    @property
    def excused(self) -> list[Result]:
        """Failed requests that were under way when a Unit crashed."""
        return [one for one in self.client.failed if self.crashed is not None and one.start <= self.crashed]

    @property
    def dropped(self) -> list[Result]:
        """Failed requests for which there is no excuse."""
        return [one for one in self.client.failed if one not in self.excused]


@contextlib.contextmanager
def stage(folder: Path, by: str) -> Iterator[Stage]:
    """Two Units that take traffic, and HAProxy before them."""
    with running(folder) as redis:
        units = [Unit(number, folder, redis.url, free_port(), free_port()) for number in (1, 2)]
        balancer = Balancer(folder, free_port())
        try:
            for unit in units:
                unit.start()
            for unit in units:
                unit.ready()
            if by == "checks":
                balancer.by_checks(units)
            else:
                balancer.by_endpoints(units[0].environ({}))
            asyncio.run(_reachable(balancer.port))
            yield Stage(units, balancer)
        finally:
            balancer.stop()
            for unit in units:
                unit.ask_to_stop()
            for unit in units:
                unit.stop()


async def _reachable(port: int) -> None:
    async with asyncio.timeout(30):
        client = Client(port)
        while not client.answered_by():
            await client._request(1)


def update(on: Stage) -> Story:
    """Both Units are replaced by a new revision, one after the other."""
    return asyncio.run(_told("update", on, lambda: _update(on)))


def drain(on: Stage) -> Story:
    """One Unit is drained for good by an operator."""
    return asyncio.run(_told("drain", on, lambda: _drain(on.units[0])))


def crash(on: Stage) -> Story:
    """Rank 0's workload is killed; its Unit restarts in place."""
    return asyncio.run(_told("crash", on, lambda: _crash(on.units[0])))


def loss(on: Stage) -> Story:
    """Rank 0's machine is gone, and is replaced a while later."""
    return asyncio.run(_told("loss", on, lambda: _loss(on.units[0])))


def hiccup(on: Stage) -> Story:
    """Both agents of rank 0 are slow to answer for once, as on a machine that is out of breath."""
    return asyncio.run(_told("hiccup", on, lambda: _hiccup(on)))


def _hiccup(on: Stage) -> None:
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for unit in on.units:
            unit.agents[0].send_signal(number)
        time.sleep(HICCUP)


def _update(on: Stage) -> None:
    for unit in on.units:
        unit.ask_to_stop()
        assert unit.ended() == [0, 0], unit.said
        unit.start(revision="2")
        unit.ready()
        time.sleep(CALM)


def _drain(unit: Unit) -> None:
    unit.drain()
    assert unit.ended() == [0, 0], unit.said


def _crash(unit: Unit) -> float:
    unit.kill_workload()
    crashed = time.monotonic()
    unit.ready()
    return crashed


def _loss(unit: Unit) -> float:
    unit.kill_agent()
    crashed = time.monotonic()
    time.sleep(CALM)
    unit.replace()
    unit.ready()
    return crashed


async def _told(name: str, on: Stage, happen: Callable[[], float | None]) -> Story:
    began = time.monotonic()
    async with _traffic(on.balancer.port) as client:
        await asyncio.sleep(CALM)
        crashed = await asyncio.to_thread(happen)
        await asyncio.sleep(CALM)
    return Story(name, time.monotonic() - began, client, crashed)


@contextlib.asynccontextmanager
async def _traffic(port: int) -> AsyncIterator[Client]:
    client, stop = Client(port), asyncio.Event()
    task = asyncio.create_task(client.run(stop))
    try:
        yield client
    finally:
        stop.set()
        await task
