"""A Unit of 4 under random faults keeps every promise, and the checker notices an agent that does not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.chaos.checker import violations
from tests.chaos.picture import picture
from tests.chaos.plan import USUAL, Plan
from tests.chaos.report import report
from tests.chaos.run import run

REPORT = "UNITAGENT_CHAOS_REPORT"  # names a directory for the figures and the picture
REBUILT = "rebuilt at its own address at once"
SABOTAGES = {
    "leaves-the-old-one": ("was alive", "workload killed"),
    "never-isolates": ("lived on for more than", "cut off"),
    "panics-without-store": ("a needless restart", "store stopped"),
    "ignores-the-others": ("did not come back", "workload killed"),
    "mixes-up-the-leader": ("were told different things", "workload killed"),
    "obeys-a-memory": ("ended with 76, but it should have gone on", REBUILT, "store set back"),
    "believes-an-address": ("a needless restart", "newcomer at the same address"),
}

pytestmark = [pytest.mark.chaos, pytest.mark.root, pytest.mark.timeout(1200)]


@pytest.fixture(autouse=True)
def _needs_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("network namespaces and process events need root")


def test_nothing_is_violated(tmp_path: Path) -> None:
    history = run(USUAL, tmp_path, print)
    found = violations(history)
    if REPORT in os.environ:
        where = Path(os.environ[REPORT])
        where.mkdir(parents=True, exist_ok=True)
        (where / "chaos.json").write_text(json.dumps(report(history, found), indent=1))
        (where / "chaos.svg").write_text(picture(history))
    assert not found, "\n".join(found)
    assert len(history.rounds) == USUAL.rounds


@pytest.mark.parametrize("name", SABOTAGES)
def test_a_broken_agent_is_noticed(tmp_path: Path, name: str) -> None:
    sentence, *kinds = SABOTAGES[name]
    plan = Plan(rounds=2, seed=1, kinds=kinds, pairs=0.0, sabotage=name, back=15.0, timing=(5.0, 1.0))
    found = violations(run(plan, tmp_path, print))
    assert any(sentence in one for one in found), found
