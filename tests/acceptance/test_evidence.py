"""Evidence of real Units: who is different, why one crashed, and that nothing waits longer than it may."""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.local import UNIT, LocalUnit, unitagent
from tests.acceptance.solo import Solo
from tests.evidence.collecting import GANG
from tests.servers import running
from tests.waiting import DEADLINE, until
from unitagent.system import procfs


class Health(http.server.BaseHTTPRequestHandler):
    """Healthy until told otherwise."""

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


@pytest.fixture
def units() -> Iterator[list[LocalUnit | Solo]]:
    made: list[LocalUnit | Solo] = []
    yield made
    for one in made:
        one.close()


def detail(unit: LocalUnit) -> str:
    failure = unit.ask().get("failure")
    return str(failure["detail"]) if failure else ""


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("open", "rank 1 is in open_model (gang.py:"),
        ("spin", "rank 1 is in spin (gang.py:"),
        ("stop", "rank 1 is suspended (state T) in stop (gang.py:"),
    ],
)
def test_the_odd_one_is_part_of_the_failure(
    tmp_path: Path, units: list[LocalUnit | Solo], health: tuple[str, type[Health]], how: str, words: str
) -> None:
    os.mkfifo(tmp_path / "model")
    options = [
        "--guard",
        "--health-url",
        health[0],
        "--health-interval-seconds",
        "0.5",
        "--health-failures",
        "2",
    ]
    options += ["--evidence-dir", str(tmp_path / "evidence"), "--evidence-seconds", "30"]
    workload = [sys.executable, str(GANG), "1", how, str(tmp_path / "model")]
    unit = LocalUnit(tmp_path, *options, size=3, workload=workload)
    units.append(unit)
    unit.ready()
    health[1].code = 503

    def named() -> str:
        found = detail(unit)
        return found if words in found else ""

    assert "2 of 3 ranks wait in all_reduce (gang.py:" in until(named, f"{words} is part of the failure")
    health[1].code = 200
    unit.ready(2)
    shown = unitagent("evidence", "--unit", UNIT, "--http-address", unit.address(2), "--generation", "1")
    assert shown.returncode == 0, shown.stderr
    assert words in shown.stdout
    assert shown.stdout.count("files, ") == 3
    assert unit.interrupt() == 0
    assert not unit.survivors()


def test_all_files_are_fetched_by_who_knows_the_secret(tmp_path: Path, units: list[LocalUnit | Solo]) -> None:
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef0123\n")
    options = ["--guard", "--secret-file", str(secret), "--evidence-dir", str(tmp_path / "evidence")]
    workload = [sys.executable, str(GANG), "1", "spin", ""]
    unit = LocalUnit(tmp_path, *options, "--evidence-seconds", "30", workload=workload)
    units.append(unit)
    where = ["--unit", UNIT, "--http-address", unit.address(0), "--secret-file", str(secret)]
    until(lambda: unitagent("probe", "ready", "--address", unit.address(0)).returncode == 0, "it is ready")
    assert unitagent("restart", "--reason", "it hangs", "--wait", *where).returncode == 0

    def listed() -> str:
        shown = unitagent("evidence", *where)
        return shown.stdout if shown.stdout.count("files, ") == 2 else ""

    assert "rank 0 waits in all_reduce (gang.py:" in until(listed, "both ranks are listed")
    assert unitagent("evidence", *where, "--fetch", str(tmp_path / "got")).returncode == 0
    for rank in (0, 1):
        (kept,) = (tmp_path / "evidence" / UNIT / f"rank-{rank}").iterdir()
        files = sorted(path.name for path in kept.iterdir())
        got = tmp_path / "got" / "generation-1" / f"rank-{rank}"
        assert {"stacks.txt", "decisions.txt", "output.txt"} <= set(files)
        assert files == sorted(path.name for path in got.iterdir())
        assert all((got / name).read_bytes() == (kept / name).read_bytes() for name in files)
    for path in ("/evidence", f"/evidence/{kept.name}/output.txt/0"):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"http://{unit.address(1)}{path}", timeout=DEADLINE)


def test_why_it_crashed_is_part_of_the_failure(tmp_path: Path, units: list[LocalUnit | Solo]) -> None:
    crash = "import os, time\nif os.environ['UNIT_GENERATION'] == '1': import flash_attn\ntime.sleep(1000)"
    folder = str(tmp_path / "evidence")
    solo = Solo(tmp_path, "--evidence-dir", folder, command=[sys.executable, "-c", crash])
    units.append(solo)
    solo.ready(above=1)

    def explained() -> str:
        found = str(solo.status()["failure"]["detail"])
        return found if "flash_attn" in found else ""

    assert until(explained, "the cause").endswith(
        "exited with code 1: the Python module flash_attn is not installed"
    )
    assert "code 1: the Python module flash_attn is not installed\n" in solo.run("evidence")
    shown = json.loads(solo.run("evidence", "--json"))
    assert shown["generation"] == 1
    assert shown["failure"]["reason"] == "exit"
    assert [one["cause"] for one in shown["ranks"]] == ["the Python module flash_attn is not installed"]
    assert "flash_attn" in solo.run("events"), "the history tells it, too"


def write_hanging_program(folder: Path) -> dict[str, str]:
    """A report of the GPUs that never comes; returns the environment for it."""
    (folder / "bin").mkdir()
    program = folder / "bin" / "nvidia-smi"
    program.write_text("#!/bin/sh\necho $$ >$0.new; mv $0.new $0.pid; exec sleep 1000\n")
    program.chmod(0o755)
    return {"PATH": f"{folder}/bin:{os.environ['PATH']}"}


def hanging_program(folder: Path) -> procfs.Process | None:
    return procfs.read_process(int((folder / "bin" / "nvidia-smi.pid").read_text()))


def test_a_stop_waits_no_longer_than_it_may(tmp_path: Path, units: list[LocalUnit | Solo]) -> None:
    options = ["--evidence-dir", str(tmp_path / "evidence"), "--evidence-seconds", "2"]
    solo = Solo(tmp_path, *options, **write_hanging_program(tmp_path))
    units.append(solo)
    solo.ready()
    began = time.monotonic()
    solo.run("restart")
    solo.ready(above=1)
    assert time.monotonic() - began < 60, "the program would hang for 1000 s"
    until(lambda: hanging_program(tmp_path) is None, "the collector ends its program")
    (waited,) = re.findall(r"the stop waited ([0-9.]+) s for evidence", solo.output.read_text())
    assert float(waited) > 1.5, "what hangs is given its time"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_agent_that_is_asked_to_stop_waits_for_nothing(
    tmp_path: Path, units: list[LocalUnit | Solo], number: int
) -> None:
    options = ["--evidence-dir", str(tmp_path / "evidence"), "--evidence-seconds", "900"]
    solo = Solo(tmp_path, *options, **write_hanging_program(tmp_path))
    units.append(solo)
    solo.ready()
    solo.run("restart")
    until((tmp_path / "bin" / "nvidia-smi.pid").exists, "it collects")
    solo.popen.send_signal(number)
    assert solo.popen.wait(DEADLINE) == 0
    until(lambda: hanging_program(tmp_path) is None, "the collector ends its program")


def test_what_was_collected_while_the_store_was_away_is_found(
    tmp_path: Path, units: list[LocalUnit | Solo], health: tuple[str, type[Health]]
) -> None:
    options = ["--evidence-dir", str(tmp_path / "evidence"), "--evidence-seconds", "30"]
    options += ["--health-url", health[0], "--health-interval-seconds", "0.5", "--health-failures", "2"]
    work = [sys.executable, "-c", "import time\nprint('it works', flush=True)\ntime.sleep(1000)"]
    with running(tmp_path) as redis:
        solo = Solo(tmp_path, *options, command=work, UNIT_REDIS_URL=redis.url)
        units.append(solo)
        solo.ready()
        redis.kill()
        until(lambda: not solo.status()["store"]["connected"], "the agent notices")
        health[1].code = 503
        (kept,) = until(
            lambda: list((tmp_path / "evidence").glob("*/rank-0/*/report.json")), "nothing is left out"
        )
        assert {"output.txt", "decisions.txt"} <= {path.name for path in kept.parent.iterdir()}
        shown = solo.run("evidence", "--fetch", str(tmp_path / "got"))
        assert "; this is what the Unit's agents know\n" in shown
        assert "is in <module> (<string>:3)" in shown
        assert (tmp_path / "got" / "generation-1" / "rank-0" / "output.txt").read_text() == "it works\n"
        health[1].code = 200
        redis.start()
        solo.ready(above=1)
        shown = solo.run("evidence")
        assert shown.startswith(
            "generation 1 ended: rank 0 (127.0.0.1) failed its health check: answered 503"
        )
        assert "is in <module> (<string>:3)" in shown


def test_it_can_be_off(tmp_path: Path, units: list[LocalUnit | Solo]) -> None:
    solo = Solo(tmp_path, "--evidence-dir", str(tmp_path / "evidence"), "--evidence-seconds", "0")
    units.append(solo)
    solo.ready()
    solo.run("restart")
    solo.ready(above=1)
    assert not (tmp_path / "evidence").exists()
    assert solo.get("/evidence") == ""
    said = solo.run("evidence")
    assert "warning: rank 0: its agent collects none (UNIT_EVIDENCE_SECONDS=0)\n" in said
    assert "neither the store nor an agent that answers has evidence; it is collected when" in said
