"""The history of a real Unit: what happened, in order and once, across a rebuilt container and an outage."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree as ET

import pytest

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
