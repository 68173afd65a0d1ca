"""Serve the probe address of an instance in a Unit of so many, with nothing behind it: ``serve.py SIZE``."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Any

from tests.probes.agents import FakeAnswers, instance, status
from unitagent.core.model import InstanceState
from unitagent.probes.metrics import Gauges, Metrics
from unitagent.probes.server import ProbeServer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unitagent.probes.answers import ProcessFields


class Large(FakeAnswers):
    """Makes its answers anew each time it is asked, as an agent does."""

    size = int(sys.argv[1])
    counters = Metrics(rank=1)

    def status(self) -> dict[str, Any]:
        running = InstanceState.RUNNING.value
        instances = [
            instance(rank=rank, incarnation=f"{rank:016x}", hostname=f"machine-{rank}", state=running)
            for rank in range(self.size)
        ]
        return status(size=self.size, instances=instances)

    async def processes(self) -> Sequence[ProcessFields]:
        return [{"pid": 42, "cpu_seconds": 1.0, "memory_bytes": 1, "threads": 1, "open_files": 1}]

    def metrics(self, processes: Sequence[ProcessFields] | None) -> bytes:
        return self.counters.render_text(self.status(), time.monotonic(), Gauges(processes=processes))


async def _serve() -> None:
    print(await ProbeServer(Large()).start("0.0.0.0", 0), flush=True)
    await asyncio.Event().wait()


asyncio.run(_serve())
