"""``unitagent local``: a whole Unit on this machine, from its first barrier to its last process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.acceptance.local import UNIT, UNITAGENT, LocalUnit, clean, unitagent
from tests.ports import free_port
from tests.waiting import DEADLINE, until

KEYS = [
    "unit", "size", "guard", "phase", "generation", "restarts", "budget", "master_address", "master_port",
    "ready", "traffic", "draining", "failure", "last_order", "store", "instances", "recovery", "conditions",
    "endpoint", "secrets", "start", "summary",
]  # fmt: skip
INSTANCE_KEYS = [
    "rank", "incarnation", "ip", "port", "hostname", "state", "generation", "pid", "exit_code",
    "lease_seconds",
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


@pytest.mark.parametrize(
    ("options", "workload", "code", "reported"),
    [
        ([], "no-such-command-here", 127, "COMMAND 'no-such-command-here' not found"),
        (["--mode", "jbo"], "true", 2, "UNIT_MODE='jbo' (flag --mode): must be service or job"),
        (["--framework", "torchrun"], "torchrun", 2, ""),
    ],
)
def test_an_error_is_reported_once_and_before_the_page(
    tmp_path: Path, options: list[str], workload: str, code: int, reported: str
) -> None:
    words = [workload]
    if workload == "torchrun":  # its flags contradict the Unit, which the framework sees
        words = ["torchrun", "--nnodes", "7", "serve.py"]
        (tmp_path / "torchrun").write_text("#!/bin/sh\n")
        (tmp_path / "torchrun").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = unitagent("local", "--size", "3", *options, "--", *words, PATH=path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1), done.stderr
    assert done.stderr.startswith(f"unitagent: error: {reported}")


def test_a_port_that_is_in_use_is_reported_before_the_page(start: Start) -> None:
    unit = start(size=1)
    unit.ready()
    done = unitagent("local", "--size", "2", "--http-address", f"127.0.0.1:{unit.port}", "--", "true")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"UNIT_HTTP_ADDRESS: port {unit.port} of 127.0.0.1 is in use; stop the process" in done.stderr
    other = ("--http-address", f"127.0.0.1:{free_port()}", "--store-port", str(unit.port + 1))
    done = unitagent("local", "--size", "2", *other, "--", "true")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"UNIT_STORE_PORT: port {unit.port + 1} of 127.0.0.1 is in use" in done.stderr


def test_a_second_unit_gets_free_ports(tmp_path: Path) -> None:
    """The first one has the ports that a Unit has where the user chose none, unless others have them here."""
    argv = [*UNITAGENT, "local", "--size", "2", "--deregister-seconds", "0.1", "--unit"]
    units: list[subprocess.Popen[str]] = []
    ports = []
    try:
        for name in ("first", "second"):
            with (tmp_path / name).open("w") as output:
                command = [*argv, f"{UNIT}-{name}", "--", "sleep", "1000"]
                units.append(subprocess.Popen(command, env=clean(), stderr=output, text=True))
            port = until(lambda name=name: _read_page(tmp_path / name), "the page's address")  # type: ignore[misc]
            until(lambda port=port: _fetch_ready(port), "ready")  # type: ignore[misc]
            seen = unitagent("status", "--unit", f"{UNIT}-{name}", "--http-address", f"127.0.0.1:{port}")
            assert f"Unit {UNIT}-{name}: ready" in seen.stdout, seen.stderr
            ports.append(port)
        assert ports[0] != ports[1]
        told = (tmp_path / "second").read_text()
        assert (
            f"is in use, so this Unit has port {ports[1]}: other commands find it with --http-address" in told
        )
    finally:
        for unit in units:
            unit.terminate()
        codes = [unit.wait(DEADLINE) for unit in units]
    assert codes == [0, 0]


def _read_page(output: Path) -> str:
    found = re.search(r"browser: http://127.0.0.1:(\d+)/", output.read_text())
    return found[1] if found else ""


def _fetch_ready(port: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_the_agents_start_ends_them_all(start: Start, number: int) -> None:
    unit = start(size=5)
    until(lambda: "in a browser" in unit.output.read_text(), "it has checked its options")
    unit.popen.send_signal(number)
    unit.popen.wait(DEADLINE)
    until(lambda: not _find_agents(str(unit.folder)), "no agent is left")


def _find_agents(word: str) -> list[psutil.Process]:
    agents = psutil.process_iter(["cmdline"])
    return [one for one in agents if word in (one.info["cmdline"] or ()) and "run" in one.info["cmdline"]]


def test_a_probe_of_nobody_says_so() -> None:
    done = unitagent("probe", "ready", "--address", "127.0.0.1:1")
    assert done.returncode == 1
    assert len((done.stdout + done.stderr).splitlines()) == 1
