"""The history of a real Unit: what happened, in order and once, across a rebuilt container and an outage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.network.conftest import MakeLab
from tests.network.containers import ROOT
from tests.network.lab import Lab

KEY = "unitagent:{lab}:history"


def told(lab: Lab, *words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lab.told("events", "--unit", "lab", "--json", *words).splitlines()]


def marked(lab: Lab) -> list[tuple[str, int, int]]:
    """Kind, generation and rank of all but the states of single instances."""
    quiet = ("state", "generation", "joined")
    return [(one["kind"], one["generation"], one["rank"]) for one in told(lab) if one["kind"] not in quiet]


def test_a_failure_a_restart_and_a_takeover_are_told_in_order(lab: Lab) -> None:
    lab.form(UNIT_BACKOFF_SECONDS="0")
    lab.strike(1)
    lab.wait_ready(above=1)
    lab.agents[2].kill()
    lab.agents[2].code()
    lab.rebuild(2)
    generation = lab.wait_ready(above=2)["generation"]
    lab.until(lambda: ("ready", generation, 0) in marked(lab), "the end of the story is told")
    story = marked(lab)
    assert story[:5] == [
        ("barrier", 1, 0),
        ("ready", 1, 0),
        ("failure", 1, 1),
        ("barrier", 2, 0),
        ("ready", 2, 0),
    ]
    later = [one for one in story[5:] if one[0] in ("failure", "barrier", "ready")]
    assert later[0] == ("failure", 2, 2)
    assert later[-2:] == [("barrier", generation, 0), ("ready", generation, 0)]
    assert [one[0] for one in story].count("failure") == generation - 1
    takeovers = [one for one in told(lab) if one["kind"] == "takeover"]
    former, new = (one["incarnation"] for one in told(lab) if one["kind"] in ("joined", "takeover")
                   and one["rank"] == 2)  # fmt: skip
    assert [(one["rank"], one["incarnation"]) for one in takeovers] == [(2, new)]
    assert former in takeovers[0]["detail"]
    at = [one["at"] for one in told(lab)]
    assert at == sorted(at)

    rows = lab.told("timeline", "--unit", "lab").splitlines()
    shown = rows[1].split()  # not all, where one took so long that others have no room for their number
    assert shown[:2] == ["gen", "1"]
    assert shown[1:] == sorted({*shown[1:]} & {*map(str, range(1, generation + 1))}, key=int)
    assert ["X" in row for row in rows if row.startswith("rank ")] == [False, True, True]
    picture = lab.folder / "picture.svg"
    lab.told("timeline", "--unit", "lab", "--svg", str(picture))
    words = [one.text or "" for one in ET.parse(picture).iter()]  # noqa: S314  # our own
    assert any("was killed by signal 9 (SIGKILL)" in word for word in words)


def ask(lab: Lab, secret: str) -> list[tuple[str, int, int]]:
    """What the embedded store tells: all entries; none while it is away."""
    done = subprocess.run(
        [*lab.net.hosts[0].enter(), sys.executable, "-m", "unitagent", "events", "--unit", "lab", "--json"],
        env={"PATH": os.environ["PATH"], "UNIT_SECRET": secret, "UNIT_HTTP_ADDRESS": f"{lab.net.ip(0)}:9470"},
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["at"] for one in found] == sorted(one["at"] for one in found)
    return [(one["kind"], one["generation"], one["rank"]) for one in found]


def test_it_survives_the_end_of_an_embedded_store(make_lab: MakeLab) -> None:
    """The failure that rank 0 wrote is told by the store of the next rank 0, once, and in order."""
    lab = make_lab(3, store=False)
    secret = "between the two of us"  # noqa: S105
    embedded = {
        "UNIT_REDIS_URL": None,
        "MASTER_ADDRESS": lab.net.ip(0),
        "UNIT_SECRET": secret,
        "UNIT_BACKOFF_SECONDS": "0",
        "UNIT_LOG_LEVEL": "debug",
    }
    before = lab.form(**embedded)["generation"]
    lab.strike(0)
    lab.wait_ready(above=before)
    history = [("ready", before, 0), ("failure", before, 0), ("ready", before + 1, 0)]
    lab.until(lambda: set(history) <= set(ask(lab, secret)), "the store tells it")
    copied = f"keeps a copy of {len(ask(lab, secret))} entries"
    lab.until(lambda: lab.agents[1].said(copied), "rank 1 has read it")
    lab.agents[0].kill()
    lab.start(0, **embedded)
    lab.wait_ready(above=before + 1)
    lab.until(lambda: set(history) <= set(ask(lab, secret)), "the next store tells it, too")
    told = ask(lab, secret)
    assert [told.count(one) for one in history] == [1, 1, 1]
    assert [one for one in told if one in history] == history


@pytest.mark.slow
def test_what_an_outage_hides_is_told_afterwards_and_the_loop_does_not_wait(lab: Lab) -> None:
    lab.form(UNIT_LEASE_SECONDS=2, UNIT_HEARTBEAT_SECONDS=0.3)
    lab.until(lambda: ("ready", 1, 0) in marked(lab), "the beginning is told")
    lab.store.freeze()
    lab.until(
        lambda: all(not lab.agents[host].status()["store"]["connected"] for host in range(3)), "all noticed"
    )
    lab.hold(
        lambda: all(lab.agents[host].get("/livez")[0] == 200 for host in range(3)), "a loop stands still", 2.0
    )
    lab.store.thaw()
    lab.until(lambda: [one[0] for one in marked(lab)].count("store-back") == 3, "all tell of the outage")
    kinds = [one[0] for one in marked(lab)]
    assert sorted(kinds[2:]) == ["store-back"] * 3 + ["store-lost"] * 3
    assert kinds.index("store-back") > kinds.index("store-lost")
    assert lab.serving()


@pytest.mark.slow
def test_nothing_is_written_while_nothing_happens(lab: Lab) -> None:
    lab.form()
    lab.until(lambda: ("ready", 1, 0) in marked(lab), "the beginning is told")
    before = lab.store.client.xlen(KEY)
    lab.hold(lambda: lab.store.client.xlen(KEY) == before, "something is told", 3.0)
