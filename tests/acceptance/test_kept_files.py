"""Weights that change under a keeper: the next restart loads them, and a Unit that runs is left alone."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.acceptance.kept import KeptUnit, Start, is_pid_alive, make_start
from tests.acceptance.local import unitagent
from tests.waiting import until

__all__ = ["make_start"]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A model of two files."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("a.safetensors", "b.safetensors"):
        (folder / name).write_text("old")
    return folder


def renew(weights: Path) -> None:
    """Put other weights of the same size under the same name, as a download does."""
    fresh = weights / ".b.part"
    fresh.write_text("new")
    fresh.rename(weights / "b.safetensors")


def crash(unit: KeptUnit) -> None:
    os.kill(unit.status()["instances"][1]["pid"], signal.SIGKILL)


def test_new_weights_restart_all_keepers_with_the_next_restart(start: Start, weights: Path) -> None:
    unit = start(UNIT_KEEPER_FILES=str(weights))
    seen = unit.ready()
    old = [unit.keeper(rank) for rank in range(2)]
    renew(weights)
    crash(unit)
    after = unit.ready(above=seen["generation"])
    assert not any(map(is_pid_alive, old))
    assert after["keeper"]["generation"] == after["generation"] - 1
    assert after["restarts"] == 1, "new weights are charged to nobody"
    assert after["keeper"]["stale"] is None
    assert "1 file has changed since the keeper loaded them: " in unit.read_output()
    until(lambda: len(unit.journal("engine", "takes")) == 4, "all engines took what keepers hold")
    assert unit.journal("engine", "takes")[-1].what == f"takes {after['keeper']['generation']}"


def test_a_unit_that_runs_goes_on_and_tells(start: Start, weights: Path) -> None:
    unit = start(size=1, UNIT_KEEPER_FILES=str(weights))
    seen = unit.ready()
    renew(weights)
    stale = until(lambda: unit.status()["keeper"]["stale"], "it is told that weights have changed")
    assert stale.endswith(f"{weights}/b.safetensors")
    assert unit.status()["generation"] == seen["generation"]
    where = ("--http-address", f"127.0.0.1:{unit.port}", "--unit", unit.env["UNIT_ID"])
    assert unitagent("restart", "--wait", *where).returncode == 0
    assert unit.ready(above=seen["generation"])["keeper"]["generation"] > 1


def test_weights_that_are_renewed_in_a_pause_are_loaded_when_it_is_over(start: Start, weights: Path) -> None:
    unit = start(UNIT_KEEPER_FILES=str(weights))
    seen = unit.ready()
    where = ("--http-address", f"127.0.0.1:{unit.port}", "--unit", unit.env["UNIT_ID"])
    assert unitagent("pause", *where).returncode == 0
    crash(unit)
    until(lambda: unit.status()["generation"] > seen["generation"], "it waits at a barrier")
    old = [unit.keeper(rank) for rank in range(2)]
    assert all(map(is_pid_alive, old))
    renew(weights)
    until(lambda: not any(map(is_pid_alive, old)), "keepers of old weights end")
    assert unitagent("resume", *where).returncode == 0
    unit.ready(above=seen["generation"])
    assert {one.generation for one in unit.journal("keeper", "starts")} > {1}


def test_what_an_engine_writes_beside_its_weights_does_not_count(start: Start, weights: Path) -> None:
    unit = start(UNIT_KEEPER_FILES=str(weights))
    seen = unit.ready()
    old = [unit.keeper(rank) for rank in range(2)]
    (weights / "__pycache__").mkdir()
    (weights / "__pycache__" / "modeling.pyc").touch()
    (weights / ".lock").touch()
    crash(unit)
    assert unit.ready(above=seen["generation"])["keeper"]["generation"] == 1
    assert all(map(is_pid_alive, old))


def test_weights_that_are_not_there_are_named_once(start: Start, tmp_path: Path) -> None:
    unit = start(size=1, UNIT_KEEPER_FILES=str(tmp_path / "gone"))
    unit.ready()
    assert unit.read_output().count("the keeper's files are not watched: No such file") == 1
