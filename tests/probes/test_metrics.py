"""Metrics, read back by the parser that Prometheus publishes."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.probes.agents import instance, status
from unitagent import __version__
from unitagent.core.model import InstanceState, Phase, Reason
from unitagent.probes.metrics import CpuCounter, Gauges, Metrics

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def read(text: bytes) -> Samples:
    samples = [each for family in text_string_to_metric_families(text.decode()) for each in family.samples]
    found = {(each.name, tuple(sorted(each.labels.items()))): each.value for each in samples}
    assert len(found) == len(samples)
    return found


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((f"unitagent_{name}", tuple(sorted(labels.items()))))


def test_a_status_becomes_gauges() -> None:
    failed: dict[str, Any] = {
        "failure": {"at": 12.5},
        "recovery": {"detect": 0.5, "total": 4.0, "stop": None},
    }
    samples = read(Metrics(1).render_text(status(**failed), now=0.0))
    assert value(samples, "build_info", version=__version__) == 1
    assert value(samples, "unit_size") == 2
    assert value(samples, "rank") == 1
    assert value(samples, "generation") == 7
    assert value(samples, "ready") == 1
    assert value(samples, "traffic") == 0
    assert value(samples, "draining") == 0
    assert value(samples, "store_connected") == 1
    assert value(samples, "lease_age_seconds", rank="1") == 0.5
    assert value(samples, "last_failure_timestamp_seconds") == 12.5
    assert value(samples, "recovery_seconds", stage="detect") == 0.5
    assert value(samples, "recovery_seconds", stage="total") == 4.0
    assert value(samples, "recovery_seconds", stage="stop") is None


def test_the_phases_of_the_engine_are_gauges_where_they_are_known() -> None:
    samples = read(
        Metrics(0).render_text(status(engine={"phases": {"imports": 29.9, "weights": 2.0}}), now=0.0)
    )
    assert value(samples, "engine_phase_seconds", phase="imports") == 29.9
    assert value(samples, "engine_phase_seconds", phase="weights") == 2.0
    assert value(samples, "engine_phase_seconds", phase="compile") is None
    for unknown in (status(engine=None), status()):
        assert not [name for name, _ in read(Metrics(0).render_text(unknown, now=0.0)) if "engine" in name]


@pytest.mark.parametrize("state", InstanceState)
def test_exactly_one_state_is_one(state: InstanceState) -> None:
    shown = status(instances=[instance(state=state.value, lease_seconds=None)])
    samples = read(Metrics(1).render_text(shown, now=0.0))
    assert {each: value(samples, "state", state=each) for each in InstanceState} == {
        each: float(each is state) for each in InstanceState
    }
    assert value(samples, "lease_age_seconds", rank="1") is None


@pytest.mark.parametrize("phase", Phase)
def test_exactly_one_phase_is_one(phase: Phase) -> None:
    samples = read(Metrics(1).render_text(status(phase=phase.value), now=0.0))
    assert {each: value(samples, "phase", phase=each) for each in Phase} == {
        each: float(each is phase) for each in Phase
    }


def test_what_happened_is_counted() -> None:
    metrics = Metrics(0)
    for rank in (1, 1, 2):
        metrics.observe_restart(Reason.OOM, rank)
    metrics.observe_exit(137)
    metrics.observe_exit(0)
    metrics.observe_reaped(3)
    metrics.observe_reaped()
    metrics.observe_store_error()
    metrics.observe_store_contact(10.0)
    samples = read(metrics.render_text(status(), now=12.5))
    assert value(samples, "restarts_total", reason="oom", origin_rank="1") == 2
    assert value(samples, "restarts_total", reason="oom", origin_rank="2") == 1
    assert value(samples, "workload_exits_total", code="137") == 1
    assert value(samples, "workload_exits_total", code="0") == 1
    assert value(samples, "reaped_total") == 4
    assert value(samples, "store_errors_total") == 1
    assert value(samples, "store_last_contact_seconds") == 2.5


def test_recoveries_make_a_histogram() -> None:
    metrics = Metrics(0)
    for total in (0.022, 0.5, 1.0, 45.0, 9999.0):
        metrics.observe_recovery(total, {"stop": total / 2, "barrier": None, "total": total})
    samples = read(metrics.render_text(status(), now=0.0))
    buckets = {
        limit: value(samples, "recovery_duration_seconds_bucket", le=limit)
        for limit in ("0.01", "0.025", "1.0", "30.0", "60.0", "3600.0", "+Inf")
    }
    assert buckets == {"0.01": 0, "0.025": 1, "1.0": 3, "30.0": 3, "60.0": 4, "3600.0": 4, "+Inf": 5}
    assert value(samples, "recovery_duration_seconds_count") == 5
    assert value(samples, "recovery_duration_seconds_sum") == 10045.522
    assert value(samples, "recovery_stage_seconds_total", stage="stop") == 10045.522 / 2
    assert value(samples, "recovery_stage_seconds_total", stage="total") is None
    assert value(samples, "recovery_stage_seconds_total", stage="barrier") is None


def test_what_is_counted_of_the_whole_unit_comes_from_rank_0_alone() -> None:
    ranks = [Metrics(rank) for rank in range(3)]
    for metrics in ranks:
        metrics.observe_restart(Reason.EXIT, 1)
        metrics.observe_recovery(2.0)
        metrics.observe_exit(1)
    counted = [read(metrics.render_text(status(), now=0.0)) for metrics in ranks]
    name = "restarts_total"
    assert [value(one, name, reason="exit", origin_rank="1") for one in counted] == [1, None, None]
    assert [value(one, "recovery_duration_seconds_count") for one in counted] == [1, None, None]
    assert [value(one, "workload_exits_total", code="1") for one in counted] == [1, 1, 1]


def test_names_of_the_unit_stand_in_one_metric_to_join_with() -> None:
    metrics = Metrics(2, unit="chat", service="chat-prod", revision="v7")
    samples = read(metrics.render_text(status(), now=0.0))
    assert value(samples, "info", unit="chat", service="chat-prod", rank="2", revision="v7") == 1
    assert [name for name, labels in samples if dict(labels).get("unit")] == ["unitagent_info"]


def test_a_person_on_call_finds_budget_waits_and_what_the_agent_uses() -> None:
    metrics = Metrics(0)
    metrics.observe_failed_check()
    metrics.observe_exchange(0.003)
    ready = {"type": "Ready", "status": "True", "reason": "Serving", "message": "", "since": 50.0}
    shown = status(
        conditions=[ready],
        last_order={"at": 40.0},
        budget={"used": 3, "allowed": 10, "window_seconds": 3600.0},
    )
    samples = read(metrics.render_text(shown, 0.0, Gauges(barrier_wait=7.5, requests_in_flight=4)))
    assert value(samples, "ready_since_timestamp_seconds") == 50
    assert value(samples, "last_order_timestamp_seconds") == 40
    assert value(samples, "restart_budget_left") == 7
    assert value(samples, "barrier_wait_seconds") == 7.5
    assert value(samples, "requests_in_flight") == 4
    assert value(samples, "health_check_failures_total") == 1
    assert value(samples, "store_exchange_duration_seconds_bucket", le="0.005") == 1
    assert value(samples, "store_exchange_duration_seconds_bucket", le="0.0025") == 0
    assert samples["process_resident_memory_bytes", ()] > 1 << 20
    unready = read(Metrics(0).render_text(status(ready=False, conditions=[ready]), now=0.0))
    assert value(unready, "ready_since_timestamp_seconds") is None
    assert value(unready, "restart_budget_left") is value(unready, "requests_in_flight") is None


def test_a_fresh_agent_has_no_unknown_values() -> None:
    samples = read(Metrics(0).render_text(status(), now=0.0))
    assert value(samples, "last_failure_timestamp_seconds") is None
    assert value(samples, "store_last_contact_seconds") is None
    assert value(samples, "reaped_total") == 0
    assert value(samples, "recovery_duration_seconds_count") == 0


def test_every_name_has_our_prefix_and_help() -> None:
    text = Metrics(0).render_text(status(), now=0.0).decode()
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# HELP")}
    assert all(name.startswith(("unitagent_", "process_")) for name in names)
    assert {line.split("{")[0].split()[0] for line in text.splitlines() if line[0] != "#"} <= names | {
        f"unitagent_{name}_duration_seconds_{suffix}"
        for name in ("recovery", "store_exchange")
        for suffix in ("bucket", "count", "sum")
    }


def process(pid: int, cpu: float, **changes: object) -> dict[str, object]:
    fields = {"pid": pid, "cpu_seconds": cpu, "memory_bytes": 100, "threads": 3, "open_files": 7}
    return fields | changes


def test_what_the_workload_uses_is_added_up() -> None:
    text = Metrics(1).render_text(
        status(), 0.0, Gauges(processes=[process(8, 1.5), process(9, 0.25, open_files=None)])
    )
    samples = read(text)
    assert value(samples, "workload_processes") == 2
    assert value(samples, "workload_cpu_seconds_total") == 1.75
    assert value(samples, "workload_memory_bytes") == 200
    assert value(samples, "workload_threads") == 6
    assert value(samples, "workload_open_files") == 7


def test_what_is_not_known_of_the_workload_has_no_sample() -> None:
    assert not [name for name, _ in read(Metrics(1).render_text(status(), 0.0)) if "workload_" in name]
    samples = read(
        Metrics(1).render_text(status(), 0.0, Gauges(processes=[process(8, 1.0, open_files=None)]))
    )
    assert value(samples, "workload_open_files") is None
    assert value(samples, "workload_threads") == 3
    nothing = read(Metrics(1).render_text(status(), 0.0, Gauges(processes=[])))
    assert value(nothing, "workload_open_files") == value(nothing, "workload_processes") == 0


def test_the_cpu_time_never_falls() -> None:
    counter = CpuCounter()
    totals = []
    for seconds in ({8: 1.0, 9: 2.0}, {8: 1.5}, {8: 1.5, 10: 0.5}, {}, {8: 0.25}, {8: 0.5}):
        counter.add_usage(seconds)
        totals.append(counter.total)
    assert totals == [3.0, 3.5, 4.0, 4.0, 4.25, 4.5]


def test_a_process_with_the_number_of_another_counts_from_its_start() -> None:
    counter = CpuCounter()
    counter.add_usage({8: 5.0})
    counter.add_usage({8: 0.5})
    assert counter.total == 5.5
