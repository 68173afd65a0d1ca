"""What an agent costs while nothing happens: CPU of a core and memory, at the default heartbeat.

N agents on 127.0.x.y of this machine with a real redis-server, a sleeping worker each; the watchdog is the
small process that each agent has at its side. Then the same with 500 other sleeping processes on the machine,
and torchrun where it is installed. CPU is counted to the nanosecond, over a time in which nothing restarts.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import figures
import launchers
import processes
import redis_server

STRANGERS = 500  # processes that are none of the agents' business
SETTLED = 5.0  # seconds after the start, and after the strangers came
COMPARED = 2  # instances
COLUMNS = {
    "agent": "% of a core",
    "watchdog": "% of a core",
    "both": "% of a core",
    f"both, {STRANGERS} other processes": "% of a core",
    "agent (PSS)": "MiB",
    "watchdog (PSS)": "MiB",
}


def main() -> int:
    options = figures.parser(__doc__)
    options.add_argument("--sizes", type=int, nargs="+", help="N (default 2 8 32; --quick: 2)")
    options.add_argument("--seconds", type=float, help="to watch (default 60; --quick: 5)")
    chosen = options.parse_args()
    seconds = chosen.seconds or (5.0 if chosen.quick else 60.0)
    table = figures.Table(
        "Idle: what an agent costs while nothing happens",
        "instances",
        COLUMNS,
        "Each cell: all N agents (or the first 8, for memory) of one Unit.",
    )
    for size in chosen.sizes or ([2] if chosen.quick else [2, 8, 32]):
        figures.progress(f"idle: {size} agents, 2 x {seconds:g} s")
        _watch_agents(size, seconds, table)
    if "torchrun" in launchers.peers():
        figures.progress(f"idle: {COMPARED} torchruns, {seconds:g} s")
        _watch_torchrun(seconds, table)
    figures.publish(chosen, idle=table)
    return 0


def _watch_agents(size: int, seconds: float, table: figures.Table) -> None:
    with redis_server.running() as server, _started(launchers.unitagent, size, server.url) as group:
        agents = [launcher.pid for launcher in group.launchers]
        watchdogs = [next(filter(processes.is_watchdog, processes.children(agent))) for agent in agents]
        own, others = _percent(agents, watchdogs, seconds=seconds)
        with _strangers():
            crowded = _percent(agents, watchdogs, seconds=seconds)
        table.add(size, "agent", *own)
        table.add(size, "watchdog", *others)
        table.add(size, "both", *map(sum, zip(own, others, strict=True)))
        table.add(size, f"both, {STRANGERS} other processes", *map(sum, zip(*crowded, strict=True)))
        table.add(size, "agent (PSS)", *map(processes.pss, agents[:8]))
        table.add(size, "watchdog (PSS)", *map(processes.pss, watchdogs[:8]))
        needless = len(group.starts()) - size
        if needless:
            raise RuntimeError(f"{needless} workers started again while nothing happened")


def _watch_torchrun(seconds: float, table: figures.Table) -> None:
    with _started(launchers.torchrun, COMPARED) as group:
        pids = [launcher.pid for launcher in group.launchers]
        (found,) = _percent(pids, seconds=seconds)
        row = f"{COMPARED}, torchrun"
        table.add(row, "both", *found)
        with _strangers():
            table.add(row, f"both, {STRANGERS} other processes", *_percent(pids, seconds=seconds)[0])
        table.add(row, "agent (PSS)", *map(processes.pss, pids))


@contextlib.contextmanager
def _started(launch: launchers.Launch, size: int, *store: str) -> Iterator[launchers.Group]:
    with tempfile.TemporaryDirectory() as folder:
        group = launch(size, Path(folder) / "log", *store)
        try:
            group.started(size)
            time.sleep(SETTLED)
            yield group
        finally:
            group.stop()


def _percent(*groups: list[int], seconds: float) -> list[list[float]]:
    """For each process of each group, how much of a core it uses."""
    before = [[processes.cpu(pid) for pid in pids] for pids in groups]
    begun = time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - begun
    return [
        [100 * (processes.cpu(pid) - cpu) / passed for pid, cpu in zip(pids, used, strict=True)]
        for pids, used in zip(groups, before, strict=True)
    ]


@contextlib.contextmanager
def _strangers() -> Iterator[None]:
    """Let many other processes sleep for the time of a block."""
    script = f"i=0; while [ $i -lt {STRANGERS} ]; do sleep 100000 & i=$((i + 1)); done; wait"
    crowd = subprocess.Popen(["sh", "-c", script], process_group=0)
    try:
        time.sleep(SETTLED)
        yield
    finally:
        os.killpg(crowd.pid, signal.SIGKILL)
        crowd.wait()


if __name__ == "__main__":
    sys.exit(main())
