"""The table of ``unitagent status``: what is not as it should be stands there in words."""

from __future__ import annotations

from typing import Any

from tests.probes import agents
from unitagent.operator.status_table import format_table


def lines(**changes: Any) -> list[str]:
    return format_table(agents.status(**changes)).splitlines()


def row(connected: bool = True, **changes: Any) -> str:
    one = agents.instance(**changes)
    store = {"connected": connected, "since": 1.0}
    return format_table(agents.status(instances=[one], store=store), beat_due=1.5).splitlines()[2]


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


def test_a_rank_whose_heartbeat_is_missing_is_silent() -> None:
    assert row(state="running", lease_seconds=3.2).endswith("3.2s  silent for 3 s")
    assert row(state="lost", lease_seconds=12.0).endswith("silent for 12 s")
    assert row(state="running", lease_seconds=1.4).endswith("1.4s")


def test_who_has_left_is_not_silent_and_without_the_store_nobody_can_be_heard() -> None:
    assert row(state="exited", lease_seconds=60.0).endswith("60.0s")
    assert row(state="running", lease_seconds=None).endswith("-")
    assert row(connected=False, state="running", lease_seconds=60.0).endswith("60.0s")


def secrets(**told: Any) -> list[str]:
    return [line for line in lines(secrets=told) if line.startswith("secrets")]


def test_a_rank_without_a_secret_in_common_is_told_apart_from_one_in_the_middle_of_a_change() -> None:
    between, apart = secrets(accepted=2, differing=[1, 3], strangers=[3])
    assert between == "secrets accepted: 2; rank 1 has different secrets"
    assert apart.startswith("secrets accepted: 2; rank 3 has none of these secrets and cannot join")
    assert secrets(accepted=2, differing=[], strangers=[]) == [
        "secrets accepted: 2; all ranks have the same secrets"
    ]
    assert secrets(accepted=1, differing=[0, 1]) == ["secrets accepted: 1; ranks 0, 1 have different secrets"]
    assert secrets(accepted=1, differing=[], strangers=[]) == []
    assert len(secrets(accepted=1, differing=None)) == 1
