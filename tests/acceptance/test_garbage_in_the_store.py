"""A real agent while somebody fills its keys with garbage: it serves on, and does not grow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.acceptance.solo import UNIT, Solo
from tests.servers import Server, running
from tests.store.content import GARBAGE, Words, writes
from tests.waiting import until

FIELDS = ["born", "version", "failure", "order", "r0", "h0", "b0", "r1", "h1", "b1", "r1024", "rx"]
GROWTH = 6 << 20  # bytes


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path) as server:
        yield server


@pytest.fixture
def solo(tmp_path: Path, server: Server) -> Iterator[Solo]:
    solo = Solo(tmp_path, "--heartbeat-seconds", "0.2", "--log-level", "info", UNIT_REDIS_URL=server.url)
    yield solo
    solo.close()


def test_it_serves_on(solo: Solo, server: Server) -> None:
    before = solo.ready()["instances"][0]["pid"]
    memory = psutil.Process(solo.popen.pid).memory_info().rss

    @settings(max_examples=150, database=None)
    @given(st.lists(writes(UNIT, FIELDS, GARBAGE), min_size=1, max_size=4))
    def disturb(content: list[list[Words]]) -> None:
        for command in (command for one in content for command in one):
            server.command(*command)
        assert solo.popen.poll() is None, solo.output.read_text()
        assert solo.get("/livez") == "ok\n"

    disturb()
    server.command("FLUSHALL")
    until(
        lambda: b"1" in server.command("HEXISTS", f"unitagent:{{{UNIT}}}:board", "r0"),
        "it writes its record again",
    )
    seen = solo.ready()
    assert (seen["instances"][0]["pid"], seen["restarts"], seen["failure"]) == (before, 0, None)
    assert psutil.Process(solo.popen.pid).memory_info().rss - memory < GROWTH
    assert "Traceback" not in solo.output.read_text()
    assert "internal error" not in solo.output.read_text()
