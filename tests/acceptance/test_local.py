"""``unitagent local``: a whole Unit on this machine, from its first barrier to its last process."""

from __future__ import annotations

import os
import re
import signal
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.acceptance.local import DEADLINE, UNIT, LocalUnit, unitagent, until

KEYS = [
    "unit", "size", "guard", "phase", "generation", "restarts", "budget", "master_address", "master_port",
    "ready", "traffic", "draining", "failure", "last_order", "store", "instances", "recovery", "conditions",
    "endpoint", "secrets", "start", "summary",
]  # fmt: skip
INSTANCE_KEYS = [
    "rank", "incarnation", "ip", "hostname", "state", "generation", "pid", "exit_code", "lease_seconds",
]  # fmt: skip
FAILURE_KEYS = ["generation", "rank", "reason", "detail", "exit_code", "signal", "at"]
RECOVERY_KEYS = ["detect", "stop", "barrier", "start", "ready", "total"]

Start = Callable[..., LocalUnit]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start Units; whatever happens, nothing of them stays."""
    units: list[LocalUnit] = []

    def begin(*options: str, **how: object) -> LocalUnit:
        units.append(LocalUnit(tmp_path, *options, **how))  # type: ignore[arg-type]
        return units[-1]

    yield begin
    for unit in units:
        unit.close()


def test_workloads_start_together_and_agree(start: Start) -> None:
    unit = start(size=3)
    unit.ready()
    given = [unit.environment(1, rank) for rank in range(3)]
    assert [one["RANK_ID"] for one in given] == ["0", "1", "2"]
    assert [one["RANK_IP"] for one in given] == ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    for name in ("MASTER_ADDRESS", "MASTER_PORT", "UNIT_RANK_IPS", "UNIT_SIZE", "UNIT_GENERATION", "UNIT_ID"):
        assert len({one[name] for one in given}) == 1, name
    assert given[0]["MASTER_ADDRESS"] == "127.0.0.1"
    assert given[0]["UNIT_RANK_IPS"] == "127.0.0.1,127.0.0.2,127.0.0.3"
    assert given[0]["UNIT_SIZE"] == "3"


def test_status_has_the_promised_keys(start: Start) -> None:
    unit = start("--guard")
    seen = unit.ready()
    assert [key for key in seen if key in KEYS] == KEYS
    assert [list(one) for one in seen["instances"]] == [INSTANCE_KEYS] * 2
    assert sorted(seen["store"]) == ["connected", "since"]
    assert seen["recovery"] == dict.fromkeys(RECOVERY_KEYS)
    assert (seen["failure"], seen["secrets"]) == (None, None)
    assert (seen["unit"], seen["size"], seen["guard"], seen["phase"]) == (UNIT, 2, True, "running")
    assert [one["state"] for one in seen["instances"]] == ["healthy", "running"]


def test_a_rank_whose_agent_stands_still_is_silent_before_its_lease_ends(start: Start) -> None:
    unit = start("--lease-seconds", "60")
    agent = psutil.Process(unit.ready()["instances"][1]["pid"]).parent()
    assert agent is not None
    agent.suspend()
    try:
        look = ("status", "--unit", UNIT, "--http-address", unit.address(0))
        shown = until(lambda: re.findall(r"   1  running .*s  silent .*", unitagent(*look).stdout), "silent")
        assert re.search(r"silent for \d+ s$", shown[0])
    finally:
        agent.resume()


def test_one_kill_is_one_new_generation(start: Start) -> None:
    unit = start("--guard", size=3)
    before = unit.ready()
    old = [one["pid"] for one in before["instances"]]
    os.kill(old[1], signal.SIGKILL)
    after = unit.ready(before["generation"] + 1)
    new = [one["pid"] for one in after["instances"]]
    assert (after["generation"], after["restarts"]) == (before["generation"] + 1, 1)
    assert not set(old) & set(new)
    assert not any(map(psutil.pid_exists, old))
    assert list(after["failure"]) == FAILURE_KEYS
    first = after["failure"]
    assert (first["generation"], first["rank"], first["reason"], first["signal"]) == (1, 1, "signal", 9)
    assert list(after["recovery"]) == RECOVERY_KEYS
    assert all(isinstance(seconds, float) for seconds in after["recovery"].values())
    master = [unit.environment(number, 0)["MASTER_PORT"] for number in (1, 2)]
    assert master[0] != master[1]


def test_an_exit_0_nobody_asked_for_is_a_failure(start: Start, tmp_path: Path) -> None:
    once = 'case "$UNIT_GENERATION.$RANK_ID" in 1.1) sleep 1;; *) exec sleep 1000;; esac'
    unit = start("--guard", workload=["sh", "-c", once])
    failure = unit.ready(2)["failure"]
    assert (failure["rank"], failure["reason"], failure["exit_code"]) == (1, "exit", 0)


def test_ctrl_c_ends_all_with_0(start: Start) -> None:
    unit = start("--guard", size=3)
    unit.ready()
    assert unit.interrupt() == 0, unit.output.read_text()
    until(lambda: not unit.survivors(), "no process is left")


def test_a_job_is_done_when_all_ranks_succeed(start: Start) -> None:
    unit = start("--mode", "job", size=3, workload=["true"])
    assert unit.popen.wait(DEADLINE) == 0, unit.output.read_text()


def test_without_guard_the_workload_s_code_is_the_agent_s(start: Start) -> None:
    unit = start(size=1, workload=["sh", "-c", "exit 7"])
    assert unit.popen.wait(DEADLINE) == 7, unit.output.read_text()


def test_probes_answer_for_the_unit(start: Start) -> None:
    unit = start()
    unit.ready()
    for rank in (0, 1):
        until(lambda rank=rank: unit.probe("ready", rank).returncode == 0, "ready on every rank")  # type: ignore[misc]
    assert unit.probe("live", 1).returncode == 0
    assert unit.probe("traffic", 0).returncode == 0
    elsewhere = unit.probe("traffic", 1)
    assert elsewhere.returncode == 1
    why = elsewhere.stdout + elsewhere.stderr
    assert len(why.splitlines()) == 1
    assert "rank 0" in why


@pytest.mark.parametrize("options", [(), ("--dashboard", "off")], ids=["on", "off"])
def test_it_says_where_its_page_is(start: Start, options: tuple[str, ...]) -> None:
    unit = start(*options, size=1)
    unit.ready()
    first = unit.output.read_text().splitlines()[0]
    said = f"unitagent: open this Unit in a browser: http://127.0.0.1:{unit.port}/"
    assert (first == said) is not bool(options)
    if not options:
        with urllib.request.urlopen(f"http://127.0.0.1:{unit.port}/", timeout=30) as page:
            assert b"<!doctype html>" in page.read()


def test_a_probe_of_nobody_says_so() -> None:
    done = unitagent("probe", "ready", "--address", "127.0.0.1:1")
    assert done.returncode == 1
    assert len((done.stdout + done.stderr).splitlines()) == 1
