"""``RANK_ID=auto``: spares wait for a rank that is free for certain; who takes one takes over its history."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.network.conftest import MakeLab
from tests.network.containers import ROOT
from tests.network.lab import Lab
from tests.waiting import throughout

SIZE, SPARES = 3, 3


def drain(lab: Lab) -> None:
    """What an operator types; through the socket, as the lab's own client does."""
    url = f"unix://{lab.folder / 'redis.sock'}"
    given = {"UNIT_ID": "lab", "UNIT_REDIS_URL": url, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "unitagent", "drain"], env={**os.environ, **given}, check=True)


@pytest.mark.slow
def test_an_outage_of_the_store_gives_no_spare_a_rank_that_is_held(make_lab: MakeLab) -> None:
    lab = make_lab(SIZE + SPARES)
    lab.form_on(range(SIZE), RANK_ID="auto")
    spares = [lab.start(SIZE + number, RANK_ID="auto", UNIT_SIZE=SIZE) for number in range(SPARES)]
    for spare in spares:
        lab.until(lambda spare=spare: spare.said("waiting for a free rank"), "a spare waits")  # type: ignore[misc]

    def serves() -> bool:
        return lab.undisturbed() and all(lab.agents[host].ready() for host in range(SIZE))

    for host in range(SIZE + SPARES):
        lab.net.cut(host, ["front"])
    throughout(serves, "the Unit stopped serving", 15.0, pause=0.2)
    lab.net.heal()
    throughout(serves, "the Unit was disturbed", 10.0, pause=0.2)
    lab.agents[1].kill()
    lab.wait_ready(above=1, hosts=(0, 2))
    heirs = [spare for spare in spares if "standby" not in spare.status()]
    assert len(heirs) == 1, "one spare, and no other, takes the place that has become free"


def test_a_unit_whose_containers_are_all_rebuilt_begins_a_new_generation(lab: Lab) -> None:
    before = lab.form(RANK_ID="auto")["generation"]
    for agent in lab.agents.values():
        agent.kill()
    lab.codes()
    for host in range(SIZE):
        lab.rebuild(host)
    assert lab.wait_ready()["generation"] == before + 1
    lab.begun(before + 1)
    assert lab.generations() == [before, before + 1]


@pytest.mark.slow
@pytest.mark.parametrize("guard", [True, False])
def test_an_order_to_drain_is_not_obeyed_by_those_who_are_rebuilt_after_it(lab: Lab, guard: bool) -> None:
    before = lab.form(RANK_ID="auto", UNIT_GUARD=guard)["generation"]
    drain(lab)
    assert lab.codes() == [0, 0, 0]
    for host in range(SIZE):
        lab.rebuild(host)
    assert lab.wait_ready(above=before)["draining"] is False
