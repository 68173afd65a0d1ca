"""Why a Unit is not ready: the same words in ``/readyz``, in the conditions, in the log, on every rank."""

from __future__ import annotations

from typing import Any

from tests.core.unit import Unit
from unitagent.core import probe_answers
from unitagent.core.events import HealthChecked, HealthProbed, StopRequested
from unitagent.core.model import OrderKind
from unitagent.core.status import build_status
from unitagent.core.summary import summarize

URL = "http://127.0.0.1:8000/health"


def condition(unit: Unit, kind: str, rank: int = 0) -> dict[str, Any]:
    (found,) = (one for one in build_status(unit.agents[rank])["conditions"] if one["type"] == kind)
    assert list(found) == ["type", "status", "reason", "message", "since"]
    return dict(found)


def readyz(unit: Unit, rank: int = 0) -> str:
    return "; ".join(
        check.reason for check in probe_answers.answer_readyz(unit.agents[rank]).checks if not check.ok
    )


def loading(**rules: Any) -> Unit:
    """All ranks run, and rank 0 has yet to be healthy."""
    unit = Unit(2, guard=True, health=True, epoch=1000.0, **rules)
    unit.create(0, 1)
    unit.wait(1)
    return unit


def fail_checks(unit: Unit, seconds: int, problem: str = "connection refused") -> None:
    """A failed check each second, the first one now."""
    for second in range(seconds):
        if second:
            unit.wait(1)
        unit.tell(0, HealthProbed, URL, problem)


def test_a_failed_health_check_has_its_url_error_age_and_number_everywhere() -> None:
    unit = loading()
    fail_checks(unit, 10)
    unit.wait(1)
    said = f"rank 0's health {URL}: connection refused, 10 s, 10 checks"
    assert readyz(unit) == said
    seen = condition(unit, "WorkloadHealthy")
    assert (seen["status"], seen["reason"], seen["message"]) == ("False", "HealthCheckFailing", said)
    assert seen["since"] == 1101.0
    ready = condition(unit, "Ready")
    assert (ready["status"], ready["reason"], ready["message"]) == ("False", "Loading", said)
    assert readyz(unit, 1) == f"rank 0's health {URL}: connection refused, 10 s"
    assert condition(unit, "WorkloadHealthy", 1)["message"] == readyz(unit, 1)


def test_the_first_failed_check_is_logged_at_once_and_the_others_ever_more_rarely() -> None:
    unit = loading()
    fail_checks(unit, 1)
    said = [line for line in unit.said if URL in line]
    assert said == [f"rank 0's health {URL}: connection refused, 0 s, 1 check"]
    fail_checks(unit, 121)  # after 0, 5, 10, 20, 40 and 80 s
    assert len([line for line in unit.said if URL in line]) == 6


def test_another_problem_is_logged_soon_and_one_that_changes_each_time_is_not() -> None:
    unit = loading()
    fail_checks(unit, 60)
    before = len(unit.said)
    fail_checks(unit, 6, "answered 404")
    assert [line for line in unit.said[before:] if "answered 404" in line] == [
        f"rank 0's health {URL}: answered 404, 64 s, 65 checks"
    ]
    for number in range(60):
        unit.tell(0, HealthProbed, URL, f"answered {500 + number % 2}")
        unit.wait(0.25)
    assert len([line for line in unit.said[before:] if "answered 50" in line]) <= 4


def test_an_answer_that_is_awaited_counts_no_check() -> None:
    unit = loading()
    unit.tell(0, HealthProbed, URL, "no answer yet", False)
    unit.wait(3)
    assert readyz(unit) == f"rank 0's health {URL}: no answer yet, 3 s"


def test_before_the_first_answer_the_age_of_the_workload_is_told() -> None:
    unit = loading()
    unit.wait(3)
    assert readyz(unit) == "the workload of rank 0 is not healthy yet; it started 4 s ago"
    assert condition(unit, "WorkloadHealthy")["reason"] == "NotHealthyYet"


def test_what_passes_again_is_forgotten_by_all_ranks() -> None:
    unit = loading()
    fail_checks(unit, 3)
    unit.tell(0, HealthProbed, URL, "")
    unit.tell(0, HealthChecked, True)
    unit.wait(1)
    assert unit.ready() == {0, 1}
    assert {state.store.records[0].failed_check for state in unit.agents.values()} == {""}
    assert condition(unit, "WorkloadHealthy", 1)["status"] == condition(unit, "Ready", 1)["status"] == "True"
    assert condition(unit, "Ready")["since"] is not None


def test_the_checks_of_a_workload_that_ended_say_nothing_of_the_next_one() -> None:
    unit = loading(backoff=(0.0,))
    fail_checks(unit, 3)
    unit.crash(1)
    unit.wait(1)
    assert unit.generations() == {2}
    assert unit.agents[0].me.failed_check == ""
    assert "it started" in readyz(unit)


def test_a_record_holds_only_what_others_accept() -> None:
    unit = loading()
    unit.tell(0, HealthProbed, URL, "bad \x1b[31m answer " + "x" * 5000)
    trouble = unit.agents[0].me.failed_check
    assert trouble.isprintable()
    assert len(trouble) <= 500


def test_a_readiness_check_that_fails_later_is_no_loading() -> None:
    unit = loading()
    unit.tell(0, HealthChecked, True)
    unit.wait(5)
    unit.tell(0, HealthProbed, URL, "answered 503")
    unit.tell(0, HealthChecked, False, "answered 503", False)
    unit.wait(2)
    seen = condition(unit, "Ready")
    assert (seen["reason"], seen["since"]) == ("WorkloadNotHealthy", 1106.0)
    told = summarize(build_status(unit.agents[0]), unit.now + 1000)
    assert told["message"] == f"not ready for 2 s: rank 0's health {URL}: answered 503, 2 s, 1 check"


def test_without_a_health_check_the_unit_says_how_little_ready_means() -> None:
    unit = Unit(1).formed()
    seen = condition(unit, "WorkloadHealthy")
    assert (seen["status"], seen["reason"]) == ("Unknown", "NoHealthCheck")


def test_absent_ranks_are_told_one_way() -> None:
    unit = Unit(3)
    unit.create(0, 1)
    unit.wait(1)
    assert condition(unit, "RanksPresent")["message"] == "rank 2 never joined"
    assert "rank 2 never joined" in condition(unit, "Ready")["message"]
    assert "rank 2 never joined" in readyz(unit)
    unit.create(2)
    unit.wait(2)
    unit.cut = unit.silent = {2}
    unit.wait(9)
    lost = condition(unit, "RanksPresent")["message"]
    assert lost.startswith("rank 2 (10.0.0.2) lost for ")
    assert lost in readyz(unit)


def test_a_planned_restart_does_not_erase_a_crash_nor_a_crash_the_restart() -> None:
    unit = Unit(2, guard=True, backoff=(0.0,)).formed()
    unit.crash(1, 3)
    unit.wait(2)
    unit.order(OrderKind.RESTART, "new weights")
    unit.wait(2)
    for state in unit.agents.values():
        seen = build_status(state)
        assert (seen["failure"]["reason"], seen["failure"]["exit_code"]) == ("exit", 3)
        assert "new weights" in seen["last_order"]["detail"]
        assert (seen["generation"], seen["restarts"], seen["budget"]["used"]) == (3, 2, 1)
    unit.crash(0, 4)
    unit.wait(3)
    seen = build_status(unit.agents[1])
    assert (seen["failure"]["generation"], seen["failure"]["exit_code"]) == (3, 4)
    assert (seen["last_order"]["generation"], seen["budget"]["used"]) == (2, 2)
    unit.kill(0)
    unit.kill(1)
    unit.wait(9)
    unit.create(0, 1)
    unit.wait(2)
    seen = build_status(unit.agents[0])  # the store remembers both
    assert "new weights" in seen["last_order"]["detail"]
    assert seen["failure"] is not None


def test_the_log_tells_which_restart_it_is_of_how_many_and_when_it_comes() -> None:
    unit = Unit(1, guard=True, backoff=(0.0, 2.0), max_restarts=3, restart_window=600.0).formed()
    unit.crash(0)
    unit.wait(1)
    unit.crash(0)
    unit.wait(0.25)
    seen = build_status(unit.agents[0])["budget"]
    assert (seen["used"], seen["allowed"], seen["window_seconds"]) == (2, 3, 600.0)
    assert 0 < seen["next_restart_seconds"] <= 2
    said = [line for line in unit.said if line.startswith("restart ")]
    assert said == [
        "restart 1 of 3 within 600 s (UNIT_MAX_RESTARTS), at once",
        "restart 2 of 3 within 600 s (UNIT_MAX_RESTARTS), in 2.0 s (UNIT_BACKOFF_SECONDS)",
    ]
    unit.wait(3)
    unit.order(OrderKind.RESTART)
    unit.wait(1)
    assert "restart on request, which the restart budget does not count" in unit.said


def test_who_asked_for_a_drain_is_logged_and_told() -> None:
    unit = Unit(2, guard=True, deregister=5.0).formed()
    unit.tell(1, StopRequested, 15)
    drains = [line for line in unit.said if line.startswith("draining")]
    assert drains[0] == "draining, asked by SIGTERM: the workload of rank 0 stops first, within 25 s"
    assert drains[1].startswith("draining, since rank 1 (10.0.0.1) was asked to stop")
    assert condition(unit, "Ready", 1)["message"] == "draining, asked by SIGTERM"
    ordered = Unit(2, guard=True, deregister=5.0).formed()
    ordered.order(OrderKind.DRAIN, "maintenance")
    ordered.wait(1)
    assert "an operator asked for a drain: maintenance" in ordered.said
    assert condition(ordered, "Ready")["message"] == "draining, asked by an operator"


def test_an_exit_with_0_of_a_service_names_the_mode_for_jobs() -> None:
    unit = Unit(1, guard=True).formed()
    unit.crash(0, 0)
    assert "a job that is done when it exits with 0 needs UNIT_MODE=job" in " ".join(unit.said)


def test_a_failure_is_logged_once_per_rank() -> None:
    unit = Unit(2, guard=True).formed()
    unit.crash(1, 3)
    unit.wait(1)
    assert sum("exited with code 3" in line for line in unit.said) == 2
    alone = Unit(1).formed()
    alone.crash(0, 3)
    assert sum("exited with code 3" in line for line in alone.said) == 1
