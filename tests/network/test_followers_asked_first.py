"""Without guard, a platform that reaches the followers seconds before rank 0: they are held until it has
stopped.
"""

from __future__ import annotations

import signal

import pytest

from tests.network.lab import Lab
from tests.network.test_stop_order import QUICK, ended_first
from tests.waiting import throughout

EARLY = 3.0  # seconds, of the 25 that a stop may take


@pytest.mark.slow
def test_without_guard_followers_that_are_asked_seconds_before_rank_0_stop_after_it(lab: Lab) -> None:
    generation = lab.form("only=0", "lingers=1", **QUICK, UNIT_GUARD="false")["generation"]
    for host in (2, 1):
        lab.agents[host].signal(signal.SIGTERM)
    throughout(lambda: not followers_asked(lab), "a follower's workload was stopped before rank 0's", EARLY)
    lab.agents[0].signal(signal.SIGTERM)
    assert lab.codes() == [0, 0, 0]
    ended_first(lab, generation)


def followers_asked(lab: Lab) -> bool:
    return any(note["rank"] != 0 for note in lab.events("term"))
