"""When an engine's progress is watched: compiling for a warm-up request is no stall."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.probes.agents import HOST
from tests.probes.loops import in_loop, until
from unitagent.agent.launch import Launch
from unitagent.agent.workload_health import HealthProbePlan, WorkloadMonitor
from unitagent.probes.health import EngineGauges, HealthVerdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

STALL = 0.2  # seconds


class Probe:
    """A health probe that is told what to find."""

    def __init__(self, on_verdict: Callable[[HealthVerdict], None]) -> None:
        self.tell = on_verdict

    def start(self) -> None:
        """It asks nothing."""

    stop = start


class Monitored:
    """A workload with a request in flight that makes no step."""

    def __init__(self, url: str, *, warms_up: bool) -> None:
        self.stalls: list[str] = []
        self.verdicts: list[bool] = []
        self.probes: list[Probe] = []
        self.monitor = WorkloadMonitor(
            lambda verdict: self.verdicts.append(verdict.healthy), lambda _: None, self.stalls.append, STALL
        )
        plan = HealthProbePlan(cast("Any", self.make), "", "", warms_up=warms_up)
        gauges = EngineGauges(url, ("running",), "steps")
        self.monitor.start_probes(Launch([], {}, {}, plan, None, gauges=gauges), health=True)

    def make(self, on_verdict: Callable[[HealthVerdict], None], _: object) -> Probe:
        self.probes.append(Probe(on_verdict))
        return self.probes[-1]


@asynccontextmanager
async def stuck_engine() -> AsyncIterator[tuple[str, list[bytes]]]:
    asked: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        body = b"running 1\nsteps 5\n"
        writer.write(b"HTTP/1.1 200 X\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(talk, HOST, 0) as server:
        yield f"http://{HOST}:{server.sockets[0].getsockname()[1]}/metrics", asked


@pytest.mark.parametrize("warms_up", [False, True])
@in_loop
async def test_a_stall_counts_once_the_engine_is_warm(warms_up: bool) -> None:
    async with stuck_engine() as (url, asked):
        one = Monitored(url, warms_up=warms_up)
        if warms_up:
            await asyncio.sleep(5 * STALL)
            assert (one.stalls, asked) == ([], [])
            one.probes[0].tell(HealthVerdict(healthy=True, detail="ok"))
            one.probes[0].tell(HealthVerdict(healthy=False, detail="busy", fatal=False))
            one.probes[0].tell(HealthVerdict(healthy=True, detail="ok"))
        await until(lambda: one.stalls)
        one.monitor.stop_probes()
    assert len(one.stalls) == 1
    assert one.verdicts == [True, False, True] * warms_up
