"""A frozen step counter with requests running is a stall; a moving one, or an idle engine, is none."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from tests.probes.agents import HOST, saying
from tests.probes.loops import in_loop
from unitagent.probes.health import EngineGauges, StallProbe

SECONDS = 0.3


def text(running: int, steps: int) -> bytes:
    return f"""HTTP/1.1 200 OK\r
\r
# TYPE running gauge
running {running}
# TYPE steps histogram
steps_bucket{{le="+Inf"}} {steps}
steps_sum 1
steps_count {steps}
""".encode()


async def stalls(answer: bytes | Callable[[], bytes], within: float) -> list[str]:
    """What the probe says of an engine that gives this answer."""
    said: list[str] = []
    told = asyncio.Event()

    def on_stall(why: str) -> None:
        said.append(why)
        told.set()

    async with saying(answer) as port:
        probe = StallProbe(
            EngineGauges(f"http://{HOST}:{port}/metrics", ("running",), "steps_count"), SECONDS, on_stall
        )
        probe.start()
        await asyncio.wait([asyncio.create_task(told.wait())], timeout=within)
        probe.stop()
    return said


@in_loop
async def test_a_frozen_counter_with_requests_running_is_a_stall() -> None:
    said = await stalls(text(running=2, steps=7), within=20)
    assert len(said) == 1
    assert "UNIT_STALL_SECONDS" in said[0]


@in_loop
async def test_a_moving_counter_with_requests_running_is_none() -> None:
    steps = itertools.count()
    asked: list[int] = []

    def answer() -> bytes:
        asked.append(next(steps))
        return text(running=2, steps=asked[-1])

    assert await stalls(answer, within=5 * SECONDS) == []
    assert len(asked) > 1


@in_loop
async def test_an_idle_engine_does_not_stall() -> None:
    assert await stalls(text(running=0, steps=7), within=5 * SECONDS) == []


@in_loop
async def test_an_engine_that_cannot_be_read_says_nothing() -> None:
    assert await stalls(b"HTTP/1.1 500 Oh\r\n\r\n", within=5 * SECONDS) == []
