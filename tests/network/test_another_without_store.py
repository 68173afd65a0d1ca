"""While the store is away, somebody else answers at a rank's address: its successor there, or not."""

from __future__ import annotations

import subprocess

import pytest

from tests.network.conftest import MakeLab
from tests.network.containers import agent_command
from tests.network.lab import Lab, workload

pytestmark = pytest.mark.root

HOST, OTHERS = 2, (0, 1)
PROBES, ELSEWHERE = "9470", "9480"
DIVERT = ("PREROUTING", "-t", "nat", "-p", "tcp", "--dport", PROBES, "-j", "REDIRECT", "--to-port", ELSEWHERE)
LEASE = {"UNIT_LEASE_SECONDS": 8, "UNIT_HEARTBEAT_SECONDS": 1}


def divert(lab: Lab, verb: str) -> None:
    """Lead questions to the probe address of that host elsewhere, so that none is ever refused."""
    words = [*lab.net.hosts[HOST].enter(), "iptables", "-w", verb, *DIVERT]
    subprocess.run(words, check=True, capture_output=True)


def without_store(lab: Lab) -> None:
    lab.store.stop()
    lab.until(
        lambda: not any(lab.agents[host].status()["store"]["connected"] for host in range(3)),
        "the outage is noticed",
    )


def another(lab: Lab) -> None:
    """Start another agent of that rank at its address; at another port, while the first one lives."""
    box = lab.launch(HOST, agent_command(*workload()), UNIT_HTTP_ADDRESS=f"0.0.0.0:{ELSEWHERE}", **LEASE)
    look = [*lab.net.hosts[HOST].enter(), "sh", "-c", f"ss -tln | grep -q :{ELSEWHERE}"]
    lab.until(lambda: subprocess.run(look, check=False).returncode == 0, "it answers")
    assert box.running


def readiness_goes_off_and_nobody_restarts(lab: Lab) -> None:
    """Not before the lease is over: an answer of somebody else may have been relayed from anywhere."""
    boxes = [lab.agents[host] for host in OTHERS]
    lives = [lab.main(rank, 1) for rank in OTHERS]
    lab.hold(lambda: all(box.ready() for box in boxes), "readiness went off before the lease was over", 3)
    lab.until(lambda: not any(box.ready() for box in boxes), "readiness is off")
    lab.hold(lambda: not any(box.ready() for box in boxes), "readiness came back", 5)
    assert lab.generations() == [1]
    assert all(life.died is None for life in lives), "a workload was ended"


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    lab: Lab = make_lab(3)
    lab.form(**LEASE)
    return lab


def test_a_rank_that_was_rebuilt_at_its_address_restarts_all_once_the_store_is_back(lab: Lab) -> None:
    first = lab.agents[HOST]
    without_store(lab)
    another(lab)
    divert(lab, "-I")
    first.kill()
    readiness_goes_off_and_nobody_restarts(lab)
    lab.store.start()
    lab.wait_ready(above=1, hosts=OTHERS)
    lab.begun(2)
    lab.hold(lambda: lab.generations() == [1, 2], "it restarted more than once", 4)
    assert all(lab.agents[host].ready() for host in OTHERS)
    lab.check()


def test_a_rank_in_whose_place_somebody_else_answers_is_not_lost_once_the_store_is_back(lab: Lab) -> None:
    first = lab.agents[HOST]
    without_store(lab)
    another(lab)
    divert(lab, "-I")
    cut = [*lab.net.hosts[HOST].enter(), "ss", "-K", "sport", "=", f":{PROBES}"]
    subprocess.run(cut, check=True, capture_output=True)  # the connections that are held there
    readiness_goes_off_and_nobody_restarts(lab)
    lab.agents[HOST].kill()
    divert(lab, "-D")
    lab.store.start()
    lab.until(lambda: first.ready() and all(lab.agents[host].ready() for host in OTHERS), "all serve again")
    assert lab.generations() == [1]
    assert all(lab.main(rank, 1).died is None for rank in range(3))
