"""``docker/observability``: Prometheus takes the files, each alert fires when it should, and each query asks
for a metric that agents have.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.probes.agents import status
from unitagent.core.model import Reason
from unitagent.core.spares import describe_spares
from unitagent.probes.metrics import Gauges, Metrics

FOLDER = Path(__file__).parents[2] / "docker" / "observability"
PROMTOOL = shutil.which("promtool")
METRIC = re.compile(r"\b(?:unitagent|process)_[a-z0-9_]+\b")

needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="needs promtool: scripts/test.sh brings it")


def promtool(*words: str, folder: Path = FOLDER) -> str:
    done = subprocess.run(
        [str(PROMTOOL), *words], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def known_metrics() -> set[str]:
    """All names of samples that agents can have."""
    metrics = Metrics(0)
    metrics.observe_restart(Reason.EXIT, 1)
    metrics.observe_exit(1)
    metrics.observe_recovery(1.0, {"stop": 1.0})
    metrics.observe_store_contact(0.0)
    told = status(
        failure={"at": 1.0},
        last_order={"at": 1.0},
        conditions=[{"type": "Ready", "since": 1.0}],
        budget={"used": 1, "allowed": 10},
        spares=describe_spares([], 1.0, wanted=1),
        engine={"phases": {"weights": 1.0}},
    )
    text = metrics.render_text(told, 0.0, Gauges(requests_in_flight=1)).decode()
    return {one.name for family in text_string_to_metric_families(text) for one in family.samples}


def alert_rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard_queries() -> Iterator[str]:
    dashboard = json.loads((FOLDER / "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel["targets"])


@needs_promtool
def test_prometheus_takes_the_files() -> None:
    promtool("check", "config", "prometheus.yaml")
    promtool("check", "rules", "alerts.yaml")


@needs_promtool
def test_each_alert_fires_when_it_should_and_only_then() -> None:
    promtool("test", "rules", "alerts_test.yaml")


def test_each_alert_has_a_test_that_sees_it_fire_and_says_what_to_do() -> None:
    tests = yaml.safe_load((FOLDER / "alerts_test.yaml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    assert {rule["alert"] for rule in alert_rules()} == {
        case["alertname"] for case in cases if case["exp_alerts"]
    }
    for rule in alert_rules():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}


@needs_promtool
def test_the_queries_of_the_dashboard_are_well_formed(tmp_path: Path) -> None:
    rules = [
        {"record": f"query:{number}", "expr": query.replace("$unit", ".*")}
        for number, query in enumerate(dashboard_queries())
    ]
    (tmp_path / "queries.yaml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    promtool("check", "rules", "queries.yaml", folder=tmp_path)


@pytest.mark.parametrize("query", [*dashboard_queries(), *(rule["expr"] for rule in alert_rules())])
def test_each_query_asks_for_metrics_that_agents_have(query: str) -> None:
    asked = set(METRIC.findall(query))
    assert asked
    assert asked <= known_metrics(), asked - known_metrics()


def test_the_dashboard_can_choose_a_unit_and_its_panels_do_not_overlap() -> None:
    dashboard = json.loads((FOLDER / "dashboard.json").read_text())
    assert [one["name"] for one in dashboard["templating"]["list"]] == ["datasource", "service", "unit"]
    places = [
        (x, y)
        for panel in dashboard["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(places) == len(set(places))
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_the_pod_monitor_selects_the_pods_of_our_manifests() -> None:
    (monitor,) = yaml.safe_load_all((FOLDER / "podmonitor.yaml").read_text())
    (rule,) = monitor["spec"]["selector"]["matchExpressions"]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    for manifest in ("statefulset.yaml", "sidecar.yaml", "leaderworkerset.yaml"):
        text = (FOLDER.parent / "kubernetes" / manifest).read_text()
        assert re.search(rf"\b{rule['key']}: {rule['values'][0]}\b", text), manifest
        assert re.search(rf"- name: {endpoint['port']}\n", text), manifest
