"""A Unit of 128 real agents on the cores of this machine, however few: it forms, serves for 5 minutes without
a restart, and restarts once for one crash.

With a real redis-server, at the default lease and heartbeat. A starved Unit may be slow; it must not be
restless.
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
import processes
import redis_server

CALM = 30.0  # seconds after the restart, in which another one would show
COLUMNS = {
    "forms": "s",
    "served": "s",
    "needless starts": "",
    "crash to all started": "s",
    "starts for the crash": "",
    "CPU of an agent": "% of a core",
}


def main() -> int:
    options = figures.parser(__doc__)
    options.add_argument("--size", type=int, help="N (default 128; --quick: 16)")
    options.add_argument("--seconds", type=float, help="to serve (default 300; --quick: 10)")
    chosen = options.parse_args()
    size = chosen.size or (16 if chosen.quick else 128)
    table = figures.Table(
        "A large Unit on few cores", "instances", COLUMNS,
        "One restart starts each workload once: as many starts as instances.",
    )  # fmt: skip
    with contextlib.ExitStack() as ended:
        folder = Path(ended.enter_context(tempfile.TemporaryDirectory()))
        server = ended.enter_context(redis_server.running())
        group = launchers.unitagent(size, folder / "log", server.url)
        ended.callback(group.stop)
        _measure(table, size, group, chosen.seconds or (10.0 if chosen.quick else 300.0))
    figures.publish(chosen, large_unit=table)
    return 0


def _measure(table: figures.Table, size: int, group: launchers.Group, seconds: float) -> None:
    started = group.started(size)
    table.add(size, "forms", max(start.at for start in started) - group.begun)
    figures.progress(f"{size} agents serve; watched for {seconds:g} s")
    known, cpu, begun = len(group.starts()), _cpu(group), time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - begun
    table.add(size, "served", passed)
    table.add(size, "CPU of an agent", 100 * (_cpu(group) - cpu) / passed / size)
    table.add(size, "needless starts", len(group.starts()) - known)
    at = time.time()
    os.kill(random.choice(group.started(size)).pid, signal.SIGKILL)
    table.add(size, "crash to all started", max(one.at for one in group.started(size, after=at)) - at)
    time.sleep(min(CALM, seconds))
    table.add(size, "starts for the crash", len(group.starts(after=at)))


def _cpu(group: launchers.Group) -> float:
    return sum(processes.cpu(launcher.pid) for launcher in group.launchers)


if __name__ == "__main__":
    sys.exit(main())
