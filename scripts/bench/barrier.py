"""A Unit of 1,024 through the real core and the real store: it forms, loses a rank, and forms again.

Its instances are held by a few processes, without workloads; the store is a redis-server, and then the
embedded store with its own limits. Measured from the first record to the last start, with what the server
sent, the CPU it took and the memory it came to; then from the loss of a rank, which is replaced at once, to
the last start of the next generation. On a machine of a few cores most of the time is that of a thousand
instances sharing them.
"""

from __future__ import annotations

import sys
import time

import figures
import instances
import processes
import redis_server

PROCESSES = 2
UNIT = "large"
COLUMNS = {
    "forms": "s",
    "forms again": "s",
    "sent until formed": "kB a rank",
    "sent until formed again": "kB a rank",
    "server's CPU until formed": "s",
    "server's memory, at most": "MiB",
}


def main() -> int:
    options = figures.parser(__doc__)
    options.add_argument("--sizes", type=int, nargs="+", help="N (default 128 1024; --quick: 32)")
    options.add_argument("--rounds", type=int, help="default 3; --quick: 1")
    chosen = options.parse_args()
    instances.raise_limits()
    table = figures.Table(
        "The barrier of a large Unit, in the real store", "instances, store", COLUMNS,
        f"Real core, real store, no workloads; {PROCESSES} processes hold all instances.",
    )  # fmt: skip
    for size in chosen.sizes or ([32] if chosen.quick else [128, 1024]):
        for number in range(chosen.rounds or (1 if chosen.quick else 3)):
            figures.progress(f"barrier of {size}: round {number + 1}")
            with redis_server.running() as server:
                _measure(table, f"{size}, Redis", size, server.pid, server.url)
            with redis_server.embedded() as (pid, url):
                _measure(table, f"{size}, embedded store", size, pid, url)
    figures.publish(chosen, barrier=table)
    return 0


def _measure(table: figures.Table, row: str, size: int, pid: int, url: str) -> None:
    load = redis_server.Load(pid)
    holds = [instances.Hold(url, [UNIT], size, range(part, size, PROCESSES)) for part in range(PROCESSES)]
    with instances.driving(holds) as drivers:
        generation, at = drivers.started(UNIT, 1)
        table.add(row, "forms", at - drivers.begun)
        table.add(row, "sent until formed", load.sent / size / 1000)
        table.add(row, "server's CPU until formed", load.cpu)
        time.sleep(2)
        load, begun = redis_server.Load(pid), time.time()
        drivers.order("replace", UNIT, size // 2)
        _, at = drivers.started(UNIT, generation + 1)
        table.add(row, "forms again", at - begun)
        table.add(row, "sent until formed again", load.sent / size / 1000)
        table.add(row, "server's memory, at most", processes.peak(pid))


if __name__ == "__main__":
    sys.exit(main())
