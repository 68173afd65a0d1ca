"""What the probe address of an instance without a rank answers, probe by probe."""

from __future__ import annotations

import pytest

from unitagent.agent.standby import StandbyAnswers
from unitagent.core.probe_answers import NOT_HERE, OK, UNAVAILABLE
from unitagent.core.probe_paths import LIVE, STARTUP, TRAFFIC, Probe

NEW = Probe(word="new", paths=("/newz",), rule="answer_newz", passes="somebody has added it")


@pytest.mark.parametrize(
    ("probe", "code"), [(LIVE, OK), (STARTUP, OK), (TRAFFIC, NOT_HERE), (NEW, UNAVAILABLE)]
)
def test_a_standby_passes_only_what_it_can_promise(probe: Probe, code: int) -> None:
    """None of these needs the store, so no agent stands behind them."""
    answer = StandbyAnswers.__new__(StandbyAnswers).answer_probe(probe)
    assert answer.code == code
    assert all(check.reason for check in answer.checks if not check.ok)
