"""Agents and machines that are gone, or seem to be: noticed without a word from them, and acted on once."""

from __future__ import annotations

import signal

import pytest

from tests.network.lab import Lab
from tests.network.measuring import measure
from tests.waiting import throughout


def test_an_agent_that_is_gone_is_noticed_by_refused_connections(lab: Lab) -> None:
    """Its machine is alive and says so; nobody waits for the lease."""
    lab.form(UNIT_LEASE_SECONDS=30, UNIT_HEARTBEAT_SECONDS=1)
    generation = lab.wait_ready()["generation"]
    lab.agents[2].kill()
    lab.until(lambda: lab.agents[0].status()["generation"] > generation, "the death is noticed", 25)
    failure = lab.agents[0].status()["failure"]
    assert (failure["generation"], failure["rank"], failure["reason"]) == (generation, 2, "lost")


@pytest.mark.slow
def test_a_machine_that_is_gone_without_a_packet(lab: Lab) -> None:
    lab.form()

    def go_dark() -> None:
        lab.net.cut(1)
        lab.agents[1].kill()

    def rebuild() -> None:
        lab.net.heal()
        lab.start(1)

    measure(lab, "machine gone", 1, go_dark, mend=rebuild)
    assert lab.agents[0].status()["failure"]["rank"] == 1


@pytest.mark.slow
def test_an_agent_that_hangs(lab: Lab) -> None:
    generation = lab.form()["generation"]
    agents = lab.agents

    def wake() -> None:
        throughout(lambda: lab.generations() == [generation], "started beside the sleeper's workload", 2.0)
        agents[1].signal(signal.SIGCONT)

    measure(lab, "agent hangs", 1, lambda: agents[1].signal(signal.SIGSTOP), mend=wake)


@pytest.mark.slow
def test_a_pause_shorter_than_the_lease_is_nothing(lab: Lab) -> None:
    lab.form()
    for host in (0, 1, 2):
        lab.agents[host].signal(signal.SIGSTOP)
        throughout(lab.undisturbed, "a pause of 3 s ended a workload", 3.0, pause=0.2)
        lab.agents[host].signal(signal.SIGCONT)
        throughout(lab.undisturbed, "after a pause of 3 s a workload ended", 2.0, pause=0.2)


@pytest.mark.slow
def test_a_failure_during_the_restart(lab: Lab) -> None:
    """While the others still end their workloads, another instance is lost and replaced."""
    generation = lab.form("only=0", "lingers=2", UNIT_RESTART_GRACE_SECONDS=4)["generation"]
    lab.strike(1)
    lab.until(lambda: lab.events("term", rank=0), "rank 0 is being stopped")
    lab.agents[2].kill()
    lab.start(2)
    lab.wait_ready(above=generation)
    failure = lab.agents[0].status()["failure"]
    assert (failure["rank"], failure["reason"]) in {(1, "signal"), (2, "replaced"), (2, "lost")}


@pytest.mark.slow
def test_two_containers_at_once(lab: Lab) -> None:
    generation = lab.form()["generation"]
    for host in (0, 1):
        lab.agents[host].kill()
    for host in (0, 1):
        lab.agents[host].code()
        lab.start(host)
    lab.wait_ready(above=generation)
