"""A Unit of 1,024 through the real core and the real store: it forms, loses a rank, and forms again.

Its instances are held by a few processes, without workloads; the store is a redis-server, and then the
embedded store with its own limits. Measured from the first record to the last start, with what the server
sent, the CPU it took and the memory it came to; then from the loss of a rank, which is replaced at once, to
the last start of the next generation, with what each instance did meanwhile. On a machine of a few cores most
of the time is that of a thousand instances sharing them.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import figures
import instances
import processes
import redis_server

PROCESSES = 2
BEATS = 100  # a second, of all instances together, which share a few cores
FEW = 256  # instances; of a larger Unit one round has to do
UNIT = "large"
COLUMNS = {
    "forms": "s",
    "forms again": "s",
    "sent until formed": "kB a rank",
    "sent until formed again": "kB a rank",
    "exchanges until formed again": "a rank",
    "wake-ups until formed again": "a rank",
    "CPU until formed again": "ms a rank",
    "server's CPU until formed": "s",
    "server's memory, at most": "MiB",
}


def main() -> int:
    options = figures.parser(__doc__)
    options.add_argument("--sizes", type=int, nargs="+", help="N (default 128 1024; --quick: 32)")
    options.add_argument("--rounds", type=int, help="default 3, of the largest 1; --quick: 1")
    chosen = options.parse_args()
    instances.raise_limits()
    note = f"Real core and store, no workloads, {PROCESSES} processes. Heartbeat: N/{BEATS} s, at least 1."
    table = figures.Table("The barrier of a large Unit, in the real store", "instances, store", COLUMNS, note)
    for size in chosen.sizes or ([32] if chosen.quick else [128, 1024]):
        for number in range(chosen.rounds or (1 if chosen.quick or size > FEW else 3)):
            figures.progress(f"barrier of {size}: round {number + 1}")
            with redis_server.running() as server:
                _try(table, f"{size}, Redis", size, server.pid, server.url)
            with redis_server.embedded() as (pid, url):
                _try(table, f"{size}, embedded store", size, pid, url)
    figures.publish(chosen, barrier=table)
    return 0


def _try(table: figures.Table, row: str, *what: Any) -> None:
    """Measure; a Unit that does not form leaves cells empty, and is told."""
    try:
        _measure(table, row, *what)
    except RuntimeError as error:
        figures.progress(f"{row}: {error}")


def _measure(table: figures.Table, row: str, size: int, pid: int, url: str) -> None:
    load = redis_server.Load(pid)
    holds = [
        instances.Hold(url, [UNIT], size, range(part, size, PROCESSES), max(1.0, size / BEATS))
        for part in range(PROCESSES)
    ]
    with instances.driving(holds) as drivers:
        generation, at = drivers.started(UNIT, 1)
        table.add(row, "forms", at - drivers.begun)
        figures.progress(f"  {row}: forms in {at - drivers.begun:.1f} s")
        table.add(row, "sent until formed", load.sent / size / 1000)
        table.add(row, "server's CPU until formed", load.cpu)
        time.sleep(2)
        load, begun, before = redis_server.Load(pid), time.time(), drivers.counts()
        drivers.order("replace", UNIT, size // 2)
        _, at = drivers.started(UNIT, generation + 1)
        table.add(row, "forms again", at - begun)
        table.add(row, "sent until formed again", load.sent / size / 1000)
        used = drivers.counts() - before
        table.add(row, "exchanges until formed again", used["exchanges"] / size)
        table.add(row, "wake-ups until formed again", used["wake-ups"] / size)
        table.add(row, "CPU until formed again", 1000 * used["CPU"] / size)
        table.add(row, "server's memory, at most", processes.peak(pid))


if __name__ == "__main__":
    sys.exit(main())
