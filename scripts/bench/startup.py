"""How long agents take from their start to their workload's end, in a Unit of one, compared.

    scripts/bench/startup.py .venv/bin/unitagent /opt/unitagent/unitagent

The programs take turns, so that a busy moment of the machine meets all of them.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

TURNS = 15
CARD = ["--comm-ifname", "lo", "--http-address", "127.0.0.1:19470", "--log-level", "error"]
JOB = ["run", "--unit", "startup", "--size", "1", "--rank", "0", "--mode", "job", *CARD, "--", "true"]


def seconds(argv: Sequence[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def main(programs: Sequence[str]) -> None:
    for words, what in ((["--version"], "to print its version"), (JOB, "for a job, embedded store and all")):
        taken: dict[str, list[float]] = {program: [] for program in programs}
        for _ in range(TURNS):
            for program in programs:
                taken[program].append(seconds([program, *words]))
        for program, each in taken.items():
            print(f"{statistics.median(each) * 1000:6.0f} ms  {program}  {what} (median of {TURNS})")


main(sys.argv[1:])
