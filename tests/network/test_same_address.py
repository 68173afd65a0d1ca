"""An address says little: two machines may have the same bridge, and one machine may have two instances."""

from __future__ import annotations

import os
import time

import pytest

from tests.network.conftest import MakeLab
from tests.network.lab import Lab
from tests.network.namespaces import Namespace

BRIDGE = "172.17.0.2"  # what Docker gives the first container of every machine
ON_BRIDGE = {"COMM_IFNAME": "lo", "RANK_IP": BRIDGE}
LOOPBACK = {"COMM_IFNAME": "lo", "RANK_IP": "127.0.0.1"}
LEASE = 5.0
TAKEOVER = LEASE + 2  # after so long a newcomer takes the rank of a silent holder


class Door(Namespace):
    """A second door into a namespace."""

    def __init__(self, other: Namespace) -> None:
        self._fd = os.open(other.path, os.O_RDONLY | os.O_CLOEXEC)


def bridge(lab: Lab) -> None:
    """Give all hosts the same address, on a card that leads nowhere."""
    for namespace in lab.net.hosts:
        namespace.ip(f"addr add {BRIDGE}/16 dev lo")


def move_in(lab: Lab, host: int, to: int) -> None:
    """Let that host be the very machine of another."""
    lab.net.hosts[host].close()
    lab.net.hosts[host] = Door(lab.net.hosts[to])


def clash_is_told(lab: Lab) -> None:
    for host in (0, 1):
        lab.until(
            lambda box=lab.agents[host]: box.said("waiting for", "ranks 0, 1 both claim", BRIDGE),  # type: ignore[misc]
            "the ranks and their address are named",
        )
    assert not lab.watcher.lives()


@pytest.mark.slow
def test_two_machines_with_one_bridge_address_form_no_unit(make_lab: MakeLab) -> None:
    lab = make_lab(2)
    bridge(lab)
    lab.start_all(**ON_BRIDGE)
    clash_is_told(lab)
    lab.agents[1].kill()
    lab.agents[1].code()
    lab.agents[0].kill()
    lab.agents[0].code()
    lab.form()


@pytest.mark.slow
def test_two_machines_with_one_bridge_address_claim_two_ranks(make_lab: MakeLab) -> None:
    lab = make_lab(2)
    bridge(lab)
    for host in (0, 1):
        box = lab.start(host, RANK_ID="auto", **ON_BRIDGE)
        joined = f"joined Unit lab as rank {host}"
        lab.until(lambda box=box, words=joined: box.said(words), joined)  # type: ignore[misc]
    clash_is_told(lab)
    assert all(box.running for box in lab.all)


def waits_while_the_holder_lives(lab: Lab, **env: object) -> None:
    """Host 1 is a newcomer for host 0's rank, and does not disturb it; once it is gone, it has the rank."""
    holder = lab.agents[0]
    newcomer = lab.start(1, RANK_ID=0, UNIT_SIZE=1, **env)
    lab.until(lambda: newcomer.said("rank 0 of Unit lab is held by another instance"), "it waits")
    lab.hold(lambda: holder.ready() and lab.undisturbed(), "the holder was disturbed", TAKEOVER + 2)
    assert newcomer.running
    assert not newcomer.said("joined Unit lab")
    holder.kill()
    lab.until(lambda: newcomer.said("joined Unit lab as rank 0"), "it has the rank")


@pytest.mark.slow
def test_a_newcomer_at_the_address_of_a_holder_on_another_machine_waits(make_lab: MakeLab) -> None:
    lab = make_lab(2)
    bridge(lab)
    lab.form_on([0], **ON_BRIDGE)
    waits_while_the_holder_lives(lab, **ON_BRIDGE)


@pytest.mark.slow
def test_a_newcomer_on_the_machine_of_the_holder_with_another_probe_address_waits(make_lab: MakeLab) -> None:
    """Both say the same RANK_IP and port, and only one of them listens there."""
    lab = make_lab(2)
    move_in(lab, 1, to=0)
    lab.form_on([0], UNIT_HTTP_ADDRESS="127.0.0.1:9470", **LOOPBACK)
    waits_while_the_holder_lives(lab, UNIT_HTTP_ADDRESS="127.0.0.9:9470", **LOOPBACK)


def test_two_ranks_of_one_machine_with_two_ports_form_a_unit(make_lab: MakeLab) -> None:
    lab = make_lab(2)
    move_in(lab, 1, to=0)
    lab.start(0, **LOOPBACK)
    lab.start(1, UNIT_HTTP_ADDRESS="0.0.0.0:9480", **LOOPBACK)
    generation = lab.wait_ready(hosts=[0])["generation"]
    lab.begun(generation)
    table = [(one["rank"], one["ip"]) for one in lab.agents[0].status()["instances"]]
    assert table == [(0, "127.0.0.1"), (1, "127.0.0.1")]


def test_a_container_rebuilt_in_its_own_place_has_its_rank_at_once(make_lab: MakeLab) -> None:
    """Its predecessor left no word, and its lease is long; nobody else can listen where it listened."""
    lab = make_lab(2)
    generation = lab.form(UNIT_LEASE_SECONDS=60, UNIT_HEARTBEAT_SECONDS=1, UNIT_BACKOFF_SECONDS="0")[
        "generation"
    ]
    lab.agents[1].kill()
    lab.agents[1].code()
    began = time.monotonic()
    lab.rebuild(1)
    lab.wait_ready(above=generation)
    assert time.monotonic() - began < 20, "a third of the lease"
