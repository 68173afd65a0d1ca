"""Crash of one workload to all workloads restarted: unitagent against torchrun.

N launchers of each kind stand on 127.0.0.x of this machine with the same trivial worker. In turn, one worker
of each is killed with SIGKILL, at a random moment; measured is the time from the kill to the start of the
last of the N new workers. Both launchers restart without a pause. Every round starts both anew.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import figures
import launchers

KINDS = ("unitagent", "torchrun")
CALM = 2.0  # seconds between two crashes, and up to one more: torchrun polls once a second


def main() -> int:
    options = figures.parser(__doc__)
    options.add_argument("--sizes", type=int, nargs="+", default=[2, 8], help="N (default 2 8)")
    options.add_argument("--rounds", type=int, default=3, help="fresh starts of both (default 3)")
    options.add_argument("--crashes", type=int, default=4, help="per round and launcher (default 4)")
    chosen = options.parse_args()
    launchers.require_torchrun()
    found = {size: _size(size, chosen.rounds, chosen.crashes) for size in chosen.sizes}
    figures.publish(chosen, {"restart": _document(found)}, lambda: _table(found))
    return 0


def _size(size: int, rounds: int, crashes: int) -> dict[str, list[float]]:
    samples: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for number in range(rounds):
        figures.progress(f"N={size}: round {number + 1} of {rounds}")
        with tempfile.TemporaryDirectory() as folder:
            _round(size, crashes, Path(folder), samples)
    return samples


def _round(size: int, crashes: int, folder: Path, samples: dict[str, list[float]]) -> None:
    groups: dict[str, launchers.Group] = {}
    try:
        for kind in KINDS:
            groups[kind] = launchers.LAUNCHERS[kind](size, folder / kind)
            groups[kind].started(size)
        for _ in range(crashes):
            for kind, group in groups.items():
                time.sleep(CALM + random.random())
                samples[kind].append(_crash(group, size))
                figures.progress(f"  {kind}: {samples[kind][-1]:.3f} s")
    finally:
        for group in groups.values():
            group.stop()


def _crash(group: launchers.Group, size: int) -> float:
    """Seconds from the kill of the last rank's worker to the start of the last new one."""
    victim = group.started(size)[-1]
    at = time.time()
    os.kill(victim.pid, signal.SIGKILL)
    return max(start.at for start in group.started(size, after=at)) - at


def _document(found: Mapping[int, Mapping[str, list[float]]]) -> dict[str, object]:
    return {
        f"N={size}": {kind: figures.summary(values) for kind, values in samples.items()}
        | {"ratio": _ratio(samples)}
        for size, samples in found.items()
    }


def _ratio(samples: Mapping[str, list[float]]) -> float:
    return statistics.median(samples["torchrun"]) / statistics.median(samples["unitagent"])


def _table(found: Mapping[int, Mapping[str, list[float]]]) -> str:
    rows = [
        [str(size), *(figures.shown(samples[kind]) for kind in KINDS), f"{_ratio(samples):.1f} x"]
        for size, samples in found.items()
    ]
    return figures.table(["instances", "unitagent, s", "torchrun, s", "faster"], rows)


if __name__ == "__main__":
    sys.exit(main())
