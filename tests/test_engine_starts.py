"""How an instance follows the starts of its engine: what it shows, and what rank 0 reports of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from tests.core.unit import Unit
from tests.frameworks_table.places import place, plan
from tests.listening import story, until
from tests.records import moment
from unitagent.agent.background_tasks import BackgroundTasks
from unitagent.agent.engine_starts import EngineStarts
from unitagent.core.events import HealthChecked
from unitagent.core.history import EventKind, HistoryEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from unitagent.core.state import State

LINES = plan("vllm", "vllm serve M", place()).phase_lines
ENGINE, INIT, LOADED, SERVES = (
    b"Initializing a V1 LLM engine (v0.32.0) with config: \n",
    b"Starting to load model m...\n",
    b"Model loading took 1.0 GiB memory and 2.000000 seconds\n",
    b"INFO:     Application startup complete.\n",
)


class Bench:
    """An instance whose clock and history belong to the test."""

    def __init__(self, rank: int = 0, stored: Sequence[HistoryEvent] = ()) -> None:
        self.unit = Unit(2, guard=True, health=True)
        self.unit.create(0, 1)
        self.unit.wait(1)
        self.unit.tell(0, HealthChecked, True, "")
        self.unit.wait(1)
        self.rank = rank
        self.now = self.unit.now
        self.stored = stored
        self.added: list[HistoryEvent] = []
        self.asked: list[int] = []
        self.listener: Callable[[bytes], None] | None = None
        self.starts = EngineStarts(self, BackgroundTasks(), self.listen, lambda: self.now)

    def listen(self, listener: Callable[[bytes], None] | None) -> None:
        self.listener = listener

    def add_event(self, event: HistoryEvent) -> None:
        self.added.append(event)

    async def read_latest(self, count: int) -> Sequence[HistoryEvent]:
        self.asked.append(count)
        return self.stored

    @property
    def state(self) -> State:
        return replace(self.unit.agents[self.rank], now=self.now)

    @property
    def status(self) -> dict[str, Any]:
        return self.starts.report_status(self.rank) or {}

    def begin(self) -> None:
        self.starts.follow_start(LINES, self.state.me.generation)

    def hear(self, line: bytes, after: float) -> None:
        self.now += after
        assert self.listener is not None
        self.listener(line)

    def load(self, weights: float) -> None:
        """A start, up to its end."""
        self.begin()
        for line, after in ((ENGINE, 5.0), (INIT, 1.0), (LOADED, weights), (SERVES, 2.0)):
            self.hear(line, after)
        self.now += 0.5

    async def start(self, weights: float) -> HistoryEvent:
        known = len(self.added)
        self.load(weights)
        self.starts.observe_step(self.state)
        await until(lambda: len(self.added) > known)
        return self.added[-1]


def unready(state: State) -> State:
    return state.with_shutdown(requested_at=1.0)


@story
async def test_a_start_is_shown_as_far_as_it_has_come_and_reported_once() -> None:
    bench = Bench()
    bench.begin()
    assert bench.status == {}
    bench.hear(ENGINE, 5.0)
    assert bench.status["message"] == "rank 0's engine starts, now in imports: imports 5.0 s"
    bench.hear(INIT, 1.0)
    bench.starts.observe_step(unready(bench.state))
    assert bench.status == {
        "generation": 1,
        "phase": "weights",
        "phases": {"imports": 5.0, "distributed_init": 1.0},
        "total": None,
        "last": None,
        "message": "rank 0's engine starts, now in weights: imports 5.0 s, distributed init 1.0 s",
    }
    bench.hear(LOADED, 2.0)
    bench.hear(SERVES, 2.0)
    assert (bench.status["phase"], bench.status["total"]) == ("other", None)
    assert bench.status["message"].startswith("rank 0's engine starts, its server has started: imports 5.0 s")
    bench.now += 0.5
    for _ in range(3):
        bench.starts.observe_step(bench.state)
    await until(lambda: bool(bench.added))
    told = "imports 5.0 s, distributed init 1.0 s, weights 2.0 s, server 2.0 s, the rest 0.5 s"
    assert (bench.status["phase"], bench.status["total"]) == (None, 10.5)
    assert bench.status["message"] == f"rank 0's engine started in 10.5 s: {told}"
    (event,) = bench.added
    assert (event.kind, event.generation, event.rank, event.state) == (EventKind.ENGINE, 1, 0, None)
    assert event.detail == f"rank 0 (10.0.0.0)'s engine started in 10.5 s: {told}"
    assert event.phases == bench.status["phases"]
    assert bench.listener is None, "nothing is read any more"


@story
async def test_a_slower_start_says_in_which_phase() -> None:
    bench = Bench()
    await bench.start(weights=2.0)
    assert (await bench.start(weights=2.5)).detail.endswith("the rest 0.5 s")
    slow = await bench.start(weights=20.0)
    assert slow.detail.endswith("; that is 17.5 s more than the last start: weights took 20.0 s, 2.5 s then")
    assert bench.status["message"].endswith("weights took 20.0 s, 2.5 s then")
    assert bench.status["last"]["weights"] == 2.5
    assert bench.asked == [120], "an earlier agent's start was sought once"


@story
async def test_the_last_start_of_an_earlier_agent_is_found_in_the_history() -> None:
    old = {"imports": 5.0, "weights": 1.0, "other": 0.5}
    stored = ({"imports": 99.0}, {**old, "a phase of another version": 7.0})
    told = [moment(kind=EventKind.ENGINE, phases=phases) for phases in stored]
    bench = Bench(stored=[*told, moment(kind=EventKind.READY), moment(kind=EventKind.ENGINE)])
    event = await bench.start(weights=9.0)
    assert "11.0 s more than the last start: weights took 9.0 s, 1.0 s then" in event.detail
    assert bench.status["last"] == old


@story
async def test_other_ranks_show_their_own_start_and_report_nothing() -> None:
    bench = Bench(rank=1)
    bench.load(weights=2.0)
    bench.starts.observe_step(bench.state)
    assert bench.status["message"].startswith("rank 1's engine started in 10.5 s: ")
    assert (bench.added, bench.asked) == ([], [])


@story
async def test_only_lines_of_the_current_generation_count() -> None:
    bench = Bench()
    bench.begin()
    bench.hear(ENGINE, 5.0)
    over = replace(bench.state, me=replace(bench.state.me, generation=2))
    bench.starts.observe_step(over)
    assert (bench.status, bench.listener) == ({}, None)
    event = await bench.start(weights=2.0)
    assert event.phases == {
        "imports": 5.0, "distributed_init": 1.0, "weights": 2.0, "server": 2.0, "other": 0.5,
    }  # fmt: skip


def test_an_engine_that_says_nothing_known_has_no_phases() -> None:
    bench = Bench()
    bench.begin()
    bench.hear(b"hello\n", 3.0)
    bench.starts.observe_step(bench.state)
    assert (bench.status, bench.added, bench.listener) == ({}, [], None)
    bench.starts.follow_start((), 1)
    assert bench.listener is None


@pytest.mark.parametrize(("line", "ended"), [(LOADED, False), (SERVES, True)])
def test_without_a_health_check_the_start_ends_with_its_last_line(line: bytes, ended: bool) -> None:
    bench = Bench()
    bench.begin()
    bench.hear(ENGINE, 5.0)
    bench.hear(line, 2.0)
    state = bench.state
    bench.starts._has_looked = True
    bench.starts.observe_step(replace(state, config=replace(state.config, health=False)))
    assert (bench.listener is None) is ended
