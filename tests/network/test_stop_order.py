"""Asked to stop: rank 0's workload ends first, the others are held until then, and nothing is left behind."""

from __future__ import annotations

import math
import os
import signal
import time

import pytest

from tests.network.lab import Lab
from tests.waiting import throughout

QUICK = {"UNIT_DEREGISTER_SECONDS": 0.2, "UNIT_DRAIN_SECONDS": 1}


def ended_first(lab: Lab, generation: int) -> None:
    """Hold that rank 0's workload was gone before any other was asked to stop."""
    leader = next(
        life for life in lab.watcher.lives() if life.main and (life.rank, life.generation) == (0, generation)
    )
    asked = [note for note in lab.events("term", generation=generation) if note["rank"] != 0]
    assert len(asked) == lab.size - 1
    assert leader.died is not None
    assert all(note["at"] >= leader.died for note in asked)


def ask_all(lab: Lab) -> None:
    """SIGTERM to all agents, in the same millisecond."""
    pids = [lab.agents[host].pid for host in range(lab.size)]
    for pid in pids:
        os.kill(pid, signal.SIGTERM)


@pytest.mark.parametrize("mode", ["service", "job"])
def test_all_are_asked_at_once(lab: Lab, mode: str) -> None:
    generation = lab.form("only=0", "lingers=1", **QUICK, UNIT_MODE=mode)["generation"]
    ask_all(lab)
    assert lab.codes() == [0, 0, 0]
    ended_first(lab, generation)
    assert not lab.watcher.alive()


GRACE, LATE = 6.0, 1.0


def test_all_are_gone_within_the_grace_whatever_they_do(lab: Lab) -> None:
    """No workload listens to SIGTERM; rank 0's is killed first, and still the others' turn comes in time."""
    generation = lab.form("ignores-term", **QUICK, UNIT_STOP_GRACE_SECONDS=GRACE)["generation"]
    began = time.monotonic()
    ask_all(lab)
    assert lab.codes() == [0, 0, 0]
    lives = [life for life in lab.watcher.lives() if life.main and life.generation == generation]
    ends = {life.rank: life.died or 0.0 for life in lives}
    assert ends[0] == min(ends.values())
    assert max(ends.values()) - began < GRACE + LATE


@pytest.mark.slow
def test_all_are_asked_while_the_store_is_away(lab: Lab) -> None:
    generation = lab.form("only=0", "lingers=1", **QUICK, UNIT_STOP_GRACE_SECONDS=GRACE)["generation"]
    lab.store.stop()
    lab.until(
        lambda: not any(lab.agents[host].status()["store"]["connected"] for host in range(3)),
        "the outage is noticed",
    )
    began = time.monotonic()
    ask_all(lab)
    assert lab.codes() == [0, 0, 0]
    ended_first(lab, generation)
    lives = [life for life in lab.watcher.lives() if life.main and life.generation == generation]
    assert max(life.died or 0.0 for life in lives) - began < GRACE + LATE
    assert not lab.watcher.alive()


def test_one_of_a_job_is_asked(lab: Lab) -> None:
    """A job that was stopped is not done: the others wait for the replacement and start again with it."""
    generation = lab.form(**QUICK, UNIT_MODE="job")["generation"]
    lab.agents[1].signal(signal.SIGTERM)
    assert lab.codes([1]) == [0]
    ended_first(lab, generation)
    lab.start(1, UNIT_MODE="job")
    lab.wait_ready(above=generation)
    assert all(lab.agents[host].running for host in range(3))


def test_one_is_asked_and_its_replacement_forms_the_unit_again(lab: Lab) -> None:
    generation = lab.form("only=0", "lingers=0.5", **QUICK)["generation"]
    lab.agents[1].signal(signal.SIGTERM)
    assert lab.codes([1]) == [0]
    ended_first(lab, generation)
    others = (0, 2)
    lab.until(
        lambda: all(lab.agents[host].status()["instances"][host]["state"] == "idle" for host in others),
        "the others stand at the next barrier",
    )
    throughout(lambda: lab.generations() == [generation], "started without rank 1", 0.5)
    lab.start(1)
    lab.wait_ready(above=generation)


def test_the_leader_is_asked(lab: Lab) -> None:
    generation = lab.form(**QUICK, UNIT_GUARD="false")["generation"]
    lab.agents[0].signal(signal.SIGTERM)
    assert lab.codes([0]) == [0]
    ended_first(lab, generation)
    lab.start(0, UNIT_GUARD="false")
    lab.wait_ready(above=generation)
    assert all(lab.agents[host].running for host in (1, 2))


def test_without_guard_a_follower_goes_alone(lab: Lab) -> None:
    generation = lab.form(**QUICK, UNIT_GUARD="false")["generation"]
    lab.agents[2].signal(signal.SIGTERM)
    assert lab.codes([2]) == [0]
    assert {life.rank for life in lab.watcher.alive()} == {0, 1}
    assert not lab.events("term", rank=0)
    lab.start(2, UNIT_GUARD="false")
    lab.wait_ready()
    assert lab.generations() == [generation]


def test_without_guard_followers_are_held_when_all_go(lab: Lab) -> None:
    generation = lab.form("only=0", "lingers=1", **QUICK, UNIT_GUARD="false")["generation"]
    for host in (2, 1, 0):
        lab.agents[host].signal(signal.SIGTERM)
    assert lab.codes() == [0, 0, 0]
    ended_first(lab, generation)


def test_traffic_is_turned_away_first(lab: Lab) -> None:
    lab.form("only=0", "lingers=1", UNIT_DEREGISTER_SECONDS=1)
    assert lab.agents[0].get("/traffic")[0] == 200
    lab.agents[0].signal(signal.SIGTERM)
    lab.until(lambda: lab.agents[0].get("/traffic")[0] == 404, "traffic is turned away")
    assert not lab.events("term", rank=0)
    assert lab.codes([0]) == [0]


def test_a_second_signal_stops_at_once(lab: Lab) -> None:
    """Nobody listens to SIGTERM and the grace is long, so whatever ends soon ends by the second signal."""
    lab.form("ignores-term", UNIT_STOP_GRACE_SECONDS=100)
    ask_all(lab)
    time.sleep(1.1)  # a second signal within a second is the first one, delivered twice
    assert not any(life.died for life in lab.watcher.lives())
    second = time.monotonic()
    ask_all(lab)
    assert lab.codes() == [0, 0, 0]
    assert max(life.died or math.inf for life in lab.watcher.lives()) < second + 5
