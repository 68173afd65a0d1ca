"""Ranks of different revisions: with ``UNIT_STRICT`` one of them ends, and says who has which."""

from __future__ import annotations

from tests.network.lab import Lab


def test_a_strict_newcomer_of_another_revision_ends_with_77(lab: Lab) -> None:
    for host in (0, 1):
        lab.start(host, UNIT_STRICT="true", UNIT_REVISION="old")
    lab.until(lambda: lab.agents[0].said("at the barrier"), "rank 0 stands at the barrier")
    lab.start(2, UNIT_STRICT="true", UNIT_REVISION="new")
    assert lab.agents[2].code() == 77
    assert lab.agents[2].said("has UNIT_REVISION=old", "rank 2 has new")
    lab.start(2, UNIT_STRICT="true", UNIT_REVISION="old")
    lab.wait_ready()
