"""A failure anywhere restarts all, once, and nothing of the old generation lives when the new one starts."""

from __future__ import annotations

import contextlib
import json
import os
import signal

import pytest

from tests.network.conftest import MakeLab
from tests.network.lab import Lab
from tests.network.measuring import measure
from tests.waiting import throughout


@pytest.mark.parametrize("size", [3, 8])
def test_a_killed_workload_restarts_all(make_lab: MakeLab, size: int) -> None:
    lab = make_lab(size)
    lab.form()
    done = measure(lab, "workload killed", 1, lambda: lab.strike(1))
    assert done.generations == 1
    old = [life for life in lab.watcher.lives() if life.generation == 1]
    assert {life.rank for life in old} == set(range(size))
    assert all(life.died is not None for life in old)
    for host in range(size):
        failure = lab.agents[host].status()["failure"]
        assert (failure["generation"], failure["rank"], failure["reason"], failure["signal"]) == (
            1,
            1,
            "signal",
            9,
        )


def test_a_workload_that_will_not_go_is_gone_before_the_next_starts(lab: Lab) -> None:
    """It ignores SIGTERM, and so does the daemon that it leaves in a session of its own."""
    lab.form("only=1", "ignores-term", "daemon", "shm", UNIT_RESTART_GRACE_SECONDS=0.5)
    lab.until(lambda: lab.events("daemon"), "the daemon is there")
    measure(lab, "workload killed, another ignores SIGTERM", 2, lambda: lab.strike(2))
    first = min(life.born for life in lab.watcher.lives() if life.generation == 2)
    daemons = [life for life in lab.watcher.lives() if life.generation == 1 and life.rank == 1]
    assert len(daemons) == 3
    assert all(not life.outlives(first) for life in daemons)


@pytest.mark.parametrize("code", [0, 3])
def test_an_exit_that_nobody_asked_for(lab: Lab, code: int) -> None:
    leave = lab.folder / "leave"
    lab.form("only=2", f"takes={leave}", f"exits={code}")
    measure(lab, f"workload exits {code}", 2, leave.touch)
    failure = lab.agents[0].status()["failure"]
    assert (failure["rank"], failure["reason"], failure["exit_code"]) == (2, "exit", code)


def test_all_fail_at_once(lab: Lab) -> None:
    generation = lab.form()["generation"]
    for pid in [lab.main(rank, generation).pid for rank in range(3)]:
        with contextlib.suppress(ProcessLookupError):  # the restart has begun and reached it first
            os.kill(pid, signal.SIGKILL)
    lab.wait_ready(above=generation)
    lab.until(lambda: lab.generations() == [1, 2], "the second start is on record")
    throughout(lambda: lab.generations() == [1, 2], "more than one restart", 1.5, pause=0.3)


def test_the_agent_dies_with_its_container(lab: Lab) -> None:
    lab.form()

    def rebuild() -> None:
        lab.agents[1].code()
        lab.start(1)

    assert measure(lab, "container killed and rebuilt", 1, lab.agents[1].kill, mend=rebuild).generations <= 2


def test_the_budget_is_spent(lab: Lab) -> None:
    quick = {"UNIT_MAX_RESTARTS": 2, "UNIT_BACKOFF_SECONDS": "0"}
    lab.start_all("only=1", "after=0.1", "exits=5", **quick)
    assert lab.codes() == [70, 70, 70]
    assert any(lab.agents[host].said("UNIT_MAX_RESTARTS=2") for host in range(3))
    assert all(lab.agents[host].said("exit 70", "exhausted", "exited with code 5") for host in range(3))
    assert lab.generations() == [1, 2, 3]
    seen = json.loads(lab.told("status", "--unit", "lab", "--json"))
    failure = seen["failure"]
    assert (seen["phase"], failure["rank"], failure["reason"]) == ("failed", 1, "exit")
    lab.start_all(**quick)  # rebuilt, with a fresh budget, which is 2 again and not what was left of the old
    generation = lab.wait_ready(above=3)["generation"]
    for rank in (0, 2):
        lab.strike(rank)
        generation = lab.wait_ready(above=generation)["generation"]
    lab.strike(1)
    assert lab.codes() == [70, 70, 70]


@pytest.mark.slow
def test_restarts_are_paused_between_and_forgotten_after_the_window(lab: Lab) -> None:
    """Two restarts are allowed within 4 s, and no third one here comes so soon after the first."""
    window = {"UNIT_MAX_RESTARTS": 2, "UNIT_RESTART_WINDOW_SECONDS": 4, "UNIT_BACKOFF_SECONDS": "0,1"}
    generation = lab.form(**window)["generation"]
    pauses: list[float] = []
    for rank in (0, 1, 2, 0, 1):
        old = lab.main(rank, generation)
        lab.strike(rank)
        generation = lab.wait_ready(above=generation)["generation"]
        first = min(life.born for life in lab.watcher.lives() if life.generation == generation)
        assert old.died is not None
        pauses.append(first - old.died)
        throughout(lambda: lab.is_ready(0), "not at rest", 1.5)
    assert pauses[0] < 1 <= pauses[1]
    assert generation == 6


def test_the_platform_rebuilds(lab: Lab) -> None:
    generation = lab.form(UNIT_RESTART="recreate")["generation"]
    lab.strike(1)
    assert lab.codes() == [75, 75, 75]
    lab.start_all(UNIT_RESTART="recreate")
    lab.wait_ready(above=generation)


def test_without_guard_a_rebuilt_follower_touches_nobody(lab: Lab) -> None:
    generation = lab.form(UNIT_GUARD="false")["generation"]
    untouched = {lab.main(rank, generation).pid for rank in (0, 2)}
    lab.strike(1)
    assert lab.agents[1].code() == 128 + signal.SIGKILL
    lab.start(1, UNIT_GUARD="false")
    lab.until(lambda: len(lab.events("begin", rank=1)) == 2, "rank 1 started again")
    lab.wait_ready()
    assert lab.generations() == [generation]
    assert {lab.main(rank, generation).pid for rank in (0, 2)} == untouched
    first, second = lab.events("begin", rank=1)
    for name in ("MASTER_ADDRESS", "MASTER_PORT", "UNIT_RANK_IPS", "UNIT_GENERATION"):
        assert first["env"][name] == second["env"][name]


def test_without_guard_a_rebuilt_leader_restarts_all(lab: Lab) -> None:
    generation = lab.form(UNIT_GUARD="false")["generation"]
    lab.agents[0].kill()
    lab.agents[0].code()
    lab.start(0, UNIT_GUARD="false")
    assert lab.codes([1, 2]) == [75, 75]
    for host in (1, 2):
        lab.start(host, UNIT_GUARD="false")
    lab.wait_ready(above=generation)
