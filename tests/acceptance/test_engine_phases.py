"""What an engine's start was made of, on a real Unit: a stand-in on the PATH writes the lines of a real one,
faster, and then serves.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.local import clean
from tests.acceptance.solo import Solo
from tests.frameworks_table.test_phase_lines import STARTS
from tests.ports import free_port
from tests.servers import running
from tests.waiting import DEADLINE, until

SLOWER = 8.0  # seconds that weights take longer where a file says so
ENGINE = f"""\
#!{sys.executable}
import http.server, pathlib, sys, time
folder, story = pathlib.Path(__file__).parent, pathlib.Path(sys.argv[sys.argv.index("--model-path") + 1])
port = int(sys.argv[sys.argv.index("--port") + 1])
last = 0.0
for line in story.read_bytes().splitlines():
    at, text = float(line[:6]), line[8:]
    time.sleep((at - last) / 200)
    if b"Model loading took" in text or b"Load weight end" in text:
        time.sleep({SLOWER} * (folder / "slow").exists())
    last = at
    sys.stdout.buffer.write(text + b"\\n")
    sys.stdout.buffer.flush()

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
STORIES = {
    "vllm": ("vllm-0.32-gpu", {"compile", "kv_cache", "graph_capture"}),
    "sglang": ("sglang-0.5.23", {"kv_cache", "graph_capture"}),
}
ALWAYS = {"imports", "distributed_init", "weights", "server", "other"}


@pytest.fixture
def units() -> Iterator[list[Solo]]:
    started: list[Solo] = []
    yield started
    for unit in started:
        unit.close()


def start(folder: Path, engine: str, **variables: str) -> Solo:
    folder.mkdir(exist_ok=True)
    (folder / engine).write_text(ENGINE)
    (folder / engine).chmod(0o755)
    story = STARTS / f"{STORIES[engine][0]}.txt"
    command = (engine, "serve", "--model-path", str(story), "--port", str(free_port()))
    path = f"{folder}:{clean()['PATH']}"
    more = {"PATH": path, "UNIT_FRAMEWORK": "auto", **variables}
    return Solo(folder, "--backoff-seconds", "0", command=command, **more)


def find_start(unit: Solo, generation: int) -> dict[str, Any]:
    """The engine's start once it has ended."""

    def look() -> dict[str, Any]:
        told: dict[str, Any] = unit.status().get("engine") or {}
        return told if told.get("generation") == generation and told["total"] is not None else {}

    unit.ready(above=generation - 1)
    return until(look, f"the start in generation {generation} is told")


def find_events(unit: Solo, count: int) -> list[dict[str, Any]]:
    def look() -> list[dict[str, Any]]:
        lines = [line for line in unit.run("events", "--json").splitlines() if line.startswith("{")]
        told = [one for one in map(json.loads, lines) if one["kind"] == "engine"]
        return told if len(told) >= count else []

    return until(look, f"{count} starts are in the history")


@pytest.mark.parametrize("engine", STORIES)
def test_a_start_is_told_everywhere_and_a_slower_one_says_why(
    tmp_path: Path, units: list[Solo], engine: str
) -> None:
    unit = start(tmp_path / "unit", engine, UNIT_LOG_FORMAT="json")
    units.append(unit)
    first = find_start(unit, 1)
    assert set(first["phases"]) == ALWAYS | STORIES[engine][1]
    assert sum(first["phases"].values()) == pytest.approx(first["total"], abs=0.01)
    assert first["message"].startswith(f"rank 0's engine started in {first['total']:.1f} s: imports ")
    (tmp_path / "unit" / "slow").touch()
    os.kill(unit.status()["instances"][0]["pid"], signal.SIGKILL)
    second = find_start(unit, 2)
    assert second["last"] == first["phases"]
    assert second["phases"]["weights"] >= SLOWER
    slower = f"weights took {second['phases']['weights']:.1f} s, {first['phases']['weights']:.1f} s then"
    assert slower in second["message"]
    told = find_events(unit, 2)
    assert [one["phases"] for one in told] == [first["phases"], second["phases"]]
    assert [(one["rank"], one["generation"], one["state"]) for one in told] == [(0, 1, None), (0, 2, None)]
    assert slower in told[1]["detail"]
    assert f"engine: {second['message']}" in unit.run("status").replace("\n  ", " ")
    assert "rank 0 (127.0.0.1)'s engine started in" in unit.run("timeline")
    weights = f'unitagent_engine_phase_seconds{{phase="weights"}} {second["phases"]["weights"]}'
    assert weights in unit.get("/metrics")
    lines = [json.loads(line) for line in unit.output.read_text().splitlines() if line.startswith('{"time"')]
    assert [one["generation"] for one in lines if one.get("event") == "engine"] == [1, 2]


def test_a_rebuilt_instance_compares_with_the_last_start_of_the_one_before(
    tmp_path: Path, units: list[Solo]
) -> None:
    with running(tmp_path) as redis:
        units.append(start(tmp_path / "first", "vllm", UNIT_REDIS_URL=redis.url))
        first = find_start(units[0], 1)
        find_events(units[0], 1)
        units[0].popen.terminate()
        assert units[0].popen.wait(DEADLINE) == 0
        (tmp_path / "second").mkdir()
        (tmp_path / "second" / "slow").touch()
        units.append(start(tmp_path / "second", "vllm", UNIT_REDIS_URL=redis.url))
        told = find_events(units[1], 2)
        assert told[0]["phases"] == first["phases"]
        assert (
            f"s more than the last start: weights took {told[1]['phases']['weights']:.1f} s"
            in told[1]["detail"]
        )
        assert units[1].status()["engine"]["last"] == first["phases"]
        for unit in units:
            unit.close()


def test_of_a_command_that_is_no_known_engine_nothing_is_said(tmp_path: Path, units: list[Solo]) -> None:
    units.append(Solo(tmp_path))
    assert units[0].ready()["engine"] is None
    assert "engine" not in units[0].run("status")
    assert "engine_phase_seconds{" not in units[0].get("/metrics")
