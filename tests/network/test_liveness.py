"""A workload that lives and works no more: what is dead inside it restarts all, once, and says why."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.network.containers import agent_command
from tests.network.lab import PROGRAMS, Lab
from tests.waiting import throughout

HEALTH = {
    "UNIT_HEALTH_URL": "http://127.0.0.1:8000/",
    "UNIT_HEALTH_INTERVAL_SECONDS": 0.2,
    "UNIT_BACKOFF_SECONDS": "0",
}


def ended(lab: Lab, reason: str, rank: int) -> dict[str, Any]:
    """Wait until every rank says that generation 1 ended by this; rank 0's word for it."""

    def told() -> list[Any]:
        seen = [lab.agents[host].status().get("failure") or {} for host in range(lab.size)]
        return [(one.get("generation"), one.get("rank"), one.get("reason")) for one in seen]

    lab.until(lambda: told() == [(1, rank, reason)] * lab.size, f"every rank says {reason}")
    found: dict[str, Any] = lab.agents[0].status()["failure"]
    return found


def back_once(lab: Lab) -> None:
    lab.wait_ready(above=1)
    throughout(lambda: lab.agents[0].status()["generation"] == 2, "more than one restart", 2.0)


def test_a_child_that_was_killed_and_is_reaped_by_nobody(lab: Lab) -> None:
    lose = lab.folder / "lose"
    lab.form("only=1", f"loses={lose}", UNIT_BACKOFF_SECONDS="0")
    lose.touch()
    lab.until(lambda: lab.events("lost"), "the child is killed")
    lose.unlink()
    assert ended(lab, "signal", rank=1)["signal"] == 9
    back_once(lab)


def test_the_health_of_the_leader_fails(lab: Lab) -> None:
    sick = lab.folder / "sick"
    lab.form("only=0", "serves=8000", f"sick={sick}", **HEALTH)
    throughout(lab.serving, "a healthy Unit was disturbed", 1.0)
    sick.touch()
    assert "500" in ended(lab, "unhealthy", rank=0)["detail"]
    sick.unlink()
    back_once(lab)


@pytest.mark.slow
def test_a_start_takes_longer_than_allowed(lab: Lab) -> None:
    sick = lab.folder / "sick"
    sick.touch()
    lab.start_all("only=0", "serves=8000", f"sick={sick}", **HEALTH, UNIT_STARTUP_SECONDS=8)
    lab.begun(1)
    assert "UNIT_STARTUP_SECONDS" in ended(lab, "startup-timeout", rank=0)["detail"]
    sick.unlink()
    back_once(lab)


@pytest.fixture
def vllm(lab: Lab) -> Path:
    """A command of that name, on the lab's hosts."""
    program = lab.folder / "vllm"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {PROGRAMS / "engine.py"} "$@"\n')
    program.chmod(0o755)
    return program


@pytest.mark.slow
def test_an_engine_makes_no_step(lab: Lab, vllm: Path) -> None:
    stalled = lab.folder / "stalled"
    given = {"UNIT_FRAMEWORK": "vllm", "UNIT_STALL_SECONDS": 2, "UNIT_BACKOFF_SECONDS": "0"}
    for host in range(lab.size):
        lab.launch(host, agent_command(str(vllm), "serve", "model"), **given)
    lab.wait_ready()
    throughout(lab.serving, "an engine at work was disturbed", 4.0, pause=0.2)
    stalled.touch()
    assert "no step of the engine" in ended(lab, "stalled", rank=0)["detail"]
    stalled.unlink()
    back_once(lab)
