"""Cut cables: who is cut off from everything stops in time, who has the store or the peers serves on."""

from __future__ import annotations

import time

import pytest

from tests.network.lab import Lab
from tests.network.measuring import measure
from tests.network.waiting import throughout

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
    throughout(lab.undisturbed, "cut off from the peers, a workload was ended", 3 * LEASE, pause=0.3)
    lab.net.heal()
    throughout(lab.undisturbed, "when the peers were back, a workload was ended", 2.0, pause=0.3)


@pytest.mark.parametrize("host", [0, 1])
def test_cut_off_from_everything(lab: Lab, host: int) -> None:
    lab.form()
    generation = lab.wait_ready()["generation"]
    cut: list[float] = []

    def strike() -> None:
        cut.append(time.monotonic())
        lab.net.cut(host)

    def mend() -> None:
        lab.until(lambda: not lab.watched(host), "the isolated instance stops its workload")
        lab.net.heal()

    measure(lab, "leader cut off" if host == 0 else "instance cut off", host, strike, mend=mend)
    ended = [
        life.died
        for life in lab.watcher.lives()
        if life.host == f"host{host}" and life.generation == generation
    ]
    assert max(died or 0.0 for died in ended) < cut[0] + LEASE + 2, "not stopped within the lease and 2 s"


def test_packets_out_but_none_in(lab: Lab) -> None:
    """Its heartbeats arrive, but it hears nobody: it is isolated, and says so by stopping."""
    lab.form()
    struck = time.monotonic()
    lab.net.cut(1, directions=["in"])
    lab.until(lambda: not lab.watched(1), "the deaf instance stops its workload")
    assert time.monotonic() < struck + LEASE + 2 + 1
    lab.net.heal()
    lab.wait_ready(above=1)


def test_packets_in_but_none_out(lab: Lab) -> None:
    lab.form()
    lab.net.cut(1, directions=["out"])
    lab.until(lambda: not lab.watched(1), "the mute instance stops its workload")
    lab.net.heal()
    lab.wait_ready(above=1)


@pytest.mark.parametrize(
    ("delay", "loss"),
    [(0.05, 0.1), (0.2, 0.3)],
)
def test_loss_and_delay_restart_nothing(lab: Lab, delay: float, loss: float) -> None:
    """Each host's cards lose a share of what is sent, and delay the rest."""
    lab.form()
    lab.net.impair(delay, loss)
    throughout(lab.undisturbed, "a bad line restarted the Unit", 30.0, pause=0.3)
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
