"""What is shown of a job and of other Units that end: real Units of two ranks with a store of their own."""

from __future__ import annotations

import json
import os
import re
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.local import unitagent
from tests.acceptance.solo import Solo
from tests.servers import Server, running
from tests.waiting import DEADLINE, until

UNIT = f"job-{os.getpid()}"
NOBODY = "127.0.0.1:1"  # no agent answers there, so that the store alone tells
# Each rank ends once there is a file with its number, with the code that this holds.
WORKLOAD = 'trap "exit 0" TERM; while [ ! -s "$0/$RANK_ID" ]; do sleep 0.1; done; exit "$(cat "$0/$RANK_ID")"'


class Pair:
    """Two agents of one Unit."""

    def __init__(self, folder: Path, redis: Server, *options: str) -> None:
        self.folder, self.redis = folder, redis
        self.agents = []
        for rank in (0, 1):
            own = folder / f"rank-{rank}"
            own.mkdir()
            place = ("--unit", UNIT, "--size", "2", "--rank", str(rank), *options)
            command = ("sh", "-c", WORKLOAD, str(folder))
            self.agents.append(Solo(own, *place, command=command, UNIT_REDIS_URL=redis.url))

    def ready(self) -> None:
        for agent in self.agents:
            agent.ready()

    def end(self, rank: int, code: int) -> None:
        """Let the workload of a rank exit."""
        (self.folder / str(rank)).write_text(f"{code}\n")

    def ask(self, *words: str) -> str:
        done = unitagent(*words, "--redis-url", self.redis.url)
        return done.stdout if done.returncode == 0 else ""

    def status(self) -> str:
        """What the store alone tells for people."""
        return self.ask("status", "--unit", UNIT, "--http-address", NOBODY)

    def phase(self) -> str:
        seen = self.ask("status", "--json", "--unit", UNIT, "--http-address", NOBODY)
        return str(json.loads(seen)["phase"]) if seen else ""

    def listed(self) -> list[str]:
        """The phase of each Unit in ``unitagent list``."""
        return [one["phase"] for one in json.loads(self.ask("list", "--json"))]

    def codes(self) -> list[int]:
        return [agent.popen.wait(DEADLINE) for agent in self.agents]

    def close(self) -> None:
        for agent in self.agents:
            agent.close()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path) as server:
        yield server


def start(folder: Path, redis: Server, options: Sequence[str]) -> Pair:
    pair = Pair(folder, redis, *options)
    try:
        pair.ready()
    except BaseException:
        pair.close()
        raise
    return pair


def test_a_job_is_shown_as_running_until_all_have_done_their_part_and_then_as_completed(
    tmp_path: Path, redis: Server
) -> None:
    pair = start(tmp_path, redis, ("--mode", "job", "--dashboard", "store"))
    try:
        pair.end(0, 0)
        until(lambda: "rank 0 has exited with code 0" in pair.status(), "rank 0 has done its part")
        assert pair.phase() == "running"
        leader = pair.agents[0].status()
        assert (leader["phase"], leader["ready"]) == ("running", False)
        message = "not ready: the workload of rank 0 has exited with code 0"
        assert leader["summary"]["message"] == message
        pair.end(1, 0)
        assert pair.codes() == [0, 0]
        assert re.match(rf"Unit {UNIT}: completed \d+ s ago\n", pair.status()), pair.status()
        assert (pair.phase(), pair.listed()) == ("completed", ["completed"])
    finally:
        pair.close()


def test_a_job_that_is_drained_has_not_completed(tmp_path: Path, redis: Server) -> None:
    pair = start(tmp_path, redis, ("--mode", "job"))
    try:
        pair.ask("drain", "--unit", UNIT, "--wait")
        assert pair.codes() == [0, 0]
        assert (pair.phase(), pair.listed()) == ("drained", [])  # it was asked to go
    finally:
        pair.close()


@pytest.mark.parametrize(
    ("options", "codes", "why"),
    [
        (("--guard", "false"), [3, 3], "rank 0 has exited with code 3, rank 1 has exited with code 3"),
        (("--max-restarts", "0"), [70, 70], "the restart budget is spent (UNIT_MAX_RESTARTS); last: rank "),
    ],
    ids=["without guard", "restart budget"],
)
def test_a_unit_that_has_failed_stays_in_the_list_and_on_the_page(
    tmp_path: Path, redis: Server, options: tuple[str, ...], codes: list[int], why: str
) -> None:
    pair = start(tmp_path, redis, ("--lease-seconds", "2", *options))
    folder = tmp_path / "page"
    folder.mkdir()
    other = Solo(folder, "--unit", f"{UNIT}-page", "--dashboard", "store", UNIT_REDIS_URL=redis.url)
    try:
        other.ready()
        for rank in (0, 1):
            pair.end(rank, 3)
        assert pair.codes() == codes
        head = pair.status().splitlines()[0]
        assert head.startswith(f"Unit {UNIT}: failed for "), head
        assert f" s: {why}" in head
        assert pair.listed() == ["failed", "running"]  # the worst first
        seen = fetch(other, f"/units/{UNIT}")
        assert (seen["phase"], seen["summary"]["severity"]) == ("failed", "bad")
        until(lambda: line_of(other)["age_seconds"] > 2, "its last line is old")
        phase = "failed" if codes == [70, 70] else None  # the page shows no phase as silence
        assert (line_of(other)["phase"], line_of(other)["ready"]) == (phase, False)
    finally:
        pair.close()
        other.close()


def fetch(agent: Solo, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{agent.port}{path}", timeout=5) as answer:
        return json.load(answer)


def line_of(agent: Solo) -> dict[str, Any]:
    """The line about the Unit in the page's list."""
    (found,) = (one for one in fetch(agent, "/units") if one["unit"] == UNIT)
    return dict(found)
