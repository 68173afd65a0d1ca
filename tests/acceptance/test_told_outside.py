"""What leaves the Unit for programs: fields of JSON logs, the termination log, and the user's hook."""

from __future__ import annotations

import json
import os
import re
import signal
import urllib.request
from pathlib import Path
from typing import Any

from tests.acceptance.local import UNIT as LOCAL
from tests.acceptance.local import LocalUnit, unitagent
from tests.acceptance.solo import UNIT, Solo
from tests.ports import free_port
from tests.waiting import DEADLINE, until
from unitagent.core.history import EventKind
from unitagent.system import procfs
from unitagent.system.termination_log import write_reason

ALONE = ("--size", "1", "--rank", "0", "--comm-ifname", "lo", "--unit", UNIT, "--http-address", "off")


def lines(file: Path) -> list[dict[str, Any]]:
    """All whole JSON lines of a file."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text().split("\n")[:-1] if line.startswith("{")]


def test_json_logs_have_fields_in_the_words_of_events(tmp_path: Path) -> None:
    solo = Solo(tmp_path, "--backoff-seconds", "0", UNIT_LOG_FORMAT="json")
    try:
        os.kill(solo.ready()["instances"][0]["pid"], signal.SIGKILL)
        solo.ready(above=1)
        solo.run("restart", "--wait")
        solo.popen.terminate()
        assert solo.popen.wait(DEADLINE) == 0
        told = [one for one in lines(solo.output) if "event" in one]
        kinds = [one["event"] for one in told]
        assert set(kinds) <= set(EventKind)
        assert {"joined", "generation", "barrier", "ready", "failure", "restart", "drain", "quit"} <= set(
            kinds
        )
        failure = told[kinds.index("failure")]
        assert (failure["reason"], failure["failed_rank"]) == ("signal", 0)
        assert "SIGKILL" in failure["message"]
        restart = told[kinds.index("restart")]
        assert (restart["reason"], "failed_rank" in restart) == ("requested", False)
        assert told[-1]["exit_code"] == 0
    finally:
        solo.close()


def test_an_end_without_guard_has_reason_rank_and_code(tmp_path: Path) -> None:
    words = [*ALONE, "--store-port", str(free_port())]
    log = tmp_path / "termination-log"
    done = unitagent("run", *words, "--termination-log", str(log), "--", "sh", "-c", "exit 3")
    assert done.returncode == 3
    last = json.loads(done.stderr.splitlines()[-1])
    assert (last["event"], last["reason"], last["failed_rank"], last["exit_code"]) == ("quit", "exit", 0, 3)
    assert sum("exited with code 3" in line for line in done.stderr.splitlines()) == 1
    assert log.read_text() == "exit 3: rank 0 (127.0.0.1) exited with code 3"


def test_the_termination_log_has_the_last_failure_before_the_end_and_errors_of_the_start(
    tmp_path: Path,
) -> None:
    log = tmp_path / "termination-log"
    solo = Solo(tmp_path, "--backoff-seconds", "0", UNIT_TERMINATION_LOG=str(log))
    try:
        os.kill(solo.ready()["instances"][0]["pid"], signal.SIGKILL)
        solo.ready(above=1)
        until(lambda: log.exists() and "SIGKILL" in log.read_text(), "the failure is kept")
        solo.popen.terminate()
        assert solo.popen.wait(DEADLINE) == 0
        assert log.read_text() == "exit 0: asked to stop by SIGTERM"
    finally:
        solo.close()
    done = unitagent("run", "--size", "none", "--", "true", UNIT_TERMINATION_LOG=str(log))
    assert done.returncode == 2
    assert log.read_text().startswith("exit 2: ")
    assert "UNIT_SIZE='none'" in log.read_text()


def test_a_termination_log_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    words = [*ALONE, "--store-port", str(free_port())]
    for path in (tmp_path, tmp_path / "none" / "file"):
        done = unitagent("run", *words, "--mode", "job", "--termination-log", str(path), "--", "true")
        assert done.returncode == 0, done.stderr
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert (
        unitagent("run", *words, "--mode", "job", "--termination-log", str(fifo), "--", "true").returncode
        == 0
    )


def test_a_long_reason_is_not_cut_within_a_character(tmp_path: Path) -> None:
    log = tmp_path / "termination-log"
    write_reason(str(log), "x" + 4096 * "é")
    assert log.read_text(encoding="utf-8") == "x" + 2047 * "é"


def test_the_hook_gets_each_event_as_json_without_secrets(tmp_path: Path) -> None:
    told, env = tmp_path / "told", tmp_path / "hook-env"
    hook = f"env >{env}; cat >>{told}"
    shared = "of more than 16 bytes"
    solo = Solo(tmp_path, "--backoff-seconds", "0", UNIT_HOOK=hook, UNIT_SECRET=shared)
    try:
        pid = solo.ready()["instances"][0]["pid"]
        until(lambda: lines(told), "the first start is told")
        os.kill(pid, signal.SIGKILL)
        solo.ready(above=1)
        solo.run("restart", "--wait", "--reason", "new weights")
        solo.ready(above=2)
        until(lambda: [one["kind"] for one in lines(told)].count("ready") == 3, "all three starts are told")
        solo.popen.terminate()
        assert solo.popen.wait(DEADLINE) == 0
        seen = lines(told)
        kinds = [one["kind"] for one in seen]
        assert sorted(kinds) == sorted(["ready", "failure", "ready", "restart", "ready", "drained"])
        failure = next(one for one in seen if one["kind"] == "failure")
        assert (failure["unit"], failure["reason"], failure["failed_rank"]) == (UNIT, "signal", 0)
        assert "SIGKILL" in failure["detail"]
        restart = next(one for one in seen if one["kind"] == "restart")
        assert (restart["reason"], restart["failed_rank"]) == ("requested", None)
        assert shared not in env.read_text()
    finally:
        solo.close()


def test_a_spent_budget_is_told_as_failed(tmp_path: Path) -> None:
    told = tmp_path / "told"
    words = [*ALONE, "--store-port", str(free_port())]
    words += ["--guard", "--max-restarts", "0", "--hook", f"cat >>{told}"]
    done = unitagent("run", *words, "--", "false")
    assert done.returncode == 70
    kinds = [one["kind"] for one in lines(told)]
    assert (kinds.count("failure"), kinds.count("failed")) == (1, 1)


def test_a_hook_that_hangs_or_leaves_something_behind_is_not_in_the_way(tmp_path: Path) -> None:
    marker = f"987{os.getpid()}"
    hook = f"sleep {marker} & sleep {marker}"
    solo = Solo(tmp_path, "--backoff-seconds", "0", UNIT_HOOK=hook)
    try:
        for generation in range(3):
            os.kill(solo.ready(above=generation)["instances"][0]["pid"], signal.SIGKILL)
        seen = solo.ready(above=3)
        assert seen["recovery"]["total"] < 5
        solo.popen.terminate()
        assert solo.popen.wait(DEADLINE) == 0
        until(lambda: not _find_sleeping(marker), "nothing of the hook is left")
    finally:
        solo.close()


def test_a_hook_that_fails_is_said_and_what_it_leaves_is_no_part_of_the_workload(tmp_path: Path) -> None:
    marker = f"986{os.getpid()}"
    solo = Solo(tmp_path, UNIT_HOOK=f"sleep {marker} & exit 7", UNIT_LOG_FORMAT="text")
    try:
        solo.ready()
        until(lambda: "UNIT_HOOK exited with code 7" in solo.output.read_text(), "its failure is said")
        until(lambda: not _find_sleeping(marker), "what it left is ended with it")
        assert solo.status()["ready"]
    finally:
        solo.close()


def _find_sleeping(marker: str) -> list[int]:
    """The processes that sleep this long: a duration that no other test has."""
    found = []
    for pid in procfs.read_process_table():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:2] == [b"sleep", marker.encode()]:
            found.append(pid)
    return found


def test_env_shows_the_hook_without_what_looks_like_a_secret() -> None:
    done = unitagent("env", "--size", "1", "--rank", "0", UNIT_HOOK="curl -H 'X-Api-Key: hunter22' https://x")
    assert done.returncode == 0
    assert "hunter22" not in done.stdout
    assert re.search(r"UNIT_HOOK=.*curl", done.stdout)


def test_a_termination_log_is_named_by_an_absolute_path() -> None:
    done = unitagent("env", "--size", "1", "--rank", "0", UNIT_TERMINATION_LOG="reason")
    assert done.returncode == 2
    assert "UNIT_TERMINATION_LOG='reason' (environment): must be an absolute path" in done.stderr


def test_each_rank_has_its_names_and_a_sum_over_ranks_counts_a_restart_once(tmp_path: Path) -> None:
    unit = LocalUnit(tmp_path, "--guard", "--backoff-seconds", "0", "--service", "chat", "--revision", "v7")
    try:
        os.kill(unit.ready()["instances"][1]["pid"], signal.SIGKILL)
        unit.ready(generation=2)
        told = []
        for rank in (0, 1):
            with urllib.request.urlopen(f"http://{unit.address(rank)}/metrics", timeout=30) as answer:
                told.append(answer.read().decode())
            names = f'rank="{rank}",revision="v7",service="chat",unit="{LOCAL}"'
            assert f"unitagent_info{{{names}}} 1.0" in told[-1]
            assert "process_resident_memory_bytes " in told[-1]
        assert "\n".join(told).count("\nunitagent_restarts_total{") == 1
        assert "\n".join(told).count("\nunitagent_recovery_duration_seconds_count ") == 1
        assert "unitagent_restart_budget_left 9.0" in told[0]
    finally:
        unit.close()
