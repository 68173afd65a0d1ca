"""Metrics, read back by the parser that Prometheus publishes."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.probes.agents import instance, status
from unitagent import __version__
from unitagent.core.model import InstanceState, Phase, Reason
from unitagent.probes.metrics import Metrics

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
    samples = read(Metrics(1).render(status(**failed), now=0.0))
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


@pytest.mark.parametrize("state", InstanceState)
def test_exactly_one_state_is_one(state: InstanceState) -> None:
    shown = status(instances=[instance(state=state.value, lease_seconds=None)])
    samples = read(Metrics(1).render(shown, now=0.0))
    assert {each: value(samples, "state", state=each) for each in InstanceState} == {
        each: float(each is state) for each in InstanceState
    }
    assert value(samples, "lease_age_seconds", rank="1") is None


@pytest.mark.parametrize("phase", Phase)
def test_exactly_one_phase_is_one(phase: Phase) -> None:
    samples = read(Metrics(1).render(status(phase=phase.value), now=0.0))
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
    samples = read(metrics.render(status(), now=12.5))
    assert value(samples, "restarts_total", reason="oom", origin_rank="1") == 2
    assert value(samples, "restarts_total", reason="oom", origin_rank="2") == 1
    assert value(samples, "workload_exits_total", code="137") == 1
    assert value(samples, "workload_exits_total", code="0") == 1
    assert value(samples, "reaped_total") == 4
    assert value(samples, "store_errors_total") == 1
    assert value(samples, "store_last_contact_seconds") == 2.5


def test_recoveries_make_a_histogram() -> None:
    metrics = Metrics(0)
    for total in (0.5, 1.0, 45.0, 9999.0):
        metrics.observe_recovery(total)
    samples = read(metrics.render(status(), now=0.0))
    buckets = {
        limit: value(samples, "recovery_duration_seconds_bucket", le=limit)
        for limit in ("1.0", "30.0", "60.0", "3600.0", "+Inf")
    }
    assert buckets == {"1.0": 2, "30.0": 2, "60.0": 3, "3600.0": 3, "+Inf": 4}
    assert value(samples, "recovery_duration_seconds_count") == 4
    assert value(samples, "recovery_duration_seconds_sum") == 10045.5


def test_a_fresh_agent_has_no_unknown_values() -> None:
    samples = read(Metrics(0).render(status(), now=0.0))
    assert value(samples, "last_failure_timestamp_seconds") is None
    assert value(samples, "store_last_contact_seconds") is None
    assert value(samples, "reaped_total") == 0
    assert value(samples, "recovery_duration_seconds_count") == 0


def test_every_name_has_our_prefix_and_help() -> None:
    text = Metrics(0).render(status(), now=0.0).decode()
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# HELP")}
    assert all(name.startswith("unitagent_") for name in names)
    assert {line.split("{")[0].split()[0] for line in text.splitlines() if line[0] != "#"} <= names | {
        f"unitagent_recovery_duration_seconds_{suffix}" for suffix in ("bucket", "count", "sum")
    }
