"""An agent that serves and waits for nobody sleeps until the clock can change something; others do not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.core.unit import STEP, Unit
from unitagent.core.decide import next_wakeup
from unitagent.core.events import HealthChecked, StopRequested, Tick

SIZE = 3


def serving(**rules: float | bool) -> Unit:
    unit = Unit(SIZE, guard=True, **rules)
    unit.create(*range(SIZE))
    unit.wait(10)
    assert unit.ready() == set(range(SIZE))
    return unit


def test_one_who_serves_sleeps_until_its_next_heartbeat() -> None:
    unit = serving()
    assert next_wakeup(unit.agents[1]) == unit.agents[1].store.next_beat
    assert unit.now < unit.agents[1].store.next_beat <= unit.now + unit.agents[1].config.heartbeat


def test_the_silence_of_a_member_wakes_it_in_time() -> None:
    unit = serving(heartbeat=2.5)
    unit.kill(2)
    rules = unit.agents[1].config
    while (wake := next_wakeup(unit.agents[1])) == unit.agents[1].store.next_beat:
        unit.wait(STEP)
    written = unit.agents[1].store.leases.by_incarnation["i3"].received_at
    assert wake in (written + rules.timing.ask_after, written + rules.lease)


def test_a_start_that_takes_too_long_wakes_it() -> None:
    unit = Unit(SIZE, guard=True, health=True, startup=0.6, max_restarts=1000)
    unit.create(*range(SIZE))
    unit.wait(STEP)
    state = unit.agents[0]
    assert next_wakeup(state) == state.workload.spawned + 0.6
    unit.tell(0, HealthChecked, True, "")
    assert next_wakeup(unit.agents[0]) == unit.agents[0].store.next_beat
    assert next_wakeup(unit.agents[1]) == unit.agents[1].store.next_beat  # nobody asks for its health


def _cut_off(unit: Unit) -> None:
    unit.cut.add(1)
    unit.wait(2)


def _stopped(unit: Unit) -> None:
    unit.slow.add(1)
    unit.tell(1, StopRequested)


def _unread(unit: Unit) -> None:
    unit.unread[1] = None
    unit.wait(2)


@pytest.mark.parametrize("happens", [_cut_off, _stopped, _unread])
def test_while_something_is_on_it_does_not_sleep(happens: Callable[[Unit], None]) -> None:
    unit = serving()
    assert next_wakeup(unit.agents[1]) is not None
    happens(unit)
    assert next_wakeup(unit.agents[1]) is None


@pytest.mark.parametrize("question", ["awaiting_answer", "disconnected"])
def test_with_a_question_open_it_does_not_sleep(question: str) -> None:
    state = serving().agents[1]
    assert next_wakeup(state.with_peers(**{question: frozenset({2})})) is None


def test_who_has_yet_to_start_does_not_sleep() -> None:
    unit = Unit(SIZE, guard=True)
    unit.create(0, 1)
    unit.tell(0, Tick)
    assert next_wakeup(unit.agents[0]) is None
