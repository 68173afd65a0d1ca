"""A failure at an awkward moment: while others start, wait, stop or drain. One restart and one cause."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from tests.network.lab import Lab
from tests.waiting import throughout

NOT_YET = "http://127.0.0.1:1/health"  # rank 0 never gets healthy: it still loads its weights
QUICK = {"UNIT_DEREGISTER_SECONDS": 0.2, "UNIT_DRAIN_SECONDS": 1}


def loading(lab: Lab, *traits: str, **env: object) -> None:
    """All have started, and the Unit is not ready."""
    lab.start_all(*traits, UNIT_HEALTH_URL=NOT_YET, UNIT_BACKOFF_SECONDS="0", **env)
    lab.begun(1)


def failures(lab: Lab) -> list[dict[str, Any]]:
    """What every rank says, once all say the same."""
    told: list[dict[str, Any]] = []

    def agreed() -> bool:
        told[:] = [lab.agents[host].status().get("failure", {}) for host in range(lab.size)]
        return all(told) and all(one == told[0] for one in told)

    lab.until(agreed, "all ranks tell the same failure")
    return told


@pytest.mark.parametrize("rank", [0, 2])
def test_while_others_load(lab: Lab, rank: int) -> None:
    loading(lab)
    lab.strike(rank)
    lab.begun(2)
    (failure, *_) = failures(lab)
    assert (failure["generation"], failure["rank"], failure["reason"]) == (1, rank, "signal")
    throughout(lambda: lab.generations() == [1, 2], "more than one restart", 1.0)


def test_a_slow_start_is_no_failure(lab: Lab) -> None:
    loading(lab, UNIT_LEASE_SECONDS=1.5, UNIT_HEARTBEAT_SECONDS=0.2)
    throughout(lambda: lab.generations() == [1] and lab.undisturbed(), "a start was taken for dead", 4.0)
    assert lab.agents[1].status()["failure"] is None


def test_at_the_barrier(lab: Lab) -> None:
    """Nothing has started, so nothing restarts: the barrier opens once, for those who stand there then."""
    for host in (0, 1):
        lab.start(host)
    lab.until(lambda: lab.agents[1].status().get("generation") == 1, "rank 1 stands at the barrier")
    lab.agents[1].kill()
    lab.agents[1].code()
    for host in (2, 1):
        lab.start(host)
    generation = lab.wait_ready()["generation"]
    lab.begun(generation)
    assert lab.generations() == [generation]


@pytest.mark.parametrize("whole", [False, True])
def test_while_others_stop(lab: Lab, *, whole: bool) -> None:
    """Rank 2 takes its time to end when rank 0 fails too, its workload or its whole container."""
    generation = lab.form("only=2", "lingers=1.5", UNIT_BACKOFF_SECONDS="0")["generation"]
    lab.strike(1)
    lab.until(lambda: lab.events("term", rank=2), "rank 2 is told to end")
    if whole:
        lab.agents[0].kill()
        lab.agents[0].code()
        lab.start(0, "only=2", "lingers=1.5", UNIT_BACKOFF_SECONDS="0")
    later = lab.wait_ready(above=generation)
    assert later["restarts"] <= 2 if whole else later["restarts"] == 1
    (failure, *_) = failures(lab)
    assert (failure["generation"], failure["rank"]) == (generation, 1)


@pytest.mark.parametrize("rank", [0, 1])
def test_while_the_unit_drains(lab: Lab, rank: int) -> None:
    """Nobody is restarted: it ends as it was asked to."""
    lab.form("lingers=1.5", **QUICK)
    for host in range(3):
        lab.agents[host].signal(signal.SIGTERM)
    lab.until(lambda: lab.events("term", rank=0), "rank 0 is told to end")
    lab.strike(rank)
    assert lab.codes() == [0, 0, 0]
    assert lab.generations() == [1]
    assert not lab.watcher.alive()


def test_one_after_the_other(lab: Lab) -> None:
    """Each restart is hit as soon as it has begun; it comes to rest when nobody hits any more."""
    lab.form(UNIT_BACKOFF_SECONDS="0")
    for generation, rank in ((1, 1), (2, 2), (3, 0), (4, 1)):
        lab.begun(generation)
        lab.strike(rank)
        lab.until(lambda g=generation: lab.ranks(g + 1), f"generation {generation + 1} begins")  # type: ignore[misc]
    assert lab.wait_ready(above=4)["generation"] == 5
    assert lab.agents[2].status()["restarts"] == 4
    (failure, *_) = failures(lab)
    assert (failure["generation"], failure["rank"]) == (4, 1)
