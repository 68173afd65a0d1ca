"""What the store shows of a Unit that may be gone: no phase that its agents would deny."""

from __future__ import annotations

from typing import Any

import pytest

from unitagent.core.model import Failure, InstanceState, Reason, Record
from unitagent.core.observed_status import status_from_store
from unitagent.core.summary import summarize
from unitagent.store.protocol import UnitSnapshot

HEALTHY, RUNNING, EXITED = InstanceState.HEALTHY, InstanceState.RUNNING, InstanceState.EXITED
JOB = "UNIT_GUARD=true UNIT_MODE=job"
RECREATED = "UNIT_MODE=service UNIT_RESTART=recreate"


def record(rank: int, **others: Any) -> Record:
    shown = {"size": 2, "generation": 1, "state": HEALTHY if rank == 0 else RUNNING, "lease": 5.0, **others}
    return Record(rank=rank, incarnation=f"i{rank}", ip=f"10.0.0.{rank}", port=0, **shown)


def look(*records: Record, ages: tuple[float, ...] = (0.1, 0.1), **others: Any) -> dict[str, Any]:
    beats = {one.rank: ages[one.rank] for one in records}
    shown = {"generation": 1, "now": 1000.0, **others}
    table = UnitSnapshot(records={one.rank: one for one in records}, ages=beats, **shown)
    seen = status_from_store("u", table, lease=5.0)
    return {**seen, "summary": summarize(seen, now=1000.0)}


def left(rank: int, **others: Any) -> Record:
    return record(rank, has_left=True, state=EXITED, **others)


def message(*records: Record, **others: Any) -> str:
    return str(look(*records, **others)["summary"]["message"])


@pytest.mark.parametrize(
    ("records", "ages", "phase", "severity"),
    [
        ((record(0), record(1)), (0.1, 0.1), "running", "good"),
        ((record(0), record(1)), (11.0, 12.0), "silent", "bad"),
        ((record(0), record(1)), (0.1, 12.0), "running", "bad"),
        ((record(0), record(1, has_left=True, state=EXITED)), (11.0, 12.0), "silent", "bad"),
        ((left(0, stop_requested=True), left(1)), (9.0, 9.0), "drained", "off"),
        ((left(0, exit_code=3), left(1, exit_code=3)), (9.0, 9.0), "failed", "bad"),
        ((left(0, fingerprint=RECREATED), left(1, fingerprint=RECREATED)), (9.0, 9.0), "restarting", "busy"),
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


@pytest.mark.parametrize(("fingerprint", "phase"), [(JOB, "completed"), ("UNIT_MODE=service", "failed")])
def test_only_a_job_is_completed(fingerprint: str, phase: str) -> None:
    done = {"has_left": True, "state": EXITED, "exit_code": 0, "fingerprint": fingerprint}
    assert look(record(0, **done), record(1, **done))["phase"] == phase
    still_there = {**done, "has_left": False}
    if fingerprint == JOB:
        assert look(record(0, **still_there), record(1, **still_there))["phase"] == "completed"


def test_a_job_that_was_drained_is_not_completed_though_its_workloads_exit_with_0() -> None:
    told = {"exit_code": 0, "fingerprint": JOB, "draining": True, "stop_requested": True}
    assert look(left(0, **told), left(1, **told))["phase"] == "drained"


def test_a_job_runs_while_some_ranks_have_done_their_part() -> None:
    done = record(0, state=EXITED, exit_code=0, fingerprint=JOB)
    assert look(done, record(1, fingerprint=JOB))["phase"] == "running"
    assert message(done, record(1, fingerprint=JOB)) == "not ready: rank 0 has exited with code 0"


def test_a_unit_that_has_ended_says_when_and_how() -> None:
    done = {"exit_code": 0, "fingerprint": JOB}
    assert message(left(0, **done), left(1, **done), ages=(300.0, 310.0)) == "completed 5 min ago"
    asked = left(0, stop_requested=True), left(1, stop_requested=True)
    assert message(*asked, ages=(34.0, 30.0)) == "drained 30 s ago"
    crashed = "failed for 9 s: rank 0 has exited with code 3, rank 1 has exited"
    assert message(left(0, exit_code=3), left(1), ages=(9.0, 9.0)) == crashed
    rebuilt = message(left(0, fingerprint=RECREATED), left(1, fingerprint=RECREATED), ages=(9.0, 9.0))
    assert rebuilt.startswith("restarting for 9 s: rank 0 has exited, rank 1 has exited; the platform is to")
    failure = Failure(generation=4, rank=1, ip="10.0.0.1", reason=Reason.EXIT, detail="rank 1 broke", at=990)
    spent = look(record(0, budget_exhausted=True), record(1), failure=failure, generation=5)
    gone = left(1, budget_exhausted=True)
    assert message(record(0), gone, ages=(0.1, 48.0)).startswith(
        "failed for 48 s: the restart budget is spent"
    )
    ready = spent["conditions"][0]
    assert (ready["reason"], ready["since"]) == ("RestartBudgetSpent", 990)
    assert ready["message"] == "the restart budget is spent (UNIT_MAX_RESTARTS); last: rank 1 broke"


def test_a_rank_with_another_secret_has_joined_but_does_not_count() -> None:
    seen = look(record(0, state=InstanceState.IDLE), foreign=frozenset({1}))
    assert seen["conditions"][1]["message"] == "rank 1 has another UNIT_SECRET"
    assert seen["summary"]["message"] == "forming: rank 1 has another UNIT_SECRET, rank 0 is idle"


def test_an_engine_that_loads_says_for_how_long_its_check_has_failed() -> None:
    sick = record(0, state=RUNNING, failed_check="URL: answered 404", failed_check_since=993.0)
    assert message(sick, record(1)) == "loading for 7 s, waiting for rank 0's health URL: answered 404"


def test_a_restart_and_the_first_start_say_since_when() -> None:
    idle = {"state": InstanceState.IDLE, "restarts": 1, "generation": 3}
    failure = Failure(generation=2, rank=0, ip="10.0.0.0", reason=Reason.EXIT, at=966.0)
    waits = "rank 0 is idle, rank 1 is idle"
    shown = {"failure": failure, "generation": 3}
    assert message(record(0, **idle), record(1, **idle), **shown) == f"restarting for 34 s: {waits}"
    shown["generation"] = 4  # that failure has been recovered from, and the next generation ended in a drain
    assert message(record(0, **idle), record(1, **idle), **shown) == f"restarting: {waits}"
    first = record(0, state=InstanceState.IDLE)
    assert message(first, age=120.0) == "forming for 2 min: rank 1 never joined, rank 0 is idle"


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
