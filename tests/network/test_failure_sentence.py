"""What ended a generation is one sentence, the same on every rank, with the failing workload's last lines."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.network.containers import agent_command
from tests.network.lab import Lab, workload
from tests.waiting import until

MEMORY = Path("/sys/fs/cgroup/memory")


def shown(lab: Lab) -> str:
    return lab.told("status", "--unit", "lab")


def details(lab: Lab) -> set[str]:
    return {lab.agents[host].status()["failure"]["detail"] for host in range(lab.size)}


def last_lines(rank: int, said: int) -> list[str]:
    return [f"  | line {number} of rank {rank}" for number in range(max(1, said - 19), said + 1)]


def lines(lab: Lab) -> list[str]:
    return [line for line in shown(lab).splitlines() if line.startswith("  | ")]


def test_a_kill_is_told_on_every_rank_with_its_last_lines(lab: Lab) -> None:
    generation = lab.form("says=30")["generation"]
    ip = lab.agents[0].status()["instances"][1]["ip"]
    lab.strike(1)
    lab.wait_ready(above=generation)
    sentence = f"generation {generation} ended: rank 1 ({ip}) was killed by signal 9 (SIGKILL)"
    (told,) = details(lab)
    assert told.startswith(sentence)
    assert told.endswith("; ranks 0, 2 stopped")
    lab.until(lambda: lines(lab) == last_lines(1, 30), "the last 20 lines are shown")
    (last,) = [line for line in shown(lab).splitlines() if line.startswith("last failure ")]
    assert last.endswith(f": {told}")
    assert all(lab.agents[host].said(told) for host in range(3))


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group with 150 MB."""
    path = MEMORY / f"unitagent-sentence-{os.getpid()}"
    try:
        path.mkdir()
        (path / "memory.limit_in_bytes").write_text("150M")
    except OSError as error:
        pytest.skip(f"this kernel gives no control groups of version 1: {error}")
    yield path
    until(lambda: not (path / "cgroup.procs").read_text(), "the group is empty")
    path.rmdir()


def test_an_oom_kill_is_told_as_one(group: Path, lab: Lab) -> None:
    eat = lab.folder / "eat"
    inside = ["sh", "-c", f'echo 0 > {group}/cgroup.procs && exec "$@"', "sh"]
    for host in (0, 1):
        lab.start(host)
    lab.launch(2, [*inside, *agent_command(*workload("says=2", f"takes={eat}", "eats"))])
    generation = lab.wait_ready()["generation"]
    ip = lab.agents[0].status()["instances"][2]["ip"]
    eat.touch()
    lab.wait_ready(above=generation)
    failure = lab.agents[1].status()["failure"]
    assert (failure["reason"], failure["signal"], failure["exit_code"]) == ("oom", 9, None)
    sentence = f"rank 2 ({ip}) was killed by signal 9, out of memory; ranks 0, 1 stopped"
    assert details(lab) == {f"generation {generation} ended: {sentence}"}
    lab.until(lambda: lines(lab) == last_lines(2, 2), "its lines are shown")
    for container in lab.all:
        container.close()


@pytest.mark.parametrize("code", [0, 3])
def test_an_exit_is_told_with_its_code_and_lines(lab: Lab, code: int) -> None:
    leave = lab.folder / "leave"
    generation = lab.form("says=3", "only=2", f"takes={leave}", f"exits={code}")["generation"]
    leave.touch()
    lab.wait_ready(above=generation)
    (told,) = details(lab)
    mode = "a job that is done when it exits with 0 needs UNIT_MODE=job"
    counts = "" if code else f", which counts as a failure in service mode (UNIT_MODE); {mode}"
    assert f"exited with code {code}{counts}; ranks 0, 1 stopped" in told
    lab.until(lambda: lines(lab) == last_lines(2, 3), "its lines are shown")


def test_without_guard_it_is_told_that_nobody_else_stopped(lab: Lab) -> None:
    generation = lab.form("says=3", UNIT_GUARD="false")["generation"]
    lab.strike(2)
    lab.agents[2].code()
    lab.until(lambda: lab.agents[0].status()["failure"], "a failure is told")
    told = lab.agents[0].status()["failure"]["detail"]
    assert told.startswith(f"generation {generation}: rank 2 (")
    assert "stopped" not in told
    lab.until(lambda: lines(lab) == last_lines(2, 3), "its lines are shown")
