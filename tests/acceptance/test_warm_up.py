"""UNIT_WARMUP_URL: rank 0's engine has answered a request before its Unit is ready, if it can."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.local import LocalUnit
from tests.acceptance.solo import Solo
from tests.ports import free_port
from tests.waiting import until

SERVER = """
import http.server, os, pathlib, sys, time
folder, port, code = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
class Engine(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200)
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with (folder / "asked").open("a") as file:
            file.write(f"{os.environ['RANK_ID']} {os.environ['UNIT_GENERATION']} {self.path} {body}\\n")
        while not (folder / "go").exists():
            time.sleep(0.01)
        self.answer(code)
    def answer(self, code):
        self.send_response(code)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer((os.environ["RANK_IP"], port), Engine).serve_forever()
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Solo]]:
    units: list[Solo] = []

    def begin(code: int = 200, **variables: str) -> Solo:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        given = {
            "UNIT_HEALTH_URL": f"{url}/health",
            "UNIT_WARMUP_URL": f"{url}/v1/completions",
            "UNIT_WARMUP_BODY": '{"prompt": "x"}',
            "UNIT_BACKOFF_SECONDS": "0",
        }
        command = (sys.executable, "-c", SERVER, str(tmp_path), str(port), str(code))
        units.append(Solo(tmp_path, command=command, **given, **variables))
        return units[-1]

    yield begin
    for unit in units:
        unit.close()


def list_requests(folder: Path) -> list[str]:
    file = folder / "asked"
    return file.read_text().splitlines() if file.exists() else []


def find_warming(status: dict[str, Any]) -> dict[str, Any]:
    return status if "warming up" in status["summary"]["message"] else {}


def test_the_unit_is_ready_once_its_engine_has_answered(start: Callable[..., Solo], tmp_path: Path) -> None:
    unit = start()
    until(lambda: list_requests(tmp_path), "the request has come")
    seen = until(lambda: find_warming(unit.status()), "it is said")
    assert not seen["ready"]
    assert "/v1/completions: warming up" in seen["summary"]["message"]
    assert "warming up" in unit.run("status")
    assert "warming up" in seen["conditions"][0]["message"]
    (tmp_path / "go").touch()
    unit.ready()
    assert list_requests(tmp_path) == ['0 1 /v1/completions {"prompt": "x"}']
    assert "warmed up by POST http://127.0.0.1:" in unit.output.read_text()
    assert "warming up" not in unit.run("status")


def test_each_start_is_warmed_up(start: Callable[..., Solo], tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    unit = start()
    unit.ready()
    unit.run("restart")
    unit.ready(above=1)
    assert [line.split()[1] for line in list_requests(tmp_path)] == ["1", "2"]


def test_an_engine_that_refuses_is_ready_all_the_same(start: Callable[..., Solo], tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    unit = start(code=404)
    unit.ready()
    assert "the Unit is ready without a warm-up: POST" in unit.output.read_text()
    assert len(list_requests(tmp_path)) == 3


@pytest.mark.parametrize(
    "limit",
    [{"UNIT_WARMUP_SECONDS": "1"}, {"UNIT_STARTUP_SECONDS": "10"}],
    ids=["its own", "that of a start"],
)
def test_an_engine_that_does_not_answer_is_ready_in_time(
    start: Callable[..., Solo], tmp_path: Path, limit: dict[str, str]
) -> None:
    unit = start(**limit)
    assert unit.ready()["generation"] == 1
    assert "no answer within" in unit.output.read_text()
    (tmp_path / "go").touch()


def test_an_engine_that_dies_meanwhile_is_a_failure_as_ever(
    start: Callable[..., Solo], tmp_path: Path
) -> None:
    unit = start()
    until(lambda: list_requests(tmp_path), "the request has come")
    unit.run("restart")
    until(lambda: len(list_requests(tmp_path)) == 2, "it was started and asked again")
    (tmp_path / "go").touch()
    assert unit.ready()["generation"] == 2


def test_only_rank_0_is_asked(tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    options = ["--health-url", f"{url}/health", "--warmup-url", f"{url}/w", "--warmup-body", "{}"]
    unit = LocalUnit(
        tmp_path, *options, workload=[sys.executable, "-c", SERVER, str(tmp_path), str(port), "200"]
    )
    try:
        unit.ready()
    finally:
        unit.close()
    assert list_requests(tmp_path) == ["0 1 /w {}"]
