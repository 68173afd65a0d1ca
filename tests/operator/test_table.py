"""The table of ``unitagent status``: what is not as it should be stands there in words."""

from __future__ import annotations

from typing import Any

from tests.probes import agents
from unitagent.operator.status import table


def lines(**changes: Any) -> list[str]:
    return table(agents.status(**changes)).splitlines()


def condition(**changes: Any) -> dict[str, Any]:
    told = {"type": "StoreReachable", "status": "False", "reason": "StoreSilent", "since": 1.0}
    return {**told, "message": "the store does not answer; the Unit goes on", **changes}


def test_a_condition_that_is_not_met_says_since_when() -> None:
    (gone,) = [line for line in lines(conditions=[condition()]) if "the store" in line]
    assert gone.startswith("since 1970-01-01T")
    assert gone.endswith(": the store does not answer; the Unit goes on")


def test_one_that_never_was_has_no_since_and_one_that_is_met_is_not_told() -> None:
    assert "the store does not answer; the Unit goes on" in lines(conditions=[condition(since=None)])
    assert lines(conditions=[condition(status="True")]) == lines(conditions=[]) == lines()
