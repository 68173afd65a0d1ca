"""An engine that has requests and makes nothing of them: alive, healthy by its own word, and stuck.

The engine's own step counter tells: with requests running it moves several times a second, and frozen for
longer than any step takes it means a collective that waits for ever. Without requests it rests, which is no
stall. What cannot be read says nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from unitagent.probes.in_flight import fetch_total

_LOOKS = 4  # within the time that counts as a stall
_LONGEST = 5.0  # seconds between two looks


@dataclass(frozen=True, slots=True)
class EngineGauges:
    """Where an engine says how it does.

    Attributes:
        url: of its Prometheus text.
        running: gauges that add up to the requests in flight.
        progress: counter that moves with every step.

    """

    url: str
    running: tuple[str, ...]
    progress: str


class StallProbe:
    """Watches one generation's engine; tells ``on_stall``, once, with one line."""

    def __init__(self, gauges: EngineGauges, seconds: float, on_stall: Callable[[str], None]) -> None:
        self._gauges = gauges
        self._seconds = seconds
        self._on_stall = on_stall
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin for a new workload."""
        self.stop()
        self._task = asyncio.create_task(self._watch_health(), name="stall")

    def stop(self) -> None:
        """Watch no more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _watch_health(self) -> None:
        loop = asyncio.get_running_loop()
        steps, moved = None, loop.time()
        while loop.time() - moved <= self._seconds:
            await asyncio.sleep(min(_LONGEST, self._seconds / _LOOKS))
            running, seen = await self._read_gauges()
            if not running or seen is None or seen != steps:
                steps, moved = seen, loop.time()
        self._on_stall(
            f"no step of the engine for {self._seconds:g} s (UNIT_STALL_SECONDS) with requests running"
        )

    async def _read_gauges(self) -> tuple[int | None, int | None]:
        running = await fetch_total(self._gauges.url, frozenset(self._gauges.running))
        return running, await fetch_total(self._gauges.url, frozenset({self._gauges.progress}))
