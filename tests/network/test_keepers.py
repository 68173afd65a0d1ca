"""Keepers on machines of their own: when they live, as the kernel tells, and what a lost machine means."""

from __future__ import annotations

import signal

import pytest

from tests.network.conftest import MakeLab
from tests.network.lab import Lab, keeper
from tests.network.lives import Life

SIZE = 3


def list_keepers(lab: Lab, generation: int) -> list[Life]:
    """The main processes of keepers that started in this generation, in rank order."""
    found = [life for life in lab.watcher.kept() if life.generation == generation]
    first: dict[int, Life] = {}
    for life in found:
        first.setdefault(life.rank, life)
    return [first[rank] for rank in sorted(first)]


def test_a_spare_takes_the_rank_of_a_lost_machine_and_all_keepers_start_again(make_lab: MakeLab) -> None:
    lab = make_lab(SIZE + 1)
    more = {"UNIT_SIZE": SIZE, "UNIT_SPARES": 1, **keeper(lab.folder)}
    spare = lab.start(SIZE, **more)
    for host in range(SIZE):
        lab.start(host, **more)
    lab.wait_ready(hosts=range(SIZE))
    lab.until(
        lambda: "are held" in str(spare.status().get("standby")),
        "the spare has watched the store for a lease",
    )
    old = list_keepers(lab, 1)
    assert [life.rank for life in old] == [0, 1, 2]
    assert not [life for life in lab.watcher.kept() if life.host == f"host{SIZE}"], "a spare has no keeper"
    lab.net.cut(1)  # the machine is gone; nothing comes back
    lab.until(lambda: lab.is_ready(SIZE, above=2), "the Unit is ready with the spare")
    status = spare.status()
    assert [one["ip"] for one in status["instances"]][1] == lab.net.ip(SIZE)
    assert status["generation"] == status["keeper"]["generation"] + 1
    new = list_keepers(lab, status["keeper"]["generation"])
    assert [life.host for life in new] == ["host0", f"host{SIZE}", "host2"]
    begin = min(life.born for life in new)
    assert not [life for life in old if life.outlives(begin)], (
        "none of the old group lived beside the new one"
    )
    lab.check()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_keeper_that_ends_restarts_the_unit_once(make_lab: MakeLab, number: int) -> None:
    lab = make_lab(SIZE)
    before = lab.form(**keeper(lab.folder))["generation"]
    lab.strike_keeper(1, number)
    after = lab.wait_ready(above=before)
    assert after["restarts"] == 1
    assert after["failure"]["rank"] == 1
    assert len(list_keepers(lab, after["keeper"]["generation"])) == SIZE
    lab.check()


def test_without_the_store_keepers_and_workloads_stay(make_lab: MakeLab) -> None:
    lab = make_lab(SIZE)
    lab.form(**keeper(lab.folder))
    lab.store.stop()
    lab.hold(lab.serving, "nothing ends", seconds=7.0)
    assert all(life.died is None for life in list_keepers(lab, 1))
    lab.store.start()
    lab.hold(lab.serving, "nothing ends", seconds=3.0)
    assert all(life.died is None for life in list_keepers(lab, 1))


def test_who_is_cut_off_has_ended_its_keeper_before_another_has_its_rank(make_lab: MakeLab) -> None:
    lab = make_lab(SIZE)
    lab.form(**keeper(lab.folder))
    old = list_keepers(lab, 1)
    lab.net.cut(2)
    lab.until(
        lambda: all(life.died is not None for life in lab.watcher.kept() if life.host == "host2"),
        "its keeper ends, with all that it left behind",
    )
    assert old[0].died is None, "the others keep theirs until somebody is back"
    lab.net.heal(2)
    after = lab.wait_ready(above=2)
    assert after["keeper"]["generation"] == after["generation"] - 1
    lab.check()
