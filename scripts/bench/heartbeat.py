"""What a heartbeat costs the store, by the size of the Unit: bytes that the server sends, and its CPU.

A Unit of N stands in a real redis-server, all records of it; one instance's real store then sends heartbeats
that have nothing to say, one after the other, asking for the beats that an agent of that size reads.
"""

from __future__ import annotations

import asyncio
import sys

import figures
import instances
import redis_server
from msgspec.structs import replace

from tests.servers import Server
from unitagent.core.actions import Exchange
from unitagent.core.leases import find_neighbours
from unitagent.core.members import ALL_BEATS
from unitagent.core.model import Record
from unitagent.store.redis_store import RedisStore

COLUMNS = {"sent": "B a heartbeat", "server's CPU": "us a heartbeat"}


def main() -> int:
    options = figures.parser(__doc__)
    options.add_argument(
        "--sizes", type=int, nargs="+", help="N (default 1 2 8 32 128 512 1024; --quick: 2 64)"
    )
    options.add_argument("--beats", type=int, help="a sample (default 2000; --quick: 200)")
    chosen = options.parse_args()
    instances.raise_limits()
    table = figures.Table(
        "What a heartbeat costs the store", "instances", COLUMNS, "One client, one at a time."
    )
    for size in chosen.sizes or ([2, 64] if chosen.quick else [1, 2, 8, 32, 128, 512, 1024]):
        figures.progress(f"heartbeats in a Unit of {size}")
        with redis_server.running() as server:
            beats = chosen.beats or (200 if chosen.quick else 2000)
            asyncio.run(_measure(table, size, server, beats, samples=2 if chosen.quick else 5))
    figures.publish(chosen, heartbeat=table)
    return 0


async def _measure(table: figures.Table, size: int, server: Server, beats: int, samples: int) -> None:
    idle = redis_server.idle_cpu(server.pid)
    for rank in reversed(range(size)):
        store, request = member(server.url, "u", rank, size)
        await store.exchange(request)
        if rank:
            await store.close()
    await store.exchange(request)
    for _ in range(samples):
        load = redis_server.Load(server.pid, idle)
        for _ in range(beats):
            await store.exchange(request)
        table.add(size, "sent", load.sent / beats)
        table.add(size, "server's CPU", load.cpu / beats * 1e6)
    await store.close()


def member(url: str, unit: str, rank: int, size: int) -> tuple[RedisStore, Exchange]:
    """The store of one instance, and its heartbeat."""
    incarnation, ip = f"{rank:032x}", f"10.0.{rank // 250}.{rank % 250 + 1}"
    record = Record(rank=rank, incarnation=incarnation, size=size, ip=ip, port=9470, generation=1)
    store = RedisStore(unit, url, timeout=5, rank=rank, incarnation=incarnation, size=size, refresh=3600)
    judge = range(size) if size <= ALL_BEATS else find_neighbours(rank, size)
    beat = Exchange(
        record=replace(record, hostname=f"chat-{rank}"),
        take="", seen=0, generation=1, failure=None, judge=tuple(judge), notify=False,
    )  # fmt: skip
    return store, beat


if __name__ == "__main__":
    sys.exit(main())
