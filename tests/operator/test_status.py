"""``unitagent status`` of a Unit that is known by its store alone."""

from __future__ import annotations

import http.server
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.local import unitagent
from tests.acceptance.solo import UNIT, Solo
from tests.servers import running
from tests.waiting import DEADLINE, until
from unitagent.operator import agent_client
from unitagent.system.keyring import Keyring

STEPS = {"detect", "stop", "barrier", "start", "ready", "total"}


def test_what_only_agents_know_is_asked_of_rank_0(tmp_path: Path) -> None:
    with running(tmp_path) as redis:
        solo = Solo(tmp_path, "--backoff-seconds", "0", UNIT_REDIS_URL=redis.url)
        try:
            os.kill(solo.ready()["instances"][0]["pid"], signal.SIGKILL)
            solo.ready(above=1)
            seen = json.loads(solo.run("status", "--json"))
            assert (seen["guard"], seen["generation"]) == (True, 2)
            assert set(seen["recovery"]) == STEPS
            assert seen["recovery"]["total"] > 0
            solo.popen.kill()
            solo.popen.wait()
            seen = json.loads(solo.run("status", "--json"))
            assert seen["guard"] is None
            assert set(seen["recovery"].values()) == {None}
        finally:
            solo.close()


def test_a_unit_with_another_lease_than_this_shell_knows_is_not_silent(tmp_path: Path) -> None:
    with running(tmp_path) as redis:
        solo = Solo(tmp_path, "--lease-seconds", "60", "--heartbeat-seconds", "10", UNIT_REDIS_URL=redis.url)
        try:
            solo.ready()

            def read() -> dict[str, Any]:
                (one,) = json.loads(solo.run("status", "--json"))["instances"]
                return dict(one)

            assert until(lambda: read()["lease_seconds"] > 3 and read(), "it rests")["lease"] == 60
            assert "silent" not in solo.run("status")
            assert "warning" not in solo.run("pause", "--for", "10m")
            drained = solo.run("drain", "--wait")
            assert "drained: every rank has stopped after " in drained
            assert solo.popen.wait(DEADLINE) == 0
        finally:
            solo.close()


def test_while_the_store_is_away_the_agent_here_says_what_happens_next(tmp_path: Path) -> None:
    with running(tmp_path) as redis:
        solo = Solo(tmp_path, UNIT_REDIS_URL=redis.url)
        try:
            solo.ready()
            redis.kill()
            until(lambda: not solo.status()["store"]["connected"], "the agent notices")
            said = solo.run("status")
            assert said.count("start the server, correct UNIT_REDIS_URL") == 1  # what to do is said once
            assert f"Unit {UNIT}: ready" in said
            assert "the store does not answer (" in said
            assert "Connection refused" in said
            assert "; the Unit continues without it" in said
            there = f"127.0.0.1:{solo.port}"
            other = unitagent("status", "--unit", "b", "--redis-url", redis.url, "--http-address", there)
            assert (other.returncode, other.stdout) == (69, "")
        finally:
            solo.close()


@pytest.fixture
def told(request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of something that answers whatever the test says."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(request.param)

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def body(**changes: object) -> bytes:
    seen = {"unit": "u", "guard": True, "recovery": {"total": 1.0}, "instances": []}
    return json.dumps({**seen, **changes}).encode()


@pytest.mark.parametrize("told", [body()], indirect=True)
def test_an_agent_of_the_unit_is_believed(told: int) -> None:
    found = agent_client.fetch_agent_fields("u", "127.0.0.1", told, Keyring())
    assert found == {"guard": True, "recovery": {"total": 1.0}}


@pytest.mark.parametrize(
    "told",
    [
        b"", b"[]", b"{}", b"[" * 100_000, b"\xff",
        body(unit="another"), body(guard="yes"), body(recovery=None), body(recovery={"total": "x"}),
        body(instances=None),
    ],
    ids=range(10), indirect=True,
)  # fmt: skip
def test_what_is_no_answer_of_the_unit_counts_as_none(told: int) -> None:
    assert agent_client.fetch_agent_fields("u", "127.0.0.1", told, Keyring()) == {}
