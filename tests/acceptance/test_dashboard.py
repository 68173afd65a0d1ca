"""The page of real agents: the own Unit, all Units of a real store, and nothing else suffers from it."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.local import LocalUnit
from tests.acceptance.solo import Solo
from tests.acceptance.test_exhausted_descriptors import flood
from tests.servers import Server, running
from tests.waiting import until

Pair = tuple[Solo, Solo]


def ask(solo: Solo, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{solo.port}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path) as server:
        yield server


@pytest.fixture
def pair(tmp_path: Path, redis: Server) -> Iterator[Pair]:
    """Two Units of one store; the first one's page shows all, the other's only its own."""
    units = []
    for name, shows in (("first", "store"), ("second", "unit")):
        folder = tmp_path / name
        folder.mkdir()
        units.append(Solo(folder, "--unit", name, UNIT_REDIS_URL=redis.url, UNIT_DASHBOARD=shows))
    first, second = units
    try:
        first.ready()
        second.ready()
        yield first, second
    finally:
        for each in units:
            each.close()


def listed(solo: Solo) -> dict[str, dict[str, object]]:
    code, text = ask(solo, "/units")
    assert code == 200, text
    return {one["unit"]: one for one in json.loads(text)}


def test_a_page_shows_its_own_unit_or_any_of_the_store(pair: Pair) -> None:
    first, second = pair
    until(lambda: [one["ready"] for one in listed(first).values()] == [True, True], "both are listed, ready")
    seen = listed(first)["second"]
    assert (seen["phase"], seen["generation"], seen["address"]) == ("running", 1, "127.0.0.1")
    own, other = json.loads(ask(first, "/units/first")[1]), json.loads(ask(first, "/units/second")[1])
    assert list(own) == list(other) == list(second.status())
    assert (own["unit"], own["ready"], own["guard"]) == ("first", True, True)
    assert (other["unit"], other["ready"]) == ("second", True)
    assert other["instances"][0]["pid"] == second.status()["instances"][0]["pid"]
    assert ask(first, "/units/third") == (404, "the store knows no Unit third\n")
    assert ask(first, "/units/a%20b")[0] == 400
    assert 'data-shows="store"' in ask(first, "/")[1]
    assert 'data-shows="unit"' in ask(second, "/")[1]
    assert [ask(second, path)[0] for path in ("/units", "/units/first", "/units/first/events")] == [404] * 3


def test_a_page_has_the_history_of_its_own_unit_or_of_any(pair: Pair) -> None:
    first, second = pair
    for solo, path in ((second, "/events"), (first, "/events"), (first, "/units/second/events")):
        seen = until(lambda solo=solo, path=path: _find_ready(solo, path), "it is written")  # type: ignore[misc]
        assert list(seen) == ["now", "events"]
        kinds = [one["kind"] for one in seen["events"]]
        assert kinds.index("joined") < kinds.index("barrier") < kinds.index("ready")
        assert list(seen["events"][0]) == [
            "at",
            "generation",
            "rank",
            "incarnation",
            "kind",
            "state",
            "detail",
            "phases",
            "number",
        ]
        assert 0 <= seen["now"] - seen["events"][0]["at"] < 600


def _find_ready(solo: Solo, path: str) -> dict[str, Any]:
    code, text = ask(solo, path)
    assert code == 200, text
    seen: dict[str, Any] = json.loads(text)
    return seen if "ready" in [one["kind"] for one in seen["events"]] else {}


@pytest.mark.slow
def test_a_unit_that_is_silent_is_not_ready(pair: Pair) -> None:
    first, second = pair
    until(lambda: listed(first).get("second", {}).get("ready"), "it is listed")
    second.close()
    until(lambda: not listed(first)["second"]["ready"], "it is silent for its lease")
    gone = listed(first)["second"]
    assert gone["phase"] is None
    until(lambda: json.loads(ask(first, "/units/second")[1])["instances"][0]["state"] == "lost", "it is lost")


def test_a_unit_that_has_never_been_ready_is_listed(pair: Pair, tmp_path: Path, redis: Server) -> None:
    first, _ = pair
    sick = Solo(
        tmp_path, "--health-url", "http://127.0.0.1:1/health", "--unit", "sick", UNIT_REDIS_URL=redis.url
    )
    try:
        until(lambda: "sick" in listed(first), "it is listed")
        assert listed(first)["sick"]["ready"] is False
    finally:
        sick.close()


@pytest.mark.slow
def test_a_store_that_is_away_delays_no_probe(pair: Pair, redis: Server) -> None:
    first, _ = pair
    ask(first, "/units")
    redis.pause()
    try:
        told: list[tuple[int, str]] = []
        asking = threading.Thread(target=lambda: told.extend(until_refused(first)))
        asking.start()
        assert ask(first, "/readyz")[0] == ask(first, "/livez")[0] == ask(first, "/")[0] == 200
        assert asking.is_alive()
        asking.join()
    finally:
        redis.resume()
    assert {code for code, _ in told} == {503}
    assert all("does not answer in time" in text for _, text in told)
    until(lambda: ask(first, "/units/second")[0] == ask(first, "/units")[0] == 200, "all is well again")


def until_refused(solo: Solo) -> list[tuple[int, str]]:
    """What is said of list and Unit when nothing that was read before is given any more."""
    return [until(lambda path=path: refused(solo, path), "the store is away") for path in PATHS]  # type: ignore[misc]


PATHS = ("/units", "/units/second")


def refused(solo: Solo, path: str) -> tuple[int, str] | None:
    code, text = ask(solo, path)
    return None if code == 200 else (code, text)


def test_without_a_page_there_is_none(tmp_path: Path) -> None:
    solo = Solo(tmp_path, UNIT_DASHBOARD="off")
    try:
        solo.ready()
        assert ask(solo, "/") == (404, "there is no page here: UNIT_DASHBOARD=off\n")
        assert [ask(solo, path)[0] for path in ("/units", "/events")] == [404, 404]
    finally:
        solo.close()


@pytest.mark.slow
def test_a_flood_of_viewers_restarts_nobody(tmp_path: Path) -> None:
    unit = LocalUnit(tmp_path, "--guard", "--dashboard", "store")
    try:
        former = unit.ready()
        flood(unit.port, 10, "/", "/units", *(f"/units/{number}" for number in range(50)))  # two leases
        after = unit.ready()
        assert (after["restarts"], after["generation"]) == (0, former["generation"]), after["failure"]
        assert "internal error" not in unit.output.read_text()
    finally:
        unit.close()
