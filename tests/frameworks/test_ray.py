"""A real Ray job spans the three instances of a Unit; a raylet that is killed restarts the Unit, and the job
spans three again.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.frameworks.engine import SCRATCH, contained
from tests.frameworks.installed import PROGRAMS, path
from tests.network.conftest import MakeLab
from tests.network.containers import agent_command
from tests.network.lab import Lab

pytestmark = pytest.mark.root

SIZE = 3
ROUNDS = 5
PATIENCE = 200.0  # seconds for a Ray cluster of three on a machine with other work


@pytest.mark.parametrize(("victim", "rank"), [("raylet", 1), ("raylet", 0), ("gcs_server", 0)])
def test_a_killed_part_restarts_the_unit(make_lab: MakeLab, ray: Path, victim: str, rank: int) -> None:
    lab = make_lab(SIZE)
    job = ["python", str(PROGRAMS / "ray_spread.py")]
    for host in range(SIZE):
        words = contained(lab, host, agent_command(*job))
        lab.launch(host, words, UNIT_FRAMEWORK="ray", PATH=path(ray), RAY_TMPDIR=SCRATCH)
    wait_for_rounds(lab, 1)
    os.kill(pid_of(lab, rank, victim), signal.SIGKILL)
    wait_for_rounds(lab, 2)
    assert {line["rank"] for line in lab.events("round")} == {0}
    for line in lab.events("round"):
        assert line["answers"] == [[rank, line["generation"]] for rank in range(SIZE)]
    status = lab.wait_ready(above=1)
    assert (status["generation"], status["restarts"], status["failure"]["generation"]) == (2, 1, 1)
    if victim == "gcs_server":  # the others have no say: Ray itself needs a minute to notice
        assert "gcs_server" in status["failure"]["detail"]


def wait_for_rounds(lab: Lab, generation: int) -> None:
    """Wait until all nodes have answered ``ROUNDS`` times."""

    def rounds() -> list[dict[str, Any]]:
        return lab.events("round", generation=generation)

    lab.until(lambda: len(rounds()) >= ROUNDS, f"{ROUNDS} rounds in generation {generation}", PATIENCE)


def pid_of(lab: Lab, rank: int, name: str) -> int:
    """The pid of a rank's only living process of this name."""
    pids = [life.pid for life in lab.watched(rank)]
    found = [pid for pid in pids if Path(f"/proc/{pid}/comm").read_text().strip() == name]
    assert len(found) == 1, found
    return found[0]
