"""At 3 a.m.: does it serve, and if not, why and since when. Real Units that are broken in several ways, and
what each place that a person looks at says.
"""

from __future__ import annotations

import http.server
import json
import os
import pty
import re
import select
import signal
import socketserver
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.local import UNIT as LOCAL
from tests.acceptance.local import UNITAGENT, LocalUnit, clean, unitagent
from tests.acceptance.solo import UNIT, Solo
from tests.ports import free_port
from tests.servers import running
from tests.waiting import DEADLINE, until


class Engine(http.server.BaseHTTPRequestHandler):
    """Answers 404 at all paths but /health, which is at most as good as the test says."""

    code = 200

    def do_GET(self) -> None:
        self.send_response(self.code if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def engine() -> Iterator[str]:
    """The address of an engine that has started elsewhere."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Engine) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def hanging() -> Iterator[str]:
    """The address of one that accepts connections and says nothing, as an engine that loads."""
    released = threading.Event()

    class Hang(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            released.wait(DEADLINE)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Hang) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/health"
        released.set()
        server.shutdown()


def readyz(address: str) -> str:
    """What ``/readyz`` says, ready or not."""
    try:
        with urllib.request.urlopen(f"http://{address}/readyz", timeout=5) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as refused:
        return refused.read().decode()
    except OSError:
        return ""


def health_sentence(url: str, problem: str) -> re.Pattern[str]:
    return re.compile(rf"rank 0's health {re.escape(url)}: {problem}, \d+ s, [1-9]\d* checks?")


def test_a_health_url_that_refuses_is_told_everywhere(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/health"
    sentence = health_sentence(url, "connection refused")
    unit = LocalUnit(tmp_path, "--guard", "--health-url", url)
    try:
        until(lambda: sentence.search(readyz(unit.address(0))), "/readyz of rank 0 says why")
        told = f"rank 0's health {url}: connection refused, "
        until(lambda: told in readyz(unit.address(1)), "/readyz of rank 1 says why")
        for rank in (0, 1):
            seen = unit.status(rank)
            conditions = {one["type"]: one for one in seen["conditions"]}
            assert conditions["WorkloadHealthy"]["reason"] == "HealthCheckFailing", seen
            assert told in conditions["Ready"]["message"]
            assert abs(time.time() - conditions["WorkloadHealthy"]["since"]) < DEADLINE
            assert seen["summary"]["severity"] == "busy"
        table = unitagent("status", "--unit", LOCAL, "--http-address", unit.address(1)).stdout
        assert re.match(rf"Unit {LOCAL}: loading for \d+ s, waiting for {re.escape(told)}", table), table
        log = unit.output.read_text()
        assert re.search(rf"rank 0's health {re.escape(url)}: connection refused, 0 s, 1 check\b", log), log
        assert log.count("connection refused") < 10
    finally:
        unit.close()


def test_a_wrong_path_an_engine_that_hangs_and_one_that_recovers(
    tmp_path: Path, engine: str, hanging: str
) -> None:
    for url, problem in ((f"{engine}/healthz", "answered 404"), (hanging, "no answer yet")):
        solo = Solo(tmp_path, "--health-url", url)
        try:
            told = f"rank 0's health {url}: {problem}, "
            until(lambda told=told, solo=solo: told in readyz(f"127.0.0.1:{solo.port}"), problem)  # type: ignore[misc]
            assert told in solo.run("status")
        finally:
            solo.close()


def test_a_planned_restart_leaves_the_crash_in_status_and_metrics(tmp_path: Path) -> None:
    solo = Solo(tmp_path, "--backoff-seconds", "0")
    try:
        os.kill(solo.ready()["instances"][0]["pid"], signal.SIGKILL)
        solo.ready(above=1)
        said = solo.run("restart", "--reason", "new weights", "--wait")
        assert re.search(rf"{UNIT}: restarted: every rank serves after \d+\.\d s\n", said), said
        seen = solo.ready(above=2)
        assert (seen["failure"]["reason"], seen["failure"]["generation"]) == ("signal", 1)
        assert "new weights" in seen["last_order"]["detail"]
        table = solo.run("status")
        assert re.search(r"^last ordered restart \d+ s ago, .*: new weights", table, re.MULTILINE), table
        assert re.search(r"^last failure \d+ s ago, .*SIGKILL", table, re.MULTILINE), table
        metrics = solo.get("/metrics")
        assert 'unitagent_restarts_total{origin_rank="0",reason="signal"} 1.0' in metrics
        assert 'unitagent_restarts_total{origin_rank="",reason="requested"} 1.0' in metrics
        log = solo.output.read_text()
        assert "restart 1 of 10 within 3600 s (UNIT_MAX_RESTARTS), at once" in log
        assert "restart on request" in log
    finally:
        solo.close()


def test_the_log_tells_the_start_and_who_asked_for_the_end(tmp_path: Path) -> None:
    solo = Solo(tmp_path, UNIT_LOG_FORMAT="text")
    try:
        pid = solo.ready()["instances"][0]["pid"]
        solo.popen.terminate()
        assert solo.popen.wait(DEADLINE) == 0
        log = solo.output.read_text()
        assert re.search(rf"unitagent \d+\.\d+\S* starts as rank 0 of 1 in Unit {UNIT}", log), log
        assert f"started process {pid}: sh -c " in log
        assert "draining, asked by SIGTERM" in log
        assert "exit 0: asked to stop by SIGTERM" in log
    finally:
        solo.close()


def test_an_order_that_takes_too_long_ends_with_124_and_stands(tmp_path: Path, engine: str) -> None:
    solo = Solo(tmp_path, "--health-url", f"{engine}/health")
    try:
        solo.ready()
        Engine.code = 503
        words = ["restart", "--wait", "--timeout", "2", "--unit", UNIT]
        done = unitagent(*words, "--http-address", f"127.0.0.1:{solo.port}")
        assert done.returncode == 124, done
        assert f"waiting for rank 0's health {engine}/health: answered 503" in done.stderr
        assert "not done within 2 s (--timeout)" in done.stderr
        assert "the order stands" in done.stderr
        Engine.code = 200
        solo.ready(above=1)
    finally:
        Engine.code = 200
        solo.close()


def test_a_timeout_without_wait_is_refused() -> None:
    done = unitagent("drain", "--timeout", "2")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--timeout: only counts with --wait" in done.stderr


def test_the_store_tells_a_unit_that_is_gone_from_one_that_never_was(tmp_path: Path) -> None:
    with running(tmp_path) as redis:
        solo = Solo(tmp_path, "--lease-seconds", "2", UNIT_REDIS_URL=redis.url)

        def phase() -> str:
            done = unitagent("status", "--json", "--unit", UNIT, "--redis-url", redis.url)
            return str(json.loads(done.stdout)["phase"]) if done.returncode == 0 else ""

        try:
            solo.ready()
            never = unitagent("status", "--unit", "nobody", "--redis-url", redis.url)
            assert (never.returncode, never.stdout) == (1, "")
            assert "UNIT_ID=nobody: no such Unit in the store; `unitagent list`" in never.stderr
            os.kill(solo.popen.pid, signal.SIGSTOP)
            until(lambda: phase() == "silent", "all ranks are silent")
            table = unitagent("status", "--unit", UNIT, "--redis-url", redis.url).stdout
            assert re.match(rf"Unit {UNIT}: silent: no rank has sent a heartbeat for \d+ s\n", table), table
            assert re.search(r" lost +127\.0\.0\.1 .* lost for \d+ s$", table, re.MULTILINE), table
            os.kill(solo.popen.pid, signal.SIGCONT)
            until(lambda: phase() not in ("", "silent"), "it is back")
            solo.popen.terminate()
            assert solo.popen.wait(DEADLINE) == 0
            assert phase() == "drained"
        finally:
            solo.close()


class Watching:
    """``status --watch`` on a terminal of its own."""

    def __init__(self, *words: str, columns: int = 100, **variables: str) -> None:
        self.master, there = pty.openpty()
        os.set_blocking(self.master, False)
        size = {"COLUMNS": str(columns), "LINES": "24", "TERM": "xterm"}
        self.popen = subprocess.Popen(
            [*UNITAGENT, "status", *words],
            env=clean(**size, **variables),
            stdin=there,
            stdout=there,
            stderr=there,
        )
        os.close(there)
        self.text = ""

    def says(self, what: str) -> bool:
        while select.select([self.master], (), (), 0)[0]:
            try:
                self.text += os.read(self.master, 65536).decode(errors="replace")
            except OSError:
                break
        return what in self.text

    def close(self) -> None:
        self.popen.kill()
        self.popen.wait()
        os.close(self.master)


def test_a_watch_redraws_in_place_in_colour_and_outlives_the_store(tmp_path: Path) -> None:
    with running(tmp_path) as redis:
        solo = Solo(tmp_path, UNIT_REDIS_URL=redis.url)
        address = f"127.0.0.1:{free_port()}"  # where no agent answers
        words = ["-w", "--interval", "0.2", "--unit", UNIT, "--http-address", address]
        watching = Watching(*words, UNIT_REDIS_URL=redis.url)
        try:
            until(lambda: watching.says("no such Unit") or watching.says("ready"), "something is shown")
            solo.ready()
            until(lambda: watching.says("\x1b[32mUnit"), "a good Unit is green")
            assert watching.text.startswith("\x1b[H\x1b[2J")
            assert watching.text.count("\x1b[2J") == 1
            redis.kill()
            until(lambda: watching.says(" no answer; what follows is the last one, of "), "it is old")
            until(lambda: watching.says(f"\x1b[2mUnit {UNIT}: ready"), "the last answer is grey")
            assert watching.popen.poll() is None
            watching.popen.send_signal(signal.SIGINT)
            assert watching.popen.wait(DEADLINE) == 130
        finally:
            watching.close()
            solo.close()


def test_no_color_is_respected(tmp_path: Path) -> None:
    solo = Solo(tmp_path)
    try:
        solo.ready()
        address = ["--unit", UNIT, "--http-address", f"127.0.0.1:{solo.port}"]
        watching = Watching("--watch", *address, NO_COLOR="1")
        try:
            until(lambda: watching.says(f"Unit {UNIT}: ready"), "the Unit is shown")
            assert "\x1b[32m" not in watching.text
        finally:
            watching.close()
    finally:
        solo.close()
