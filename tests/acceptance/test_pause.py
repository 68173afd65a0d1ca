"""``unitagent pause`` and ``resume``: a failure stops a real Unit, which starts when the pause is over."""

from __future__ import annotations

import json
import os
import re
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.local import UNIT, LocalUnit, unitagent
from tests.waiting import throughout, until


@pytest.fixture
def unit(tmp_path: Path) -> Iterator[LocalUnit]:
    unit = LocalUnit(tmp_path, "--guard", "--backoff-seconds", "0")
    yield unit
    unit.close()


def order(unit: LocalUnit, *words: str) -> tuple[int, str]:
    done = unitagent(*words, "--unit", UNIT, "--http-address", unit.address(1))
    assert done.stdout == ""
    return done.returncode, done.stderr


def get(unit: LocalUnit, path: str, rank: int = 0) -> str:
    try:
        with urllib.request.urlopen(f"http://{unit.address(rank)}{path}", timeout=5) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return error.read().decode()


def test_a_failure_in_a_pause_waits_for_the_resume(unit: LocalUnit) -> None:
    status = unit.ready()
    code, said = order(unit, "pause", "--for", "10m", "--reason", "new cables")
    assert (code, said.count("\n")) == (0, 1)
    assert said.startswith(f"{UNIT}: restarts are paused for 600 s, until ")
    assert unit.output.read_text().count("new cables; nothing starts until then") == 2, "in each log"
    until(lambda: unit.ready()["pause"], "it shows in the status, which may be a moment old")
    assert unit.ready()["pause"]["reason"] == "new cables"
    code, said = order(unit, "restart")
    assert code == 1
    assert "restarts are paused until" in said
    assert "`unitagent resume` first" in said

    os.kill(status["instances"][1]["pid"], signal.SIGKILL)
    until(lambda: "restarts are paused for" in get(unit, "/readyz"), "it is stopped, and says why")
    until(lambda: not unit.ask(1)["ready"], "rank 1 says so, too; its status may be a moment old")
    throughout(lambda: not unit.ask(1)["ready"], "it started in the pause", 1.0, pause=0.1)
    seen = unit.status(1)
    assert (seen["phase"], seen["generation"], seen["ready"]) == ("restarting", 2, False)
    assert (seen["failure"]["rank"], seen["failure"]["reason"]) == (1, "signal")
    assert {one["state"] for one in seen["instances"]} == {"idle"}
    table = unitagent("status", "--unit", UNIT, "--http-address", unit.address(1)).stdout
    assert re.search(
        r": stopped for .*: restarts are paused for .*; `unitagent resume` starts it", table.splitlines()[0]
    )
    assert re.search(r"\nrestarts are paused until \d{4}-.*; `unitagent resume` ends the pause\n", table)
    row = next(row for row in get(unit, "/metrics").splitlines() if row.startswith("unitagent_pause_until"))
    assert float(row.split()[1]) > time.time() + 500

    code, said = order(unit, "resume")
    assert (code, said) == (0, f"{UNIT}: restarts are resumed\n")
    seen = unit.ready(2)
    assert (seen["generation"], seen["pause"], seen["restarts"]) == (2, None, 1)
    done = unitagent("events", "--json", "--unit", UNIT, "--http-address", unit.address(0))
    orders = [one["detail"] for one in map(json.loads, done.stdout.splitlines()) if one["kind"] == "order"]
    assert orders[0].endswith(" asked for a pause of restarts for 600 s: new cables")
    assert orders[-1].endswith(" asked for a resume: no reason given")


def test_a_pause_ends_by_itself(unit: LocalUnit) -> None:
    status = unit.ready()
    assert order(unit, "pause", "--for", "6s")[0] == 0
    begun = time.monotonic()
    os.kill(status["instances"][0]["pid"], signal.SIGKILL)
    unit.ready(2)
    assert time.monotonic() - begun > 3
    assert unit.output.read_text().count("the pause of restarts is over") == 2


@pytest.mark.parametrize("words", [("--for", "0"), ("--for", "2d"), ("--for", "x"), ("--for", "")])
def test_a_duration_that_is_none_is_refused(words: tuple[str, ...]) -> None:
    done = unitagent("pause", *words)
    assert done.returncode == 2
    assert "must be a duration from 1s to 1d" in done.stderr
