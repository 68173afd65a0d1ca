"""What each part of a start costs to import, in the order in which an agent comes to it: CPU and memory.

    scripts/bench/imports.py [PYTHON]     # one that has the agent installed; by default this one

Each row is what it adds to the rows above it, of the cheapest of some runs: another load on the machine only
adds. The last rows are what a start does without: what comes with the first connection to the probe address,
with the first /metrics, with the first health check of a workload, with the first sample of its processes,
and packages as a whole, of which we use
parts.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Sequence

TURNS = 15
PARTS = {
    "Python": "pass",
    "the command line": "import unitagent.cli",
    "settings, log": "import unitagent.settings.cli_options, unitagent.settings.resolution; "
    "import unitagent.system.log",
    "asyncio": "import asyncio",
    "the start, and the core": "import unitagent.agent.startup",
    "pyroute2 (its messages)": "from unitagent.discovery.netlink import read_interfaces; read_interfaces()",
    "msgspec": "import msgspec",
    "redis, hiredis (connections)": "import unitagent.store.connection",
    "the rest of the agent": "import unitagent.agent.instance",
}
LATER = {
    "h11": "import unitagent.probes.connections",
    "prometheus_client": "import prometheus_client",
    "requests": "import unitagent.probes.http_blocking",
    "psutil": "import psutil",
    "redis, whole": "import redis.asyncio; redis.Redis, redis.asyncio.Redis",
    "pyroute2, whole": "import pyroute2; pyroute2.IPRoute",
}
# The memory is that of Linux; a package that is frozen or compiled anew would be measured as something else.
TELL = "; print(next(line.split()[1] for line in open('/proc/self/smaps_rollup') if line.startswith('Pss:')))"

Cost = tuple[float, float]  # ms of CPU, MB


def measure(python: str, statements: Sequence[str]) -> Cost:
    before = _cpu()
    argv = [python, "-I", "-c", "import gc; gc.disable()\n" + "\n".join(statements) + TELL]
    told = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    return (_cpu() - before) * 1000, int(told) * 1024 / 1e6


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(python: str) -> None:
    rows = {name: list(PARTS.values())[: place + 1] for place, name in enumerate(PARTS)}
    rows |= {name: [*PARTS.values(), statement] for name, statement in LATER.items()}
    found: dict[str, list[Cost]] = {name: [] for name in rows}
    for _ in range(TURNS):
        for name, statements in rows.items():
            found[name].append(measure(python, statements))
    before = whole = (0.0, 0.0)
    for name, costs in found.items():
        cpu, memory = map(min, zip(*costs, strict=True))
        if name in LATER:
            before = whole
        else:
            whole = cpu, memory
        print(f"{name:30} {cpu - before[0]:6.1f} ms of CPU {memory - before[1]:6.1f} MB")
        before = cpu, memory
    print(f"{'a start':30} {whole[0]:6.1f} ms of CPU {whole[1]:6.1f} MB")


main(*(sys.argv[1:] or [sys.executable]))
