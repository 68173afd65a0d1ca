"""What others have written reaches no terminal and no log as anything but words on one line."""

from __future__ import annotations

import http.server
import json
import threading
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.local import unitagent
from tests.acceptance.solo import UNIT, Solo
from tests.servers import Server, running
from tests.waiting import until
from unitagent.core.model import Failure, Reason
from unitagent.store import codec
from unitagent.store.keys import KeyNames
from unitagent.store.protocol import WorkloadOutput
from unitagent.system import safe_output

FORGED = f"Unit {UNIT}: running, generation 9, ready"
EVIL = f"\x1b[2J\x1b]52;c;ZXZpbA==\x07\x9b31m\u202eevil\u2028\r\n{FORGED}\n"
FAILURE = Failure(generation=1, rank=0, ip="127.0.0.1", reason=Reason.EXIT, detail=EVIL)
OUTPUT = WorkloadOutput(generation=1, rank=0, lines=(EVIL, "and more"))


def obeyed(text: str) -> list[str]:
    """All in it that a terminal does more with than show it."""
    return [repr(letter) for letter in text if unicodedata.category(letter) in {"Cc", "Cf", "Zl", "Zp"}]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path) as server:
        yield server


@pytest.fixture
def solo(tmp_path: Path, server: Server) -> Iterator[Solo]:
    options = ["--log-level", "info", "--log-format", "text", "--backoff-seconds", "0"]
    solo = Solo(tmp_path, *options, UNIT_REDIS_URL=server.url)
    solo.ready()
    yield solo
    solo.close()


def poison(server: Server) -> None:
    """Write into the board of a Unit whose agent has gone."""
    keys = KeyNames(UNIT)
    _, _, raw = server.command("HGET", keys.membership_table, "r0").partition(b"\r\n")
    record = {**json.loads(raw), "hostname": EVIL, "revision": EVIL}
    server.command("HSET", keys.membership_table, "r0", json.dumps(record))
    server.command("HSET", keys.membership_table, "failure", codec.encode_failure(FAILURE))
    server.command("SET", keys.name_output(1), codec.encode_value(OUTPUT))


def test_what_is_in_the_store_is_shown_and_not_interpreted(solo: Solo, server: Server) -> None:
    solo.popen.kill()
    solo.popen.wait()
    poison(server)
    shown = solo.run("status")
    assert shown.count(r"\x1b[2J") == 2, shown  # the failure, the output; a host of such a name is none
    assert obeyed(shown.replace("\n", "")) == []
    assert FORGED not in shown.split("\n")


def test_a_log_has_no_line_that_somebody_else_began(solo: Solo) -> None:
    solo.run("restart", "--reason", EVIL)
    solo.ready(above=1)
    until(lambda: "evil" in solo.output.read_text(), "the log tells of the order")
    text = solo.output.read_bytes().decode()
    assert obeyed(text.replace("\n", "")) == []
    assert all(f"unitagent[{UNIT}/" in each for each in text.splitlines()), text


class Evil(http.server.BaseHTTPRequestHandler):
    """An impostor at a probe address."""

    def do_GET(self) -> None:
        self.send_response(503)
        self.end_headers()
        self.wfile.write(EVIL.encode())

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


def test_a_probe_shows_one_line() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), Evil) as impostor:
        threading.Thread(target=impostor.serve_forever, daemon=True).start()
        done = unitagent("probe", "live", "--address", f"127.0.0.1:{impostor.server_port}")
        impostor.shutdown()
    shown = done.stdout + done.stderr
    assert "ZXZpbA==" in shown
    assert obeyed(shown.replace("\n", "")) == []


def test_an_error_is_one_line(solo: Solo) -> None:
    shown = solo.run("status", f"--{EVIL}")
    assert "evil" in shown
    assert obeyed(shown.replace("\n", "")) == []
    assert FORGED not in shown.split("\n")


def test_json_means_the_same() -> None:
    given = {"message": EVIL + "é 模型 🚀"}
    text = safe_output.escape_json(json.dumps(given, ensure_ascii=False))
    assert obeyed(text) == []
    assert json.loads(text) == given
    assert "é 模型 🚀" in text
