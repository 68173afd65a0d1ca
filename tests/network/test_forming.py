"""A Unit forms: nobody starts before everybody is there, and all are told the same."""

from __future__ import annotations

import pytest

from tests.network.conftest import MakeLab
from tests.network.lab import Lab
from tests.waiting import throughout


def at_the_barrier(lab: Lab, hosts: range) -> bool:
    shown = [lab.agents[host].status() for host in hosts]
    return all(
        status and status["instances"][host]["state"] == "idle"
        for host, status in zip(hosts, shown, strict=True)
    )


@pytest.mark.parametrize("size", [3, 8])
def test_nobody_starts_before_the_last_instance_is_there(make_lab: MakeLab, size: int) -> None:
    lab = make_lab(size)
    early = range(size - 1)
    for host in early:
        lab.start(host)
    lab.until(lambda: at_the_barrier(lab, early), "all but one stand at the barrier")
    throughout(lambda: not lab.watcher.lives(), "a workload started before the last instance", 3.0, pause=0.2)
    last = lab.start(size - 1)
    generation = lab.wait_ready()["generation"]
    begun = lab.begun(generation)
    assert all(life.born > last.started for life in lab.watcher.lives())
    assert lab.generations() == [generation]
    ips = [lab.net.ip(host) for host in range(size)]
    for host, note in enumerate(begun):
        env = note["env"]
        assert env["MASTER_ADDRESS"] == lab.net.ip(0)
        assert (env["RANK_ID"], env["RANK_IP"], env["COMM_IFNAME"]) == (str(host), ips[host], "eth1")
        assert env["UNIT_RANK_IPS"].split(",") == ips
        assert env["MASTER_PORT"] == begun[0]["env"]["MASTER_PORT"]
        assert not {name for name in env if "REDIS" in name or "SECRET" in name}


def test_who_is_missing_is_said(lab: Lab) -> None:
    for host in (0, 2):
        lab.start(host)
    lab.until(lambda: lab.agents[0].said("rank 1 never joined"), "the missing rank is named")


def test_a_pair_that_cannot_talk_is_named_before_anything_starts(lab: Lab) -> None:
    lab.net.cut(2, ["comm"])
    lab.start_all()
    for rank, other in ((0, 2), (1, 2), (2, 0)):
        pair = (f"rank {rank} ({lab.net.ip(rank)}) cannot reach", f"rank {other} ({lab.net.ip(other)})")
        lab.until(lambda host=rank, words=pair: lab.agents[host].said(*words), f"{pair} is said")  # type: ignore[misc]
    assert not lab.watcher.lives()
    lab.net.heal()
    lab.wait_ready()


def test_ranks_are_claimed(lab: Lab) -> None:
    notes = lab.begun(lab.form(RANK_ID="auto")["generation"])
    assert sorted(int(note["env"]["RANK_ID"]) for note in notes) == [0, 1, 2]
    table = {note["env"]["RANK_ID"]: note["env"]["RANK_IP"] for note in notes}
    assert all(
        note["env"]["UNIT_RANK_IPS"].split(",")[int(rank)] == ip
        for note in notes
        for rank, ip in table.items()
    )


def test_a_claimed_rank_stays_where_it_was(lab: Lab) -> None:
    begun = lab.begun(lab.form(RANK_ID="auto")["generation"])
    before = {note["env"]["RANK_IP"]: note["env"]["RANK_ID"] for note in begun}
    lab.agents[1].kill()
    lab.agents[1].code()
    lab.start(1, RANK_ID="auto")
    generation = lab.wait_ready(above=1)["generation"]
    after = {note["env"]["RANK_IP"]: note["env"]["RANK_ID"] for note in lab.begun(generation)}
    assert after == before


def test_the_embedded_store_waits_for_a_late_leader(make_lab: MakeLab) -> None:
    lab = make_lab(3, store=False)
    embedded = {
        "UNIT_REDIS_URL": None,
        "MASTER_ADDRESS": lab.net.ip(0),
        "UNIT_SECRET": "between the two of us",
    }
    for host in (1, 2):
        lab.start(host, **embedded)
    throughout(lambda: lab.agents[1].running and lab.agents[2].running, "a follower gave up", 2.0)
    lab.start(0, **embedded)
    lab.wait_ready()


def test_a_leader_with_the_embedded_store_is_rebuilt(make_lab: MakeLab) -> None:
    lab = make_lab(3, store=False)
    embedded = {
        "UNIT_REDIS_URL": None,
        "MASTER_ADDRESS": lab.net.ip(0),
        "UNIT_SECRET": "between the two of us",
    }
    before = lab.form(**embedded)["generation"]
    lab.agents[0].kill()
    lab.start(0, **embedded)
    lab.wait_ready(above=before)


def test_one_size_is_not_the_others(lab: Lab) -> None:
    for host in (0, 1):
        lab.start(host)
    lab.until(lambda: at_the_barrier(lab, range(2)), "two stand at the barrier")
    lab.start(2, UNIT_SIZE=4)
    assert lab.agents[2].code() == 77
    assert lab.agents[2].said("has UNIT_SIZE=3", "rank 2 has 4")
    lab.start(2)
    lab.wait_ready()


@pytest.mark.parametrize("odd", [0, 1])
def test_sizes_that_differ_from_the_start(lab: Lab, odd: int) -> None:
    """All come at once: nothing starts, and whoever gives up says who says what."""
    for host in range(3):
        lab.start(host, UNIT_SIZE=4 if host == odd else 3)
    lab.until(lambda: any(not box.running for box in lab.all), "somebody gives up")
    gone = [box for box in lab.all if not box.running]
    assert {box.code() for box in gone} == {77}
    assert all(box.said("has UNIT_SIZE=", "has 4") or box.said("has UNIT_SIZE=4") for box in gone)
    assert not lab.watcher.lives()


def test_no_store(make_lab: MakeLab) -> None:
    lab = make_lab(1, store=False)
    lab.start(0, UNIT_STORE_TIMEOUT_SECONDS=1)
    assert lab.codes() == [69]
    assert lab.agents[0].said("UNIT_STORE_TIMEOUT_SECONDS")


def test_no_others(lab: Lab) -> None:
    lab.start(0, UNIT_BARRIER_TIMEOUT_SECONDS=1)
    assert lab.codes([0]) == [124]
    assert lab.agents[0].said("ranks 1, 2 never joined")


def test_another_revision_is_waited_for(lab: Lab) -> None:
    for host in range(3):
        lab.start(host, UNIT_REVISION="new" if host else "old")
    lab.until(lambda: lab.agents[1].said("has UNIT_REVISION=old", "rank 1 has new"), "the revisions are told")
    assert not lab.watcher.lives()
    lab.agents[0].kill()
    lab.agents[0].code()
    lab.start(0, UNIT_REVISION="new")
    lab.wait_ready()


def test_a_job_is_done_when_all_ranks_are(lab: Lab) -> None:
    lab.start_all("after=0.2", "exits=0", "only=2", "after=1", UNIT_MODE="job")
    assert lab.codes() == [0, 0, 0]
    assert lab.generations() == [1]


def test_a_job_whose_rank_fails_is_done_again(lab: Lab) -> None:
    finish = lab.folder / "finish"
    lab.start_all(f"until={finish}", "exits=0", UNIT_MODE="job")
    lab.begun(1)
    lab.strike(1)
    lab.begun(2)
    finish.touch()
    assert lab.codes() == [0, 0, 0]
    assert lab.generations() == [1, 2]
