"""``unitagent events`` and ``timeline`` on a real store, which may go away and hold anything."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.local import clean
from tests.acceptance.solo import Solo
from tests.operator.command import UNITAGENT, run
from tests.records import exchange, moment, record
from tests.servers import Server, running
from tests.waiting import until
from unitagent.core.history import EventKind, HistoryEvent
from unitagent.core.model import InstanceState
from unitagent.operator.history import history_cli
from unitagent.store import history as store_history
from unitagent.store.history import UnitHistory
from unitagent.store.redis_store import RedisStore


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path) as server:
        yield server


def tell(server: Server, *moments: HistoryEvent, ago: float = 0.0) -> None:
    async def add() -> None:
        history = UnitHistory("u", server.url, timeout=5)
        await history.add_events(moments, lambda: ago)
        await history.close()

    asyncio.run(add())


def ask(server: Server, *words: str) -> subprocess.CompletedProcess[str]:
    return run(*words, "--unit", "u", environ={"UNIT_REDIS_URL": server.url, "TZ": "UTC"})


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("command", ["events", "timeline"])
def test_a_unit_that_nobody_knows_is_no_error_and_said(server: Server, command: str) -> None:
    done = ask(server, command)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("unitagent: the store has no history of Unit u; `unitagent list` shows")
    assert ask(server, "status").returncode == 1  # a history outlives its Unit, a status does not


@pytest.mark.parametrize("command", ["events", "timeline"])
def test_a_store_that_is_not_there_is_one_line(command: str) -> None:
    done = run(command, environ={"UNIT_REDIS_URL": "redis://127.0.0.1:1"})
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (69, "", 1)
    assert done.stderr.startswith("unitagent: error: the store at 127.0.0.1:1 cannot be reached")


def test_what_came_twice_is_told_once_and_what_is_none_is_left_out(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(server, moment(0, 0), moment(1, 0), moment(0, 1))
    server.command("XADD", "unitagent:{u}:history", "*", "at", "x", "moment", "{}")
    tell(server, moment(0, 1), moment(1, 1))
    done = ask(server, "events", "--json")
    assert sorted((one["rank"], one["detail"]) for one in objects(done.stdout)) == [
        (0, "moment 0"), (0, "moment 1"), (1, "moment 0"), (1, "moment 1"),
    ]  # fmt: skip
    assert done.stderr == "unitagent: an entry of the history in the store cannot be read; ignored it\n"

    async def in_small_pages() -> int:
        history = UnitHistory("u", server.url, timeout=5)
        found = await history_cli.HistoryReader(history).read_new_events()
        await history.close()
        return len(found)

    monkeypatch.setattr(store_history, "_PAGE", 1)
    assert asyncio.run(in_small_pages()) == 4


def test_only_what_is_new_enough_is_told(server: Server) -> None:
    tell(server, moment(number=1), ago=7200)
    tell(server, moment(number=2), ago=60)
    details = [one["detail"] for one in objects(ask(server, "events", "--json", "--since", "10m").stdout)]
    assert details == ["moment 2"]
    assert len(objects(ask(server, "events", "--json", "--since", "3h").stdout)) == 2
    assert ask(server, "events", "--since", "1s").stderr == ""


def test_a_rank_that_is_silent_is_drawn_as_lost(server: Server) -> None:
    async def join() -> None:
        store = RedisStore("u", server.url, timeout=5, rank=0, incarnation="i0")
        await store.exchange(exchange(record(0, "i0", size=1)))
        await store.close()

    asyncio.run(join())
    tell(server, moment(0, 0, state=InstanceState.HEALTHY, kind=EventKind.STATE), ago=5)

    def drawn() -> str:
        done = ask(server, "timeline", "--lease-seconds", "1", "--heartbeat-seconds", "0.2")
        assert done.returncode == 0, done.stderr
        return next(row for row in done.stdout.splitlines() if row.startswith("rank 0"))

    until(lambda: drawn().endswith("?"), "its lease is over")
    assert "#" in drawn()


@pytest.fixture
def follow(server: Server, tmp_path: Path) -> Iterator[Callable[[], tuple[str, str]]]:
    """What a follower has said so far."""
    told, said = tmp_path / "told", tmp_path / "said"
    with told.open("wb") as out, said.open("wb") as errors:
        follower = subprocess.Popen(
            [*UNITAGENT, "events", "--unit", "u", "--follow", "--json"],
            env=clean(UNIT_REDIS_URL=server.url), stdin=subprocess.DEVNULL, stdout=out, stderr=errors,
        )  # fmt: skip
    yield lambda: (told.read_text(), said.read_text())
    follower.terminate()
    follower.wait(60)


def test_what_goes_on_happening_is_followed_across_an_outage(
    server: Server, follow: Callable[[], tuple[str, str]]
) -> None:
    def details() -> list[str]:
        return [one["detail"] for one in objects(follow()[0])]

    until(lambda: "has no history of Unit u" in follow()[1], "it has looked")
    tell(server, moment(number=0))
    until(lambda: details() == ["moment 0"], "it follows")
    server.kill()
    until(lambda: "trying again" in follow()[1], "it notices")
    server.start()
    until(lambda: "the store answers again" in follow()[1], "it is back")
    tell(server, moment(number=1))
    until(lambda: details() == ["moment 0", "moment 1"], "it follows again")
    assert follow()[1].count("\n") == 3


def test_an_order_is_told_with_who_and_why_and_needs_no_history(server: Server, tmp_path: Path) -> None:
    solo = Solo(tmp_path, "--backoff-seconds", "0", UNIT_REDIS_URL=server.url, LOGNAME="ops")
    try:
        solo.ready()
        solo.run("restart", "--reason", "new weights", "--wait")

        def kinds() -> list[str]:
            return [one["kind"] for one in objects(solo.run("events", "--json"))]

        until(lambda: "ready" in kinds()[kinds().index("restart") :], "it serves again")
        order = next(one for one in objects(solo.run("events", "--json")) if one["kind"] == "order")
        assert order["detail"].startswith("ops@")
        assert order["detail"].endswith(" asked for a restart: new weights")
        assert kinds().index("order") < kinds().index("restart")
        server.command("ACL", "SETUSER", "default", "-xadd")
        said = solo.run("restart", "--wait")
        assert "warning: the order is not in the Unit's history: the store at" in said
        assert solo.status()["generation"] == 3
        until(lambda: "cannot write the Unit's history for now" in solo.output.read_text(), "it is said")
        time.sleep(1)  # nothing to wait for: it must not be said again
        assert solo.output.read_text().count("cannot write the Unit's history for now") == 1
        assert solo.ready()["generation"] == 3
    finally:
        solo.close()


def test_an_embedded_store_has_it_too(tmp_path: Path) -> None:
    solo = Solo(tmp_path)
    try:
        solo.ready()
        until(lambda: " ready " in solo.run("events"), "it is told")
        rows = solo.run("timeline", "--since", "1h").splitlines()
        assert any(row.startswith("rank 0") and row.endswith("#") for row in rows)
        picture = tmp_path / "picture.svg"
        assert solo.run("timeline", "--svg", str(picture)) == ""
        assert picture.read_text().startswith("<svg ")
        said = solo.run("timeline", "--svg", str(tmp_path))
        assert said.startswith(
            f"unitagent: error: --svg={str(tmp_path)!r}: must be the path of a writable file"
        )
    finally:
        solo.close()
