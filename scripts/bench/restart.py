"""Crash of one workload to all workloads started again, against the floor and the other launchers.

N agents stand on 127.0.x.y of this machine, with a real redis-server and the same trivial worker. In turn, a
random worker is killed with SIGKILL, at a random moment, and N bare shells that wait for it are told by one
Redis publish to become the worker: the floor, for somebody has to be told and to fork. Measured is the time
from the kill, or the publish, to the start of the last worker. torchrun and ft_launcher stand beside a Unit
of 2. Nobody pauses before a restart. Every round starts all anew.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import figures
import launchers
import redis_server

from tests.servers import Server

FLOOR = str(Path(__file__).with_name("floor.sh"))
CALM = 2.0  # seconds between two crashes, and up to one more: torchrun polls once a second
COMPARED = 2  # instances; a machine of a few cores starts no more launchers that import torch


def main() -> int:
    options = figures.parser(__doc__)
    options.add_argument("--sizes", type=int, nargs="+", help="N (default 2 8 32 64; --quick: 2 8)")
    options.add_argument("--rounds", type=int, help="fresh starts of all (default 3; --quick: 1)")
    options.add_argument("--crashes", type=int, help="per round and launcher (default 5; --quick: 2)")
    chosen = options.parse_args()
    sizes = chosen.sizes or ([2, 8] if chosen.quick else [2, 8, 32, 64])
    rounds = chosen.rounds or (1 if chosen.quick else 3)
    table = _empty()
    for size in sizes:
        for number in range(rounds):
            figures.progress(f"restart, N={size}: round {number + 1} of {rounds}")
            _measure(size, chosen.crashes or (2 if chosen.quick else 5), table)
        table.add_ratio(size, "unitagent / floor", "unitagent", "floor")
    figures.publish(chosen, restart=table)
    return 0


def _empty() -> figures.Table:
    peers = dict.fromkeys(launchers.peers(), "s")
    return figures.Table(
        "Crash of one workload to the start of all new workloads",
        "instances",
        {"unitagent": "s", "floor": "s", "unitagent / floor": "x", **peers},
        "The floor: as many bare shells, told by one Redis publish to start.",
    )


def _measure(size: int, crashes: int, table: figures.Table) -> None:
    launch = launchers.peers() if size == COMPARED else {}
    with contextlib.ExitStack() as ended:
        folder = Path(ended.enter_context(tempfile.TemporaryDirectory()))
        server = ended.enter_context(redis_server.running())
        groups = {"unitagent": launchers.unitagent(size, folder / "unitagent", server.url)}
        ended.callback(groups["unitagent"].stop)
        for name, begin in launch.items():
            groups[name] = begin(size, folder / name)
            ended.callback(groups[name].stop)
        for group in groups.values():
            group.started(size)
        for number in range(crashes):
            for name, group in groups.items():
                time.sleep(CALM + random.random())
                table.add(size, name, _crash(group, size))
            table.add(size, "floor", _floor(size, server, folder / f"floor{number}"))
            figures.progress(
                f"  { ({name: round(cell[-1], 3) for name, cell in table.samples[str(size)].items()}) }"
            )


def _crash(group: launchers.Group, size: int) -> float:
    """Seconds from the kill of a worker to the start of the last new one."""
    victim = random.choice(group.started(size))
    at = time.time()
    os.kill(victim.pid, signal.SIGKILL)
    return max(start.at for start in group.started(size, after=at)) - at


def _floor(size: int, server: Server, log: Path) -> float:
    """Seconds from the publish to the start of the last worker."""
    port = str(server.port)
    shells = launchers.Group([["sh", FLOOR, port, str(log)]] * size, log, {}, bare=True)
    try:
        deadline = time.monotonic() + launchers.PATIENCE
        while not server.command("PUBSUB", "NUMSUB", "start").endswith(b":%d\r\n" % size):
            if time.monotonic() > deadline:
                raise RuntimeError(f"not all of {size} shells wait for the word")
            time.sleep(0.05)
        time.sleep(CALM)
        at = time.time()
        server.command("PUBLISH", "start", "go")
        return max(start.at for start in shells.started(size)) - at
    finally:
        shells.stop()


if __name__ == "__main__":
    sys.exit(main())
