"""What a person can still learn when rank 0 is gone, and the embedded store with it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil

from tests.acceptance.local import UNIT, LocalUnit, unitagent
from tests.waiting import until


def test_history_and_evidence_are_read_from_the_agents_that_are_left(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef0123\n")
    options = ["--guard", "--evidence-dir", str(tmp_path / "evidence"), "--secret-file", str(secret)]
    options += ["--log-level", "debug"]
    unit = LocalUnit(tmp_path, *options, size=3)

    def ask(*words: str) -> str:
        where = ["--http-address", unit.address(1), "--secret-file", str(secret)]
        return unitagent(*words, "--unit", UNIT, *where).stdout

    try:
        unit.ready()
        ask("restart", "--reason", "a look at it", "--wait")
        before = len(unit.output.read_text())
        until(lambda: ask("evidence").count("files, ") == 3, "all ranks have collected")
        until(lambda: "keeps a copy of" in unit.output.read_text()[before:], "a copy is kept")
        os.kill(agent_of(unit, 0), signal.SIGKILL)
        until(lambda: "cannot be reached" in errors(unit, secret, "list"), "the store is gone")
        until(lambda: "asked for a restart: a look at it" in ask("events"), "the copy is shown")
        assert "Unit " + UNIT in ask("timeline")
        assert ask("evidence", "--generation", "1").count("files, ") == 2
        refused = errors(unit, secret, "evidence", without=True)
        assert (
            "rank 1: its agent has a secret: pass the same one to this command (UNIT_SECRET_FILE)\n"
            in refused
        )
    finally:
        unit.close()


def errors(unit: LocalUnit, secret: Path, *words: str, without: bool = False) -> str:
    where = ["--http-address", unit.address(1), *([] if without else ["--secret-file", str(secret)])]
    return unitagent(*words, "--unit", UNIT, *where).stderr


def agent_of(unit: LocalUnit, rank: int) -> int:
    """The pid of the agent of this rank."""
    agents = psutil.Process(unit.popen.pid).children()
    return next(one.pid for one in agents if one.environ().get("RANK_ID") == str(rank))
