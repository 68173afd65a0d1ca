"""How long a fault took to be noticed and to be over, by the kernel's stamps of the workloads' processes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.network.lab import Lab

WHERE = "UNITAGENT_TIMES"  # names the file that measurements are appended to, one JSON line each


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds after the fault.

    Attributes:
        detected: the first workload of another rank ended because of it.
        recovered: the last workload of the new generation was spawned.

    """

    fault: str
    size: int
    detected: float
    recovered: float
    generations: int


def measure(
    lab: Lab, fault: str, rank: int, strike: Callable[[], object], *, mend: Callable[[], object] | None = None
) -> Measured:
    """Strike rank ``rank`` of a ready Unit, wait until the Unit is ready again, and note how long it took."""
    before = lab.wait_ready()["generation"]
    struck = time.monotonic()
    strike()
    if mend is not None:
        lab.until(lambda: _first_end(lab, before, rank, struck), f"{fault} is noticed")
        mend()
    after = lab.wait_ready(before)["generation"]
    first_end = _first_end(lab, before, rank, struck)
    assert first_end is not None
    begun = max(life.born for life in lab.watcher.lives() if life.main and life.generation == after)
    measured = Measured(fault, lab.size, first_end - struck, begun - struck, after - before)
    _keep(measured)
    return measured


def _first_end(lab: Lab, generation: int, rank: int, since: float) -> float | None:
    ends = [
        life.died
        for life in lab.watcher.lives()
        if life.main and life.generation == generation and life.rank != rank and life.died is not None
    ]
    return min((died for died in ends if died >= since), default=None)


def _keep(measured: Measured) -> None:
    if WHERE in os.environ:
        with Path(os.environ[WHERE]).open("a") as file:
            file.write(json.dumps(asdict(measured)) + "\n")
