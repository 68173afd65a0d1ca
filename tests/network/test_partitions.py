"""Cut cables: who is cut off from everything stops in time, who has the store or the peers serves on."""

from __future__ import annotations

import math
import time

import pytest

from tests.network.cabling import Direction
from tests.network.lab import Lab
from tests.network.measuring import measure
from tests.waiting import throughout

LEASE = 5.0
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("host", [0, 1])
def test_cut_off_from_the_store_only(lab: Lab, host: int) -> None:
    lab.form()
    lab.net.cut(host, ["front"])
    throughout(lab.serving, "cut off from the store, the Unit stopped serving", 3 * LEASE, pause=0.3)
    lab.net.heal()
    throughout(lab.serving, "when the store was back, the Unit stopped serving", LEASE + 2, pause=0.3)
    assert lab.generations() == [1]


@pytest.mark.parametrize("host", [0, 2])
def test_cut_off_from_the_peers_only(lab: Lab, host: int) -> None:
    """The store vouches for everybody, and the workloads themselves know best whether they can talk."""
    lab.form()
    lab.net.cut(host, ["comm"])
    throughout(lab.serving, "cut off from the peers, the Unit stopped serving", 3 * LEASE, pause=0.3)
    lab.net.heal()
    throughout(lab.serving, "when the peers were back, the Unit stopped serving", 2.0, pause=0.3)


def stopped_in_time(lab: Lab, host: int, generation: int, cut: float) -> bool:
    """Whether the workload of that generation there was gone within the lease and 2 s."""
    old = [life for life in lab.watcher.lives() if life.host == f"host{host}"]
    ends = [life.died or math.inf for life in old if life.generation == generation]
    return max(ends) < cut + LEASE + 2


@pytest.mark.parametrize("host", [0, 1])
def test_cut_off_from_everything(lab: Lab, host: int) -> None:
    generation = lab.form()["generation"]
    cut: list[float] = []

    def strike() -> None:
        cut.append(time.monotonic())
        lab.net.cut(host)

    def mend() -> None:
        lab.until(lambda: not lab.watched(host), "the isolated instance stops its workload")
        lab.net.heal()

    measure(lab, "leader cut off" if host == 0 else "instance cut off", host, strike, mend=mend)
    assert stopped_in_time(lab, host, generation, cut[0])


@pytest.mark.parametrize("host", [0, 1])
@pytest.mark.parametrize("lost", ["in", "out"])
def test_one_direction_is_lost(lab: Lab, lost: Direction, host: int) -> None:
    """Its heartbeats arrive but it hears nobody, or the reverse: it is isolated, and stops in time."""
    generation = lab.form()["generation"]
    cut = time.monotonic()
    lab.net.cut(host, directions=[lost])
    lab.until(lambda: not lab.watched(host), "the isolated instance stops its workload")
    assert stopped_in_time(lab, host, generation, cut)
    lab.net.heal()
    lab.wait_ready(above=generation)


def test_without_guard_who_was_cut_off_rejoins(lab: Lab) -> None:
    """The others serve on meanwhile, and are not touched when it is back."""
    generation = lab.form(UNIT_GUARD="false")["generation"]
    untouched = {lab.main(rank, generation).pid for rank in (0, 2)}
    cut = time.monotonic()
    lab.net.cut(1)
    lab.until(lambda: not lab.watched(1), "the isolated instance stops its workload")
    assert stopped_in_time(lab, 1, generation, cut)
    lab.until(lambda: not lab.agents[0].ready(), "readiness is off")
    lab.net.heal()
    lab.until(lambda: lab.watched(1), "it starts again")
    lab.wait_ready()
    assert lab.generations() == [generation]
    assert {lab.main(rank, generation).pid for rank in (0, 2)} == untouched


@pytest.mark.parametrize(
    ("delay", "loss"),
    [(0.05, 0.1), (0.2, 0.3)],
)
def test_loss_and_delay_restart_nothing(lab: Lab, delay: float, loss: float) -> None:
    """Each host's cards lose a share of what is sent, and delay the rest."""
    lab.form()
    lab.net.impair(delay, loss)
    lab.hold(lab.undisturbed, "a bad line restarted the Unit", 30.0)
    lab.net.repair()
    lab.wait_ready()
    assert lab.generations() == [1]


def test_a_rank_that_dies_alone_in_the_dark(lab: Lab) -> None:
    """Its workload crashes while it is cut off from the store: acted on when the store is back, or before."""
    lab.form()
    lab.net.cut(1, ["front"])
    lab.strike(1)
    lab.until(lambda: not any(lab.agents[host].ready() for host in range(3)), "readiness is off everywhere")
    lab.net.heal()
    lab.wait_ready(above=1)
