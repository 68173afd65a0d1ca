"""What the store shows of a Unit that may be gone: no phase that its agents would deny."""

from __future__ import annotations

from typing import Any

import pytest

from unitagent.core.model import InstanceState, Record
from unitagent.core.observed_status import status_from_store
from unitagent.core.summary import summarize
from unitagent.store.protocol import UnitSnapshot

HEALTHY, RUNNING, EXITED = InstanceState.HEALTHY, InstanceState.RUNNING, InstanceState.EXITED
JOB = "UNIT_GUARD=true UNIT_MODE=job"


def record(rank: int, **others: Any) -> Record:
    shown = {"size": 2, "generation": 1, "state": HEALTHY if rank == 0 else RUNNING, "lease": 5.0, **others}
    return Record(rank=rank, incarnation=f"i{rank}", ip=f"10.0.0.{rank}", port=0, **shown)


def look(*records: Record, ages: tuple[float, ...] = (0.1, 0.1)) -> dict[str, Any]:
    beats = {one.rank: ages[one.rank] for one in records}
    table = UnitSnapshot(generation=1, records={one.rank: one for one in records}, ages=beats)
    seen = status_from_store("u", table, lease=5.0)
    return {**seen, "summary": summarize(seen, now=1000.0)}


@pytest.mark.parametrize(
    ("records", "ages", "phase", "severity"),
    [
        ((record(0), record(1)), (0.1, 0.1), "running", "good"),
        ((record(0), record(1)), (11.0, 12.0), "silent", "bad"),
        ((record(0), record(1)), (0.1, 12.0), "running", "bad"),
        ((record(0), record(1, has_left=True, state=EXITED)), (11.0, 12.0), "silent", "bad"),
        (
            (record(0, has_left=True, state=EXITED), record(1, has_left=True, state=EXITED)),
            (9.0, 9.0),
            "drained",
            "off",
        ),
        ((record(0, state=RUNNING), record(1)), (0.1, 0.1), "running", "busy"),
        ((record(0, state=InstanceState.IDLE),), (0.1,), "forming", "busy"),
        ((record(0, budget_exhausted=True, has_left=True, state=EXITED),), (9.0,), "failed", "bad"),
    ],
)
def test_the_phase_and_its_severity(
    records: tuple[Record, ...], ages: tuple[float, ...], phase: str, severity: str
) -> None:
    seen = look(*records, ages=ages)
    assert (seen["phase"], seen["summary"]["severity"]) == (phase, severity)


@pytest.mark.parametrize(("fingerprint", "phase"), [(JOB, "completed"), ("UNIT_MODE=service", "drained")])
def test_only_a_job_is_completed(fingerprint: str, phase: str) -> None:
    done = {"has_left": True, "state": EXITED, "exit_code": 0, "fingerprint": fingerprint}
    assert look(record(0, **done), record(1, **done))["phase"] == phase
    still_there = {**done, "has_left": False}
    if fingerprint == JOB:
        assert look(record(0, **still_there), record(1, **still_there))["phase"] == "completed"


def test_a_silent_unit_says_for_how_long() -> None:
    seen = look(record(0), record(1), ages=(11.0, 13.0))
    assert seen["summary"]["message"] == "silent: no rank has sent a heartbeat for 11 s"


def test_a_rank_is_lost_by_its_own_lease() -> None:
    seen = look(record(0), record(1, lease=20.0), ages=(0.1, 12.0))
    assert [one["state"] for one in seen["instances"]] == ["healthy", "running"]


def test_absent_ranks_and_ill_health_are_told_in_the_words_of_the_agents() -> None:
    ready, ranks, health, store = look(record(0, state=RUNNING, failed_check="URL: answered 404"), record(1))[
        "conditions"
    ]
    assert ready["message"] == health["message"] == "rank 0's health URL: answered 404"
    assert (ranks["status"], store["status"]) == ("True", "True")
    seen = look(record(0))
    assert seen["conditions"][1]["message"] == "rank 1 never joined"
    seen = look(record(0), record(1), ages=(0.1, 12.0))
    assert seen["conditions"][1]["message"] == "rank 1 (10.0.0.1) lost for 12 s"
    assert seen["summary"]["message"].endswith("rank 1 (10.0.0.1) lost for 12 s")
