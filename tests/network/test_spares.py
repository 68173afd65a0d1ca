"""``UNIT_SPARES``: more instances than ranks; one takes the place of a lost one, whichever is first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.network.conftest import MakeLab
from tests.network.containers import ROOT, Container
from tests.network.lab import Lab

SIZE = 3


def make_unit(make_lab: MakeLab, spares: int = 1, **env: object) -> tuple[Lab, list[Container]]:
    """A Unit of three on the first hosts and its spares, numbered from 3, on the others."""
    lab = make_lab(SIZE + spares)
    more = {"UNIT_SPARES": spares, "UNIT_SIZE": SIZE, "UNIT_GUARD": True, **env}
    waiting = [lab.start(host, **more) for host in range(SIZE, SIZE + spares)]
    for spare in waiting:
        lab.until(lambda spare=spare: spare.get("/livez")[0] == 200, "a spare answers")  # type: ignore[misc]
    for host in range(SIZE):
        lab.start(host, **more)
    lab.wait_ready(hosts=range(SIZE))
    return lab, waiting


def test_a_spare_stands_by_and_takes_the_rank_of_a_lost_machine(make_lab: MakeLab) -> None:
    lab, (spare,) = make_unit(make_lab)
    lab.until(lambda: spare.get("/readyz")[0] == 200, "the spare says that the Unit is ready")
    assert spare.get("/startupz")[0] == 200
    assert spare.get("/traffic")[0] == 404
    lab.until(
        lambda: spare.status()["standby"]["reason"] == "all 3 ranks of the Unit are held",
        "the spare has watched the store for a lease",
    )
    assert spare.status()["summary"]["message"].startswith("this is a standby; ready")
    assert "unitagent_standby 1.0" in spare.get("/metrics")[1]
    assert '"kind":"ready"' in spare.get("/events")[1]
    lab.net.cut(1)  # the machine is gone; nothing comes back
    lab.until(lambda: lab.is_ready(SIZE, above=1), "the Unit is ready with the spare")
    assert [one["ip"] for one in spare.status()["instances"]][1] == lab.net.ip(SIZE)
    assert spare.status().get("standby") is None
    assert spare.said("standing by, to take a rank when its instance is lost")
    lab.check()


@pytest.mark.parametrize("secret", [None, "a secret of this Unit"])
def test_a_machine_that_comes_back_is_a_spare_and_takes_the_next_lost_rank(
    make_lab: MakeLab, secret: str | None
) -> None:
    lab, (spare,) = make_unit(make_lab, UNIT_SECRET=secret)
    lab.agents[1].kill()
    lab.until(lambda: lab.is_ready(SIZE, above=1), "the spare is ready in a new generation")
    lab.until(lambda: spare.status().get("standby") is None, "the spare is rank 1")
    back = lab.rebuild(1)
    lab.until(lambda: "standby" in back.status(), "the old one stands by")
    assert back.get("/livez")[0] == 200
    lab.until(lambda: list_spares(lab) == [lab.net.ip(1)], "rank 0 sees that it stands by, and answers")
    assert back.running
    lab.agents[2].kill()
    hosts = (0, 1, SIZE)
    lab.until(lambda: all(lab.is_ready(host, above=2) for host in hosts), "the old one is rank 2")
    assert [one["ip"] for one in back.status()["instances"]][2] == lab.net.ip(1)
    assert "standby" not in back.status()
    lab.check()


def list_spares(lab: Lab) -> list[str]:
    """The addresses of the spares that stand by, and answer, as rank 0 knows them."""
    spares = lab.agents[0].status().get("spares")
    return [one["ip"] for one in spares["list"] if one["standing_by"] and one["answers"]] if spares else []


def test_a_spare_that_cannot_be_reached_is_named(make_lab: MakeLab) -> None:
    lab, (spare,) = make_unit(make_lab)
    lab.until(lambda: list_spares(lab) == [lab.net.ip(SIZE)], "rank 0 sees the spare")
    assert "spares: 1 of 1 standing by: 3 (" in run_status(lab)
    assert "unitagent_spares_standing_by 1.0" in lab.agents[0].get("/metrics")[1]
    lab.net.cut(SIZE, ["comm"])  # it reaches the store, and no other instance
    lab.until(
        lambda: "does not answer rank 0" in run_status(lab), "it is told that the spare does not answer"
    )
    assert "unitagent_spares_unreachable 1.0" in lab.agents[0].get("/metrics")[1]
    lab.net.heal()
    spare.kill()
    lab.until(lambda: "0 of 1 standing by" in run_status(lab), "it is told that the spare is gone")
    assert lab.undisturbed()


def run_status(lab: Lab) -> str:
    """What ``unitagent status`` says of the Unit, from its store and its rank 0."""
    return " ".join(lab.told("status", "--unit", "lab").split())


def test_a_container_that_is_rebuilt_at_once_keeps_its_rank(make_lab: MakeLab) -> None:
    lab, (spare,) = make_unit(make_lab)
    lab.agents[1].kill()
    lab.rebuild(1)
    lab.wait_ready(above=1, hosts=range(SIZE))
    assert spare.status()["standby"]


def test_of_two_spares_one_takes_the_rank_and_the_other_stands_by(make_lab: MakeLab) -> None:
    lab, spares = make_unit(make_lab, spares=2)
    lab.agents[0].kill()
    hosts = [1, 2, SIZE, SIZE + 1]
    lab.until(
        lambda: (
            sum(lab.is_ready(host, above=1) and "standby" not in lab.agents[host].status() for host in hosts)
            == SIZE
        ),
        "one spare is rank 0",
    )
    assert sum("standby" in spare.status() for spare in spares) == 1


def test_where_no_instance_knows_its_rank_the_last_ones_stand_by(make_lab: MakeLab) -> None:
    lab = make_lab(SIZE + 1)
    hosts = range(SIZE + 1)

    def standing_by() -> list[int]:
        return [host for host in hosts if "standby" in lab.agents[host].status()]

    for host in hosts:
        lab.start(host, UNIT_SPARES=1, UNIT_SIZE=SIZE, UNIT_GUARD=True, RANK_ID="auto")
    lab.until(lambda: all(lab.is_ready(host) for host in hosts), "the Unit is ready, also at its spare")
    (spare,) = standing_by()
    lost = (spare + 1) % (SIZE + 1)
    lab.agents[lost].kill()
    lab.until(lambda: lab.is_ready(spare, above=1), "the spare has the rank")
    lab.rebuild(lost)
    lab.until(lambda: standing_by() == [lost], "what comes back is the spare now")


def test_a_spare_leaves_with_a_unit_that_is_drained_and_when_it_is_asked(make_lab: MakeLab) -> None:
    lab, spares = make_unit(make_lab, spares=2)
    spares[0].signal(signal.SIGTERM)
    assert spares[0].code() == 0
    url = f"unix://{lab.folder / 'redis.sock'}"
    named = {"UNIT_ID": "lab", "UNIT_REDIS_URL": url, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "unitagent", "drain"], env={**os.environ, **named}, check=True)
    assert [agent.code() for agent in (*lab.agents.values(),)] == [0] * (SIZE + 2)
    assert spares[1].said("the Unit was drained")


@pytest.mark.parametrize("outage", ["cut", "killed"])
def test_an_outage_of_the_store_gives_a_spare_nothing(make_lab: MakeLab, outage: str) -> None:
    lab, (spare,) = make_unit(make_lab)
    if outage == "cut":
        lab.net.cut(SIZE, ["front"])
    else:
        lab.store.stop()
    lab.until(lambda: "has not answered this standby" in spare.get("/readyz")[1], "the spare says why")
    assert spare.get("/livez")[0] == 200
    if outage == "cut":
        lab.net.heal()
    else:
        lab.store.start()
    lab.until(lambda: spare.get("/readyz")[0] == 200, "the spare sees the Unit again")
    assert lab.undisturbed()
