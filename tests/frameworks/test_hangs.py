"""Real torch.distributed ranks over gloo, of which one hangs: the failure names it and what it does."""

from __future__ import annotations

import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.local import LocalUnit
from tests.frameworks.installed import PROGRAMS
from tests.waiting import until

SIZE = 3


class Health(http.server.BaseHTTPRequestHandler):
    code = 200

    def do_GET(self) -> None:
        self.send_response(type(self).code)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def health() -> Iterator[tuple[str, type[Health]]]:
    """The health URL of rank 0, and what turns it."""

    class Mine(Health):
        pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mine) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", Mine
        server.shutdown()


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("open", "rank 1 is in read_model (hang.py:"),
        ("spin", "rank 1 is in spin (hang.py:"),
        ("stop", "rank 1 is suspended (state T) in stop (hang.py:"),
    ],
)
def test_the_odd_one_is_named(
    tmp_path: Path, torch: Path, health: tuple[str, type[Health]], how: str, words: str
) -> None:
    os.mkfifo(tmp_path / "model")
    options = ["--guard", "--health-url", health[0], "--health-interval-seconds", "0.5"]
    options += ["--health-failures", "2", "--evidence-dir", str(tmp_path / "evidence")]
    options += ["--evidence-seconds", "30"]
    program = [str(torch / "python"), str(PROGRAMS / "hang.py"), "1", how, str(tmp_path / "model")]
    unit = LocalUnit(tmp_path, *options, size=SIZE, workload=program)
    try:
        unit.ready()
        ranks = [tmp_path / f"model.1.{rank}" for rank in range(SIZE)]
        until(lambda: all(one.exists() for one in ranks), "all ranks have summed twice")
        health[1].code = 503

        def named() -> str:
            failure = unit.status().get("failure")
            found = str(failure["detail"]) if failure else ""
            return found if words in found else ""

        found = until(named, f"{words} is part of the failure")
        assert "2 of 3 ranks wait in all_reduce, called by step (hang.py:" in found
        if how == "open":
            assert f"open of {tmp_path / 'model'}" in found
        health[1].code = 200
        unit.ready(2)
    finally:
        unit.close()
