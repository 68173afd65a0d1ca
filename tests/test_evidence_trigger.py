"""When evidence is collected, and what of an agent's decisions is remembered."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, ClassVar, cast

import pytest
from msgspec.structs import replace

from unitagent.agent.evidence_collection import format_step
from unitagent.agent.evidence_trigger import (
    MOST_DECISIONS,
    DecisionLog,
    EvidenceTrigger,
    Moment,
    StopContext,
    choose_moment,
)
from unitagent.agent.loop import Agent
from unitagent.core.actions import Exchange, Level, Log
from unitagent.core.config import CoreConfig
from unitagent.core.events import StopRequested, Tick
from unitagent.core.exits import ExitCode
from unitagent.core.model import Failure, Reason, Record
from unitagent.core.state import State, initial_state, request_exit
from unitagent.system.log import LogContext

if TYPE_CHECKING:
    from unitagent.agent.evidence_collection import EvidenceCollection
    from unitagent.agent.loop import Components
    from unitagent.workload.lifecycle import Workload


def make_state(reason: Reason | None, *, failed: int = 1, generation: int = 3) -> State:
    """Rank 1 in generation 3, after a failure of rank ``failed``."""
    me = Record(rank=1, incarnation="b", size=2, ip="10.0.0.2", port=1, generation=3)
    config = CoreConfig(unit="u", rank=1, size=2, incarnation="b", guard=True)
    state = initial_state(config, me, 0.0)
    state = replace(state, me=me)
    if reason is None:
        return state
    failure = Failure(generation=generation, rank=failed, ip="10.0.0.2", reason=reason)
    return state.with_recovery(failure=failure)


HANGS = (Reason.STALLED, Reason.UNHEALTHY, Reason.STARTUP_TIMEOUT, Reason.REQUESTED)
CRASHES = (Reason.EXIT, Reason.SIGNAL, Reason.OOM)


@pytest.mark.parametrize("failed", [0, 1])
@pytest.mark.parametrize("reason", HANGS)
def test_a_hang_is_looked_at_by_all_ranks(reason: Reason, failed: int) -> None:
    assert choose_moment(make_state(reason, failed=failed)) is Moment.BEFORE_STOP


@pytest.mark.parametrize("reason", CRASHES)
def test_a_crash_delays_nobody(reason: Reason) -> None:
    assert choose_moment(make_state(reason, failed=1)) is Moment.LATER
    assert choose_moment(make_state(reason, failed=0)) is Moment.NEVER


@pytest.mark.parametrize("reason", [None, Reason.LOST, Reason.REPLACED])
def test_what_nobody_can_see_here_is_not_looked_for(reason: Reason | None) -> None:
    assert choose_moment(make_state(reason, failed=1)) is Moment.NEVER


def test_a_failure_of_another_generation_does_not_count() -> None:
    assert choose_moment(make_state(Reason.STALLED, generation=2)) is Moment.NEVER


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.with_workload(isolated=True),
        lambda state: request_exit(state, ExitCode.FENCED, "another one holds this rank"),
        lambda state: state.with_shutdown(force_stop=True),
        lambda state: state.with_shutdown(draining_since=1.0),
        lambda state: state.with_shutdown(requested_at=1.0),
    ],
    ids=["isolated", "fenced", "second signal", "drain", "asked to stop"],
)
@pytest.mark.parametrize("reason", [Reason.STALLED, Reason.EXIT])
def test_an_urgent_or_a_wanted_stop_waits_for_nothing(change: object, reason: Reason) -> None:
    assert callable(change)
    assert choose_moment(change(make_state(reason))) is Moment.NEVER


def test_heartbeats_are_not_decisions() -> None:
    log, state = DecisionLog(), make_state(None)
    exchange = Exchange(record=None, take="", seen=0, generation=1, failure=None, judge=(), notify=False)
    for second in range(1000):
        log.remember_step(state, Tick(float(second)), [exchange])
    assert log.list_steps() == []
    log.remember_step(state, Tick(61.5), [Log(Level.INFO, "something happened")])
    log.remember_step(state, StopRequested(62.0, 15), [])
    first, second_line = (format_step(step, 0.0) for step in log.list_steps())
    assert first.startswith("00:01:01.500 generation 3, waiting: Tick -> Log(")
    assert "something happened" in first
    assert "StopRequested(now=62.0, signal=15) -> nothing" in second_line


def test_decisions_are_bounded() -> None:
    log, state = DecisionLog(), make_state(None)
    for second in range(10 * MOST_DECISIONS):
        log.remember_step(state, StopRequested(float(second)), [])
    assert len(log.list_steps()) == MOST_DECISIONS


class FakeWorkload:
    output = SimpleNamespace(read_generation=lambda: b"last words\n")


class FakeCollection:
    """A collection that takes as long as it may, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.left: StopContext | None = None

    async def collect_alive(self, left: StopContext, seconds: float, interrupted: asyncio.Event) -> None:
        self.left = left
        if self.error is not None:
            raise self.error
        async with asyncio.timeout(seconds):
            await interrupted.wait()

    async def close(self) -> None: ...


def make_trigger(collection: FakeCollection) -> EvidenceTrigger:
    return EvidenceTrigger(1000.0, lambda: cast("EvidenceCollection", collection))


def test_an_interrupted_collection_lets_the_stop_go_on() -> None:
    async def play() -> float:
        collection = FakeCollection()
        trigger = make_trigger(collection)
        began = time.monotonic()
        asyncio.get_running_loop().call_later(0.05, trigger.interrupt_collection)
        await trigger.collect_before_stop(make_state(Reason.STALLED), cast("Workload", FakeWorkload()))
        assert collection.left is not None
        assert collection.left.output == b"last words\n"
        await trigger.close()
        return time.monotonic() - began

    assert asyncio.run(play()) < 100


def test_a_collection_that_fails_lets_the_stop_go_on(caplog: pytest.LogCaptureFixture) -> None:
    async def play() -> None:
        trigger = make_trigger(FakeCollection(OSError("no process")))
        await trigger.collect_before_stop(make_state(Reason.STALLED), cast("Workload", FakeWorkload()))
        await trigger.close()

    asyncio.run(play())
    assert "no process" in caplog.text


def test_an_agent_that_was_asked_to_stop_collects_nothing_more() -> None:
    async def play() -> None:
        collection = FakeCollection()
        trigger = make_trigger(collection)
        trigger.end_collection()
        await trigger.collect_before_stop(make_state(Reason.STALLED), cast("Workload", FakeWorkload()))
        assert collection.left is None

    asyncio.run(play())


def test_an_urgent_stop_interrupts_what_is_being_collected() -> None:
    """As when the agent finds itself isolated, or another one holds its rank, while it collects."""

    class StoppedWorkload(FakeWorkload):
        graces: ClassVar[list[float]] = []

        async def stop(self, grace: float) -> None:
            self.graces.append(grace)

        def force_stop(self) -> None: ...

    async def play() -> list[float]:
        agent = Agent(make_state(Reason.STALLED), LogContext("u", 1))
        workload = StoppedWorkload()
        parts = SimpleNamespace(evidence=make_trigger(FakeCollection()), workload=workload)
        agent._components = cast("Components", parts)
        agent._begin_stop(5.0)
        await asyncio.sleep(0.05)
        assert not workload.graces, "it collects"
        stopping = agent._stopping
        assert stopping is not None
        agent._begin_stop(0.0)
        await asyncio.wait([stopping], timeout=100)
        return workload.graces

    assert asyncio.run(play()) == [0.0]
