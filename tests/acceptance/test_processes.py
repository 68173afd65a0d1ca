"""``unitagent processes`` of a real agent."""

from __future__ import annotations

import json
from pathlib import Path

from tests.acceptance.solo import Solo
from tests.operator.command import run


def test_it_shows_what_the_workload_uses(tmp_path: Path) -> None:
    solo = Solo(tmp_path)
    try:
        pid = solo.ready()["instances"][0]["pid"]
        found = json.loads(solo.run("processes", "--json"))
        main = next(one for one in found if one["pid"] == pid)
        assert main["memory_bytes"] > 100_000
        assert main["threads"] >= 1
        assert main["open_files"] >= 1
        head, *rows = solo.run("processes").splitlines()
        assert head.split() == ["pid", "parent", "name", "cpu", "memory", "threads", "files", "age"]
        assert len(rows) == len(found)
    finally:
        solo.close()


def test_without_an_agent_it_says_so() -> None:
    done = run("processes", "--http-address", "127.0.0.1:9")
    assert done.returncode == 1
    assert "no agent answers at 127.0.0.1:9: run this command in a container of the Unit" in done.stderr
