"""One live incarnation per rank: who is there keeps it, who comes waits, who is back too late is fenced."""

from __future__ import annotations

import signal

import pytest

from tests.network.conftest import MakeLab
from tests.waiting import throughout

LEASE = 5.0


def test_a_newcomer_for_a_held_rank_waits(make_lab: MakeLab) -> None:
    """As when a second Unit has the same name."""
    lab = make_lab(4)
    lab.form_on(range(3))
    newcomer = lab.start(3, RANK_ID=0, UNIT_SIZE=3)
    lab.until(
        lambda: newcomer.said("rank 0 of Unit lab is held by another instance (10.88.1.1, host0)"),
        "it is told",
    )
    throughout(lambda: lab.agents[0].ready() and lab.generations() == [1], "the Unit was disturbed", 1.0)
    lab.agents[0].kill()
    lab.until(newcomer.ready, "the newcomer has taken over")
    assert newcomer.status()["instances"][0]["hostname"] == "host3"


@pytest.mark.slow
def test_a_second_unit_of_the_same_name_waits(make_lab: MakeLab) -> None:
    """Each of its agents is told who holds its rank, and the first Unit does not notice."""
    lab = make_lab(6)
    lab.form_on(range(3))
    others = {rank: lab.start(3 + rank, RANK_ID=rank, UNIT_SIZE=3) for rank in range(3)}
    for rank, other in others.items():
        held = f"rank {rank} of Unit lab is held by another instance (10.88.1.{rank + 1}, host{rank})"
        lab.until(lambda box=other, words=held: box.said(words), held)  # type: ignore[misc]
    throughout(lambda: lab.agents[0].ready() and lab.undisturbed(), "disturbed", LEASE + 2, pause=0.2)
    assert lab.generations() == [1]
    assert all(other.running for other in others.values())


@pytest.mark.slow
def test_an_old_container_that_comes_back_is_fenced(make_lab: MakeLab) -> None:
    lab = make_lab(4)
    lab.form_on(range(3))
    lab.net.cut(1)
    lab.until(lambda: not lab.watched(1), "the isolated instance stops its workload")
    lab.start(3, RANK_ID=1, UNIT_SIZE=3)
    lab.wait_ready(above=1, hosts=(0, 2, 3))
    generation = lab.agents[0].status()["generation"]
    lab.net.heal()
    assert lab.agents[1].code() == 76
    throughout(
        lambda: lab.is_ready(0) and lab.agents[0].status()["generation"] == generation, "disturbed", 1.0
    )


@pytest.mark.slow
def test_the_workload_of_a_hanging_agent_never_meets_the_new_one(make_lab: MakeLab) -> None:
    """Its watchdog has ended it when its rank is taken; when it wakes up, it is fenced."""
    lab = make_lab(4)
    lab.form_on(range(3))
    old = lab.watched(1)
    assert old
    lab.agents[1].signal(signal.SIGSTOP)
    lab.start(3, RANK_ID=1, UNIT_SIZE=3)
    lab.wait_ready(above=1, hosts=(0, 2, 3))
    assert not lab.watched(1)
    begun = min(life.born for life in lab.watched(3))
    assert not any(life.outlives(begun) for life in old)
    lab.agents[1].signal(signal.SIGCONT)
    assert lab.agents[1].code() == 76
    assert not lab.watched(1)


@pytest.mark.slow
def test_an_agent_that_sleeps_is_waited_for_or_fenced(make_lab: MakeLab) -> None:
    """Nobody may take the rank's place in a new start before it wakes."""
    lab = make_lab(3)
    generation = lab.form()["generation"]
    lab.agents[1].signal(signal.SIGSTOP)
    lab.until(lambda: lab.agents[0].status()["generation"] > generation, "the sleeper is noticed")
    throughout(lambda: lab.generations() == [generation], "started without the sleeper", 2.0)
    lab.agents[1].signal(signal.SIGCONT)
    lab.wait_ready(above=generation)


def test_a_clock_an_hour_ahead_changes_nothing(make_lab: MakeLab) -> None:
    lab = make_lab(3)
    lab.start(0)
    lab.launch(1, lab.with_clock(3600))
    lab.start(2)
    generation = lab.wait_ready()["generation"]
    lab.begun(generation)
    throughout(lambda: lab.generations() == [generation], "the clock caused a restart", 1.0)
    lab.strike(1)
    lab.wait_ready(above=generation)


@pytest.mark.slow
@pytest.mark.parametrize("step", [3600, -3600])
def test_a_clock_that_is_set_while_the_unit_runs(make_lab: MakeLab, step: int) -> None:
    lab = make_lab(3)
    now = lab.folder / "now"
    lab.start(0)
    lab.launch(1, lab.with_clock(step, now))
    lab.start(2)
    generation = lab.wait_ready()["generation"]
    now.touch()
    throughout(lab.serving, "the clock disturbed the Unit", LEASE + 2, pause=0.2)
    lab.strike(1)
    lab.begun(lab.wait_ready(above=generation)["generation"])
    assert lab.generations() == [generation, generation + 1]
