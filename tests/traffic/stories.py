"""What happens to two Units behind HAProxy while requests come in, and what became of the requests."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.ports import free_port
from tests.servers import running
from tests.traffic.balancer import Balancer
from tests.traffic.client import Client, Result
from tests.traffic.units import Unit

CALM = 1.5  # seconds of plain traffic before and after
HICCUP = 1.0  # seconds without an answer of an agent
ASKING = {"checks": "haproxy.cfg", "agent": "haproxy-agent.cfg"}
BY = (*ASKING, "endpoints")  # how HAProxy knows


@dataclass(frozen=True)
class Crash:
    """A Unit lost rank 0's workload; times by the monotonic clock.

    Attributes:
        began: before the kill.
        ended: when nothing was left of it.

    """

    unit: str
    began: float
    ended: float

    def excuses(self, one: Result) -> bool:
        """Whether a request was under way on the Unit, or had yet to be answered by any."""
        return one.unit in ("", self.unit) and one.start <= self.ended and one.end >= self.began


@dataclass
class Stage:
    """Everything that runs."""

    units: list[Unit]
    balancer: Balancer
    by: str


@dataclass
class Story:
    """What became of the requests of one story."""

    name: str
    seconds: float
    client: Client
    crash: Crash | None = None

    @property
    def excused(self) -> list[Result]:
        """Failed requests that were on a Unit when it crashed."""
        return [one for one in self.client.failed if self.crash is not None and self.crash.excuses(one)]

    @property
    def dropped(self) -> list[Result]:
        """Failed requests for which there is no excuse."""
        return [one for one in self.client.failed if one not in self.excused]

    @property
    def numbers(self) -> str:
        counts = f"{len(self.client.results)} requests, {len(self.excused)} + {len(self.dropped)} failed"
        return f"{self.name}: {counts}, {self.seconds:.1f} s"


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
            if by in ASKING:
                balancer.by_asking(units, ASKING[by])
            else:
                balancer.by_endpoints(units[0].environ({}))
            asyncio.run(_reachable(balancer.port))
            yield Stage(units, balancer, by)
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


def _crash(unit: Unit) -> Crash:
    return _killed(unit, unit.kill_workload, lambda: None)


def _loss(unit: Unit) -> Crash:
    def replace() -> None:
        time.sleep(CALM)
        unit.replace()

    return _killed(unit, unit.kill_agent, replace)


def _killed(unit: Unit, kill: Callable[[], None], then: Callable[[], None]) -> Crash:
    began = time.monotonic()
    kill()
    crash = Crash(unit.name, began, time.monotonic())
    then()
    unit.ready()
    return crash


async def _told(name: str, on: Stage, happen: Callable[[], Crash | None]) -> Story:
    began = time.monotonic()
    async with _traffic(on.balancer.port) as client:
        await asyncio.sleep(CALM)
        crash = await asyncio.to_thread(happen)
        await asyncio.sleep(CALM)
    return Story(name, time.monotonic() - began, client, crash)


@contextlib.asynccontextmanager
async def _traffic(port: int) -> AsyncIterator[Client]:
    client, stop = Client(port), asyncio.Event()
    task = asyncio.create_task(client.run(stop))
    try:
        yield client
    finally:
        stop.set()
        await task
