"""Commands beside the workload: their answer counts, and nothing of them is left behind."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.process.conftest import AS_SUBREAPER, Agent
from tests.waiting import until
from unitagent.system import procfs

Start = Callable[..., Agent]
STAYS = ("--", "sleep", "1000")


def shell(text: str) -> str:
    """The command line of a shell with this text."""
    return shlex.join(["sh", "-c", text])


@AS_SUBREAPER
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("true", ""),
        ("echo loud; echo louder >&2; exit 3", "sh exited with code 3"),
        ("kill -9 $$", "sh was killed by signal 9 (SIGKILL): out of memory, or killed from outside"),
        ("read line || exit 4", "sh exited with code 4"),
    ],
)
def test_the_exit_code_is_the_answer(start: Start, text: str, said: str) -> None:
    agent = start("--exec-probe", shell(text), *STAYS)
    until(lambda: len(agent.events("exec_probe")) > 2, "three probes")
    assert {line["said"] for line in agent.events("exec_probe")} == {said}
    agent.send(signal.SIGTERM)
    assert agent.finish() == 143
    assert agent.event("stopped")["left"] == []


def test_one_that_hangs_is_killed_with_its_children(start: Start, tmp_path: Path) -> None:
    hangs = f"sleep 1000 & echo >> {tmp_path}/runs; wait"
    agent = start("--exec-probe", shell(hangs), "--exec-probe-seconds", "0.2", *STAYS)
    until(lambda: len(agent.events("exec_probe")) > 2, "three probes")
    assert agent.event("exec_probe")["said"] == "sh did not end within 0.2 s"
    children = [
        p for p in procfs.read_process_table().values() if p.parent == agent.pid and p.name == "sleep"
    ]
    assert len(children) <= 2  # the workload, and at most one that is dying
    agent.send(signal.SIGTERM)
    assert agent.finish() == 143


def test_a_stop_does_not_wait_for_one(start: Start, tmp_path: Path) -> None:
    agent = start("--grace", "1000", "--exec-probe", shell(f"touch {tmp_path}/runs; sleep 1000"), *STAYS)
    until((tmp_path / "runs").exists, "the probe runs")
    agent.send(signal.SIGTERM)
    assert agent.finish() == 143
    assert agent.event("stopped")["left"] == []


@AS_SUBREAPER
@pytest.mark.parametrize("program", ["/no/such/program", "no-such-program", "/"])
def test_one_that_cannot_be_run_says_so(start: Start, program: str) -> None:
    agent = start("--exec-probe", program, *STAYS)
    assert agent.event("exec_probe")["said"].startswith(f"cannot run {program}: ")
    agent.send(signal.SIGTERM)
    assert agent.finish() == 143
