"""A pause of restarts: what runs goes on, nothing starts, and it ends by itself or by an operator's word."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.core.unit import Unit
from unitagent.core import probe_answers
from unitagent.core.config import Mode, Restart
from unitagent.core.exits import ExitCode
from unitagent.core.model import Order, OrderKind, RestartPause
from unitagent.core.restart_pause import find_newest, is_paused, seconds_left
from unitagent.core.state import State
from unitagent.core.status import build_status
from unitagent.core.summary import summarize

CALM: dict[str, Any] = {"backoff": (0.0,)}


def guarded(size: int = 3, **rules: Any) -> Unit:
    return Unit(size, guard=True, **{**CALM, **rules}).formed()


def spawns(unit: Unit) -> list[str]:
    return [did for did in unit.take() if "spawn" in did]


def paused(unit: Unit) -> set[int]:
    return {rank for rank, state in unit.agents.items() if is_paused(replace(state, now=unit.now))}


def readyz(state: State) -> str:
    return "; ".join(check.reason for check in probe_answers.answer_readyz(state).checks if not check.ok)


def test_what_runs_goes_on_and_the_pause_is_said() -> None:
    unit = guarded()
    unit.pause(60)
    assert (unit.ready(), unit.take()) == ({0, 1, 2}, [])
    status = build_status(unit.agents[1])
    assert status["pause"]["reason"] == "work on the machine"
    summary = summarize(status, unit.now)
    assert summary["severity"] == "busy"
    assert (
        "; restarts are paused for 58 s more, asked by an operator: work on the machine" in summary["message"]
    )
    assert [one for one in unit.said if "restarts are paused for" in one] != []
    unit.wait(60)
    assert (unit.ready(), paused(unit), build_status(unit.agents[1])["pause"]) == ({0, 1, 2}, set(), None)
    assert [one for one in unit.said if "the pause of restarts is over" in one] != []


def test_a_failure_is_recorded_once_and_the_restart_comes_when_the_pause_ends() -> None:
    unit = guarded()
    unit.pause(60)
    unit.crash(1)
    unit.wait(30)
    assert [did for did in unit.take() if "stop" in did] == ["1 stop 5", "0 stop 5", "2 stop 5"]
    assert (unit.ready(), unit.generations()) == (set(), {2})
    for state in unit.agents.values():
        status = build_status(state)
        assert (status["phase"], status["failure"]["rank"]) == ("restarting", 1)
        assert 20 < status["budget"]["next_restart_seconds"] < 30
        message = summarize(status, unit.now)["message"]
        assert message.startswith(
            "stopped for 30 s: restarts are paused for 28 s more, asked by an operator: work"
        )
        assert message.endswith("; `unitagent resume` starts it")
        assert "idle; restarts are paused for 28 s more, asked by an operator" in readyz(state)
    unit.wait(25)
    assert spawns(unit) == []
    unit.wait(6)
    assert sorted(spawns(unit)) == ["0 spawn 2", "1 spawn 2", "2 spawn 2"]
    assert unit.ready() == {0, 1, 2}
    assert {len(state.me.charges) for state in unit.agents.values()} == {1}


def test_a_resume_starts_the_unit_at_once() -> None:
    unit = guarded()
    unit.pause(600)
    unit.crash(1)
    unit.wait(10)
    assert spawns(unit) == []
    unit.order(OrderKind.RESUME)
    unit.wait(2)
    assert sorted(spawns(unit)) == ["0 spawn 2", "1 spawn 2", "2 spawn 2"]
    assert [one for one in unit.said if "restarts are resumed" in one] != []


def test_the_first_start_waits_too() -> None:
    unit = Unit(2, guard=True, **CALM)
    unit.create(0)
    unit.pause(20)
    unit.create(1)
    unit.wait(15)
    assert spawns(unit) == []
    unit.wait(10)
    assert unit.ready() == {0, 1}


@pytest.mark.parametrize("forgets", ["nothing", "everything", "the order"])
def test_a_rebuilt_rank_learns_of_it_from_the_others(forgets: str) -> None:
    unit = guarded()
    unit.pause(60)
    unit.kill(2)
    if forgets == "everything":
        unit.store.wipe()
    elif forgets == "the order":
        unit.store.board.order = None
    unit.wait(9)
    unit.create(2)
    unit.wait(10)
    assert paused(unit) == {0, 1, 2}
    unit.wait(35)
    assert spawns(unit) == []
    unit.wait(8)
    assert unit.ready() == {0, 1, 2}, "the rebuilt one has not begun the pause anew"


def test_a_store_that_is_set_back_does_not_bring_an_ended_pause_back() -> None:
    unit = guarded()
    unit.pause(600)
    before = unit.store.copy()
    unit.order(OrderKind.RESUME)
    unit.wait(2)
    unit.store.restore(before)
    unit.wait(2)
    assert paused(unit) == set()
    unit.crash(1)
    unit.wait(3)
    assert unit.ready() == {0, 1, 2}


def test_who_could_not_hear_of_it_waits_for_the_others() -> None:
    unit = guarded()
    unit.cut = {2}
    unit.pause(30)
    assert paused(unit) == {0, 1}
    unit.crash(1)
    unit.wait(3)
    unit.cut = set()
    unit.wait(10)
    assert (paused(unit), spawns(unit)) == ({0, 1, 2}, [])
    unit.wait(20)
    assert unit.ready() == {0, 1, 2}


def test_another_order_in_its_place_does_not_end_it() -> None:
    unit = guarded()
    unit.pause(60)
    unit.order(OrderKind.RESTART)
    unit.wait(10)
    assert (paused(unit), spawns(unit), unit.generations()) == ({0, 1, 2}, [], {2})
    unit.wait(52)
    assert unit.ready() == {0, 1, 2}


def test_a_drain_is_carried_out_in_it() -> None:
    unit = guarded()
    unit.pause(600)
    unit.crash(1)
    unit.wait(3)
    unit.order(OrderKind.DRAIN)
    unit.wait(5)
    assert unit.codes == {0: 0, 1: 0, 2: 0}


def test_a_spent_budget_ends_the_unit_in_a_pause_as_well() -> None:
    unit = guarded(max_restarts=0)
    unit.pause(600)
    unit.crash(1)
    unit.wait(10)
    assert set(unit.codes.values()) == {int(ExitCode.BUDGET)}


def test_a_barrier_does_not_time_out_because_of_it() -> None:
    unit = guarded(barrier_timeout=5.0)
    unit.pause(60)
    unit.crash(1)
    unit.wait(62)
    assert (unit.codes, unit.ready()) == ({}, {0, 1, 2})


def test_with_recreate_the_containers_are_rebuilt_and_wait() -> None:
    unit = guarded(restart=Restart.RECREATE)
    unit.pause(40)
    unit.crash(1)
    unit.wait(5)
    assert set(unit.codes.values()) == {int(ExitCode.RECREATE)}
    unit.create(0, 1, 2)
    unit.wait(20)
    assert (paused(unit), spawns(unit)) == ({0, 1, 2}, [])
    unit.wait(15)
    assert unit.ready() == {0, 1, 2}


def test_without_guard_a_rebuilt_rank_rejoins_when_it_is_over() -> None:
    unit = Unit(3, **CALM).formed()
    unit.pause(60)
    unit.crash(2, 9)
    unit.wait(2)
    assert unit.codes == {2: 9}
    unit.create(2)
    unit.wait(20)
    assert spawns(unit) == []
    unit.wait(40)
    assert (spawns(unit), unit.ready()) == (["2 spawn 1"], {0, 1, 2})


def test_a_job_that_is_done_in_it_is_done() -> None:
    unit = guarded(mode=Mode.JOB)
    unit.pause(600)
    for rank in range(3):
        unit.crash(rank, 0)
    unit.wait(3)
    assert unit.codes == {0: 0, 1: 0, 2: 0}


@pytest.mark.parametrize(
    ("age", "left"), [(0.0, 60.0), (20.0, 40.0), (60.0, 0.0), (1e6, 60.0 - 1e6), (-3600.0, 60.0)]
)
def test_it_lasts_no_longer_than_was_ordered_whatever_the_clock_says(age: float, left: float) -> None:
    assert seconds_left(RestartPause(number=10**15, seconds=60.0), 1e9 + age) == pytest.approx(left)
    assert seconds_left(RestartPause(number=10**15), 1e9 + age) == 0


def test_the_newest_counts_and_the_text_fits_a_record() -> None:
    unit = guarded()
    records = [replace(state.me, pause=RestartPause(number=rank)) for rank, state in unit.agents.items()]
    newest = find_newest(records, None, unit.now)
    assert newest is not None
    assert newest.number == 2
    wish = Order(kind=OrderKind.PAUSE, generation=1, number=9, seconds=5, reason="x\x1b\udcff" * 1000, by="é")
    newest = find_newest(records, wish, unit.now)
    assert newest is not None
    assert (newest.number, newest.by, len(newest.reason)) == (9, "é", 200)
    assert newest.reason.isprintable()
    assert find_newest(records, replace(wish, kind=OrderKind.DRAIN), unit.now) == records[2].pause


@pytest.mark.parametrize("where", ["record", "order"])
def test_a_pause_that_no_clock_can_have_dated_is_ignored(where: str) -> None:
    unit = guarded()
    board, forged = unit.store.board, 2**53 - 1
    if where == "record":
        board.records[2] = replace(board.records[2], pause=RestartPause(number=forged, seconds=1e4))
    else:
        board.order = Order(kind=OrderKind.PAUSE, generation=1, number=forged, seconds=1e4)
    unit.wait(3)
    assert paused(unit) == set()
    unit.pause(60)
    assert paused(unit) == {0, 1, 2}
