"""Keepers that fail or hang while they load: what is told, kept and shown of it."""

from __future__ import annotations

import shlex
import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.acceptance.kept import Start, is_pid_alive, make_start
from tests.acceptance.local import unitagent
from tests.waiting import DEADLINE, until

__all__ = ["make_start"]
READY = {"UNIT_KEEPER_READY": "log:^ready$"}


def shell(text: str) -> str:
    return f"sh -c {shlex.quote(text)}"


def test_the_last_lines_of_a_keeper_that_fails_are_shown_and_the_cause_in_them(
    start: Start, tmp_path: Path
) -> None:
    wait = f"while [ -e {tmp_path}/slow ]; do sleep 0.05; done"
    says = "echo torch.OutOfMemoryError: CUDA out of memory."
    fails = f"echo loading; {wait}; {says}; touch {tmp_path}/slow; exit 3"
    (tmp_path / "slow").touch()
    evidence = {"UNIT_EVIDENCE_DIR": str(tmp_path / "evidence"), "UNIT_EVIDENCE_SECONDS": "60"}
    unit = start(size=1, UNIT_KEEPER=shell(fails), **READY, **evidence)
    until(lambda: unit.find_keeper(0, "loading"), "it loads")
    (tmp_path / "slow").unlink()
    until(lambda: unit.status()["failure"], "it has failed")
    where = ("--http-address", f"127.0.0.1:{unit.port}", "--unit", unit.env["UNIT_ID"])

    def shown() -> str:
        text = unitagent("status", *where).stdout
        return text if "keeper: torch.OutOfMemoryError: CUDA out of memory" in text else ""

    text = until(shown, "its last lines are in the store")
    assert "its keeper exited with code 3" in text
    until(lambda: "a GPU ran out of memory" in unit.status()["failure"]["detail"], "evidence names the cause")


def test_where_a_keeper_hangs_while_it_loads_is_kept(start: Start, tmp_path: Path) -> None:
    hangs = "import time\ndef read_shard():\n    time.sleep(1000)\nread_shard()"
    evidence = {"UNIT_EVIDENCE_DIR": str(tmp_path / "evidence"), "UNIT_STARTUP_SECONDS": "2"}
    program = tmp_path / "hangs.py"
    program.write_text(hangs)
    command = f"{sys.executable} {program}"
    unit = start(size=1, UNIT_KEEPER=command, UNIT_MAX_RESTARTS="1", **READY, **evidence)
    assert unit.agents[0].wait(DEADLINE) == 70
    kept = "".join(file.read_text() for file in (tmp_path / "evidence").rglob("processes.txt"))
    assert str(program) in kept, unit.read_output()


def test_a_keeper_that_leaves_its_place_is_told_to_stay(start: Start) -> None:
    unit = start(size=1, UNIT_KEEPER=shell("sleep 1000 & echo ready"), UNIT_MAX_RESTARTS="1", **READY)
    assert unit.agents[0].wait(DEADLINE) == 70
    assert "its keeper exited with code 0, and has to stay in the foreground" in unit.read_output()


def test_what_a_keeper_leaves_without_any_mark_ends_with_the_agent(start: Start, tmp_path: Path) -> None:
    daemon = f"env -i setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $! >{tmp_path}/pid; exit"
    unit = start(
        size=1, UNIT_KEEPER=shell(f"trap '{daemon}' TERM; echo ready; while :; do sleep 0.1; done"), **READY
    )
    unit.ready()
    unit.agents[0].send_signal(signal.SIGTERM)
    assert unit.agents[0].wait(DEADLINE) == 0
    pid = int((tmp_path / "pid").read_text())
    until(lambda: not is_pid_alive(pid), "it has ended")


def test_a_keeper_that_does_not_become_ready_is_explained(start: Start) -> None:
    unit = start(size=1, UNIT_KEEPER="sleep 1000", UNIT_KEEPER_READY="tcp:1")
    until(lambda: "the keeper is not ready 1" in unit.read_output(), "the log says why")
    assert "no connection to " in unit.read_output()
    unit.agents[0].send_signal(signal.SIGTERM)
    assert unit.agents[0].wait(DEADLINE) == 0


@pytest.mark.parametrize("line", ["ready\\r\\n", "10%%\\rready\\n", "\\033[32mready\\033[0m\\n"])
def test_a_line_counts_as_a_terminal_shows_it(start: Start, line: str) -> None:
    unit = start(size=1, UNIT_KEEPER=shell(f"printf '{line}'; sleep 1000"), **READY)
    assert unit.ready()["keeper"]["state"] == "ready"


def test_a_port_that_another_program_has_is_no_sign(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        unit = start(size=1, UNIT_KEEPER="sleep 1000", UNIT_KEEPER_READY=f"tcp:{port}")
        until(
            lambda: f"port {port} was in use before the keeper started" in unit.read_output(), "it is named"
        )
        assert unit.status()["keeper"]["state"] == "loading"


def test_a_search_that_takes_the_cube_of_a_line_holds_up_nothing(start: Start) -> None:
    bar = r"for i in $(seq 900); do printf 'Loading weights: %d of 900 weights \r' $i; done"
    keeper = shell(f"{bar}; echo; echo weights are loaded, all; sleep 1000")
    unit = start(size=1, UNIT_KEEPER=keeper, UNIT_KEEPER_READY="log:.*weights.*loaded.*all")
    assert unit.ready()["generation"] == 2


@pytest.mark.parametrize(
    "ready",
    ["tcp:{NOPE}", "tcp:{RANK_IP}", "tcp:{MASTER_PORT}9", "tcp:0", "http://", "http://[::1/health",
     "http://127.0.0.1:99999/", "http://127.0.0.1:{NOPE}/", "http:// /"],
)  # fmt: skip
def test_a_sign_that_nothing_can_give_is_refused(ready: str) -> None:
    given = {"UNIT_KEEPER": "sleep 9", "UNIT_KEEPER_READY": ready}
    done = unitagent("run", "--size", "1", "--rank", "0", "--guard", "--", "true", **given)
    assert done.returncode == 2
    assert "UNIT_KEEPER_READY=" in done.stderr


@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        ("''", 2, "UNIT_KEEPER="),
        ("AUTO", 127, "UNIT_KEEPER 'AUTO' not found"),
        ("auto x", 127, "UNIT_KEEPER 'auto'"),
    ],
)
def test_a_command_that_is_wrong_is_called_by_its_name(command: str, code: int, told: str) -> None:
    given = {"UNIT_KEEPER": command, "UNIT_KEEPER_READY": "tcp:1"}
    done = unitagent("run", "--size", "1", "--rank", "0", "--guard", "--", "true", **given)
    assert done.returncode == code
    assert told in done.stderr
