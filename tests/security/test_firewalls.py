"""Packets to a living agent are answered by somebody else, or sent elsewhere: that ends nothing."""

from __future__ import annotations

import subprocess

import pytest

from tests.network.conftest import make_lab
from tests.network.lab import Lab
from tests.security.victims import SECRET, attacking

__all__ = ["make_lab"]

pytestmark = pytest.mark.root

PROBES, RELAY = "9470", "9999"
LONG = {"UNIT_LEASE_SECONDS": 30, "UNIT_HEARTBEAT_SECONDS": 1, "UNIT_SECRET": SECRET}
REFUSE = ("INPUT", "-p", "tcp", "--dport", PROBES, "-j", "REJECT", "--reject-with", "tcp-reset")
DIVERT = ("PREROUTING", "-t", "nat", "-p", "tcp", "--dport", PROBES, "-j", "REDIRECT", "--to-port", RELAY)


@pytest.fixture
def lab(make_lab: object) -> Lab:
    """Three hosts, with a Unit whose leases are long: only what is taken for proven ends anything soon."""
    assert callable(make_lab)
    lab: Lab = make_lab(3)
    lab.form(**LONG)
    return lab


def firewall(lab: Lab, host: int, verb: str, rule: tuple[str, ...]) -> None:
    done = subprocess.run(
        [*lab.net.hosts[host].enter(), "iptables", "-w", verb, *rule],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_firewall_that_refuses_for_a_living_agent_ends_nothing(lab: Lab) -> None:
    """As for a moment where its rules are loaded anew: what is held is reset, what is new is refused."""
    for host in (0, 1):
        firewall(lab, host, "-I", REFUSE)
        lab.hold(lab.undisturbed, f"host{host} was taken for dead", 5)
        firewall(lab, host, "-D", REFUSE)
    lab.hold(lab.serving, "the Unit is not well afterwards", 4)  # by then the connections are held again
    assert lab.generations() == [1]
    lab.agents[1].kill()
    lab.until(lambda: lab.agents[0].status()["generation"] == 2, "a death is noticed before its lease", 25)


def test_a_question_that_is_relayed_to_another_rank_ends_nothing(lab: Lab) -> None:
    prefix = lab.net.hosts[1].enter()
    with attacking("relay", RELAY, lab.net.ip(2), PROBES, prefix=prefix):
        firewall(lab, 1, "-I", DIVERT)
        firewall(lab, 1, "-I", REFUSE)  # what was connected before
        lab.hold(lab.undisturbed, "rank 1 was taken for replaced", 6)
        firewall(lab, 1, "-D", DIVERT)
        firewall(lab, 1, "-D", REFUSE)
    lab.hold(lab.serving, "the Unit is not well afterwards", 1)
    assert lab.generations() == [1]
