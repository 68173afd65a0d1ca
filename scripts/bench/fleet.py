"""One Redis for many Units: what 10,000 instances in Units of 8 cost it at the default heartbeat, and how
soon 100 Units that fail in the same second are back.

All Units join with the real store. Then most of them go on as replays: each instance sends its last real
heartbeat again and again on a raw connection. As agents do, it has a second connection, which is subscribed
and is asked every few seconds whether it still stands; here two instances share it. As many real clients
would need more cores than the machine has. The Units that fail are real cores with real stores. The latency
is that of one more Unit, with the real store in a process of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from typing import Any

import figures
import heartbeat
import instances
import processes
import redis_server

from tests.servers import Server
from unitagent.store.keys import KeyNames
from unitagent.store.store_connection import SILENCE

SIZE, HEARTBEAT = 8, 1.0
PROCESSES = 2
SHARED = 2  # replays that share a subscribed connection: many a machine allows 20,000 files
SAMPLED = 0.2  # seconds between two heartbeats of the Unit whose latency is measured
COLUMNS = {
    "exchanges": "/s",
    "server's CPU": "% of a core",
    "CPU of an exchange": "us",
    "latency p50": "ms",
    "latency p99": "ms",
    "server's memory": "MiB",
    "failed Units back": "s",
    "all of them": "s",
}


def main() -> int:
    options = figures.parser(__doc__)
    options.add_argument("--sizes", type=int, nargs="+", help="instances (default 1000 10000; --quick: 400)")
    options.add_argument("--failing", type=int, help="Units that fail together (default 100; --quick: 4)")
    options.add_argument("--seconds", type=float, help="of heartbeats (default 60; --quick: 5)")
    options.add_argument("--storms", type=int, help="times that they fail (default 3; --quick: 1)")
    chosen = options.parse_args()
    instances.raise_limits()
    table = figures.Table(
        f"One Redis, many Units of {SIZE}", "instances", COLUMNS,
        f"Heartbeat {HEARTBEAT:g} s. Most instances replay their real heartbeats, see --help.",
    )  # fmt: skip
    for size in chosen.sizes or ([400] if chosen.quick else [1000, 10000]):
        figures.progress(f"fleet: {size} instances")
        _measure(table, size, chosen)
    figures.publish(chosen, fleet=table)
    return 0


def _measure(table: figures.Table, size: int, chosen: Any) -> None:
    failing = min(chosen.failing or (4 if chosen.quick else 100), size // SIZE // 2)
    seconds = chosen.seconds or (5.0 if chosen.quick else 60.0)
    with redis_server.running("--protected-mode", "no", "--maxclients", "40000") as server:
        units = [f"failing{number}" for number in range(failing)]
        holds = [
            instances.Hold(server.url, units[part::PROCESSES], SIZE, range(SIZE)) for part in range(PROCESSES)
        ]
        sample = instances.Hold(server.url, ["sampled"], SIZE, range(SIZE), SAMPLED)
        with _replaying(server, size // SIZE - failing), instances.driving(holds) as real:
            for unit in units:
                real.started(unit, 1)
            with instances.driving([sample]) as sampled:
                _beat(table, size, server, sampled, seconds)
            for _ in range(chosen.storms or (1 if chosen.quick else 3)):
                _storm(table, size, real, units)


def _beat(
    table: figures.Table, size: int, server: Server, sampled: instances.Drivers, seconds: float
) -> None:
    sampled.started("sampled", 1)
    time.sleep(3)
    sampled.latencies()
    load, before = redis_server.Load(server.pid), _exchanges(server)
    time.sleep(seconds)
    passed, cpu, done = load.seconds, load.cpu, _exchanges(server) - before
    latencies = [1000 * each for each in sampled.latencies()]
    table.add(size, "exchanges", done / passed)
    table.add(size, "server's CPU", 100 * cpu / passed)
    table.add(size, "CPU of an exchange", 1e6 * cpu / done)
    table.add(size, "latency p50", figures.percentile(latencies, 50))
    table.add(size, "latency p99", figures.percentile(latencies, 99))
    table.add(size, "server's memory", processes.pss(server.pid))


def _exchanges(server: Server) -> int:
    stats = server.command("INFO", "commandstats").decode()
    return int(stats.partition("cmdstat_evalsha:calls=")[2].partition(",")[0])


def _storm(table: figures.Table, size: int, real: instances.Drivers, units: list[str]) -> None:
    """Let one instance of each Unit crash, all within a second."""
    generations = {unit: real.started(unit, 1)[0] for unit in units}
    crashed = {}
    begun = time.time()
    for number, unit in enumerate(units):
        time.sleep(max(0.0, begun + number / len(units) - time.time()))
        crashed[unit] = time.time()
        real.order("crash", unit, random.randrange(SIZE))
    back = {unit: real.started(unit, generations[unit] + 1)[1] for unit in units}
    table.add(size, "failed Units back", *(back[unit] - crashed[unit] for unit in units))
    table.add(size, "all of them", max(back.values()) - begun)
    time.sleep(5)


@contextlib.contextmanager
def _replaying(server: Server, count: int) -> Iterator[None]:
    """Replay the heartbeats of so many Units for the time of a block."""
    context = multiprocessing.get_context("fork")
    parts = [[f"idle{number}" for number in range(part, count, PROCESSES)] for part in range(PROCESSES)]
    events = [context.Event() for _ in parts]
    workers = [
        context.Process(target=_run_replay, args=(server, part, units, event), daemon=True)
        for part, (units, event) in enumerate(zip(parts, events, strict=True))
    ]
    try:
        for worker in workers:
            worker.start()
        for worker, event in zip(workers, events, strict=True):
            while not event.wait(1):
                if not worker.is_alive():
                    raise RuntimeError("a process that replays heartbeats has ended")
        figures.progress(f"  {count} Units have joined, and beat")
        yield
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


def _run_replay(*arguments: Any) -> None:
    asyncio.run(_replay(*arguments))


@dataclass(frozen=True)
class Replay:
    """What an instance sends each heartbeat, and what it subscribes to."""

    beat: bytes
    channel: str


class Tap:
    """Lies between stores and the server.

    Attributes:
        last: the last request, which may have come in pieces.

    """

    def __init__(self, server: Server) -> None:
        self._port = server.port
        self._answered = True
        self.last = b""

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of a store."""
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._port)
        answers = asyncio.create_task(self._answer(from_server, writer))
        while data := await reader.read(1 << 16):
            self.last = data if self._answered else self.last + data
            self._answered = False
            to_server.write(data)
        answers.cancel()
        to_server.close()
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            self._answered = True
            writer.write(data)


async def _join(server: Server, units: list[str]) -> list[Replay]:
    """Let Units join with real stores; what their instances then say in each heartbeat."""
    tap = Tap(server)
    relay = await asyncio.start_server(tap.accept, "127.0.0.1", 0)
    url = f"redis://127.0.0.1:{relay.sockets[0].getsockname()[1]}"
    found = []
    for unit in units:
        members = [heartbeat.member(url, unit, rank, SIZE) for rank in range(SIZE)]
        for store, request in members:
            await store.exchange(request)
        for store, request in members:
            await store.exchange(request)  # reads the others
            await store.exchange(request)
            found.append(Replay(tap.last, KeyNames(unit).wakeup_channel))
            await store.close()
    relay.close()
    return found


class Raw(asyncio.Protocol):
    """A connection that reads nothing of what it gets."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.send = transport.write

    def connection_lost(self, exc: Exception | None) -> None:
        raise SystemExit(f"the server has ended a connection of a replay: {exc}")


async def _replay(server: Server, part: int, units: list[str], beating: Event) -> None:
    """Join as these Units, and beat for ever, from an address that has ports enough."""
    replays = await _join(server, units)
    source = (f"127.0.1.{part + 1}", 0)
    loop = asyncio.get_running_loop()
    beats: list[Any] = []
    pings: list[Any] = []
    for number, replay in enumerate(replays):
        _, raw = await loop.create_connection(Raw, "127.0.0.1", server.port, local_addr=source)
        beats.append((raw.send, replay.beat))
        if number % SHARED == 0:
            _, hearing = await loop.create_connection(Raw, "127.0.0.1", server.port, local_addr=source)
            hearing.send(f"SUBSCRIBE {replay.channel}\r\n".encode())
        pings.append((hearing.send, b"PING\r\n"))
    beating.set()
    await asyncio.gather(_send_evenly(beats, HEARTBEAT), _send_evenly(pings, SILENCE))


async def _send_evenly(sends: list[Any], interval: float) -> None:
    """Send each of these once in an interval, one after the other."""
    begun, sent = time.monotonic(), 0
    while True:
        due = int((time.monotonic() - begun) * len(sends) / interval)
        for number in range(sent, due):
            send, data = sends[number % len(sends)]
            send(data)
        sent = max(sent, due)
        await asyncio.sleep(0.005)


if __name__ == "__main__":
    sys.exit(main())
