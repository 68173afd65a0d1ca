"""One service file, three engines: what it states is in the manifest, or said not to be."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from unitagent.errors import ConfigurationError
from unitagent.operator.render.render_cli import ENGINES, render_manifest
from unitagent.settings.variables import VARIABLES

EAS = {
    "metadata": {
        "name": "deepseek_r1",
        "instance": 2,
        "gpu": 8,
        "cpu": 64,
        "memory": 512000,
        "shm_size": 64,
        "rolling_strategy": {"max_surge": "10%", "max_unavailable": 1},
    },
    "containers": [
        {
            "image": "your/engine:1",
            "port": 8000,
            "script": "bash -c 'exec serve $RANK_ID {{x}}'",
            "env": [{"name": "MODEL", "value": "$(HOME) {{.Slot}} on"}],
            "liveness_check": {"http_get": {"path": "/health", "port": 8000}},
        }
    ],
    "unit": {"size": 3, "guard": True},
    "eas.termination_grace_period": 60,
}
IMAGE = "containers[0].image='your/engine:1' must contain unitagent (docker/Dockerfile, BASE_IMAGE"


def render(
    engine: str, document: dict[str, Any] = EAS, carrier: str | None = None
) -> tuple[list[Any], list[str]]:
    text, warnings = render_manifest(engine, json.dumps(document), "service.json", carrier)
    return list(yaml.safe_load_all(text)), warnings


def changed(**parts: Any) -> dict[str, Any]:
    return {**EAS, **parts}


def with_metadata(**parts: Any) -> dict[str, Any]:
    return changed(metadata=EAS["metadata"] | parts)  # type: ignore[operator]


def with_container(**parts: Any) -> dict[str, Any]:
    return changed(containers=[EAS["containers"][0] | parts])  # type: ignore[index]


def environment(entries: list[str]) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in entries)


def substituted(text: str) -> str:
    """What Compose, Swarm and the kubelet make of a text whose dollars are all doubled."""
    assert text.replace("$$", "").count("$") == 0
    return text.replace("$$", "$")


def container(engine: str) -> tuple[list[str], dict[str, str]]:
    """An instance's command line and environment, as its process gets them."""
    documents, _ = render(engine)
    if engine == "lws":
        template = documents[0]["spec"]["leaderWorkerTemplate"]["workerTemplate"]
        found = template["spec"]["containers"][0]
        variables = {entry["name"]: entry.get("value", "") for entry in found["env"]}
        return list(map(substituted, found["args"])), {n: substituted(t) for n, t in variables.items()}
    name = {"compose": "deepseek-r1-1-2", "swarm": "deepseek-r1-1"}[engine]
    found = documents[0]["services"][name]
    texts = [text.replace('{{"{{"}}', "{{") for text in found["environment"]]
    return list(map(substituted, found["command"])), environment(list(map(substituted, texts)))


@pytest.mark.parametrize("engine", ENGINES)
def test_the_workload_gets_its_command_line_and_variables_unchanged(engine: str) -> None:
    command, variables = container(engine)
    assert command == ["/bin/sh", "-c", "bash -c 'exec serve $RANK_ID {{x}}'"]
    assert variables["MODEL"] == "$(HOME) {{.Slot}} on"


@pytest.mark.parametrize("engine", ENGINES)
def test_the_agent_gets_what_the_file_states(engine: str) -> None:
    _, variables = container(engine)
    ours = {name for name in variables if name.startswith(("UNIT_", "RANK_", "COMM_", "MASTER_"))}
    assert ours <= VARIABLES.keys()
    assert variables["UNIT_GUARD"] == "true"
    assert variables["UNIT_STOP_GRACE_SECONDS"] == "55"
    assert variables["UNIT_HEALTH_URL"] == "http://127.0.0.1:8000/health"


@pytest.mark.parametrize(
    ("engine", "entrypoint"),
    [
        ("compose", ["unitagent", "run", "--"]),
        ("swarm", ["sh", "-c", 'RANK_ID=$$((TASK_SLOT - 1)) exec unitagent run -- "$$@"', "sh"]),
    ],
)
def test_the_agent_is_the_entrypoint(engine: str, entrypoint: list[str]) -> None:
    services = render(engine)[0][0]["services"]
    assert services.pop("redis", None) is not None or engine == "compose"
    assert all(service["entrypoint"] == entrypoint for service in services.values())


def test_compose_tells_each_instance_its_place() -> None:
    services = render("compose")[0][0]["services"]
    assert list(services) == [f"deepseek-r1-{unit}-{rank}" for unit in (0, 1) for rank in (0, 1, 2)]
    place = environment(services["deepseek-r1-1-2"]["environment"])
    assert (place["UNIT_ID"], place["RANK_ID"], place["UNIT_SIZE"]) == ("deepseek-r1-1", "2", "3")
    assert place["MASTER_ADDRESS"] == "deepseek-r1-1-0"
    published = [name for name, service in services.items() if "ports" in service]
    assert published == ["deepseek-r1-0-0", "deepseek-r1-1-0"]


def test_compose_gives_no_two_instances_the_same_gpu() -> None:
    documents, warnings = render("compose", with_metadata(gpu=2))
    devices = [
        service["deploy"]["resources"]["reservations"]["devices"]
        for service in documents[0]["services"].values()
    ]
    assert [device["device_ids"] for (device,) in devices] == [
        [str(2 * place), str(2 * place + 1)] for place in range(6)
    ]
    assert [
        line for line in warnings if line.startswith("metadata.gpu=2 for each of 6") and "12 GPUs" in line
    ]


@pytest.mark.parametrize(("instance", "said"), [(1, 0), (2, 1)])
def test_compose_has_a_port_for_each_unit_and_says_so(instance: int, said: int) -> None:
    _, warnings = render("compose", with_metadata(instance=instance))
    assert len([line for line in warnings if line.startswith("containers[0].port=8000: each Unit")]) == said


@pytest.mark.parametrize(("check", "seconds"), [({}, 3600), ({"failure_threshold": 120}, 7200)])
def test_swarm_waits_for_a_unit_that_serves_longer_than_its_start_may_take(
    check: dict[str, Any], seconds: int
) -> None:
    startup = {"http_get": {"path": "/health"}, "period_seconds": 30, **check}
    unit = render("swarm", with_container(startup_check=startup))[0][0]["services"]["deepseek-r1-0"]
    assert unit["healthcheck"]["test"][-1] == "startup"
    assert unit["healthcheck"]["start_period"] == f"{seconds}s"
    assert unit["deploy"]["update_config"]["monitor"] == "60s"


def test_swarm_has_a_slot_for_each_rank_and_replaces_a_unit_as_a_whole() -> None:
    unit = render("swarm")[0][0]["services"]["deepseek-r1-0"]
    assert unit["deploy"]["replicas"] == 3
    assert unit["deploy"]["update_config"]["parallelism"] == 0
    assert environment(unit["environment"])["TASK_SLOT"] == "{{.Task.Slot}}"
    assert unit["volumes"][0]["tmpfs"]["size"] == 64 * 1024**3


def test_a_group_of_kubernetes_is_a_unit() -> None:
    group, traffic, budget = render("lws")[0]
    assert group["spec"]["replicas"] == 2
    assert group["spec"]["rolloutStrategy"]["rollingUpdateConfiguration"] == {
        "maxSurge": "10%",
        "maxUnavailable": 1,
    }
    template = group["spec"]["leaderWorkerTemplate"]
    assert template["size"] == 3
    pod = template["workerTemplate"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 60
    assert pod["containers"][0]["resources"]["limits"] == {
        "cpu": "64",
        "memory": "512000Mi",
        "nvidia.com/gpu": "8",
    }
    assert traffic["spec"]["selector"]["leaderworkerset.sigs.k8s.io/worker-index"] == "0"
    assert budget["kind"] == "PodDisruptionBudget"


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ("compose", {"metadata.rolling_strategy"}),
        ("swarm", {"metadata.rolling_strategy", "containers[0].port"}),
        ("lws", set()),
    ],
)
def test_what_an_engine_cannot_express_is_said(engine: str, said: set[str]) -> None:
    _, warnings = render(engine, with_metadata(name="plain", instance=1, gpu=0))
    left_out = {
        line.partition(" is not in the manifest")[0] for line in warnings if not line.startswith(IMAGE)
    }
    assert left_out == said
    assert len(warnings) == len(said) + 1


@pytest.mark.parametrize(
    ("document", "path"),
    [
        (changed(storage=[{"mount_path": "/m", "oss": {"path": "oss://b/"}}]), "storage[0].oss"),
        (with_metadata(quantum=1), "metadata.quantum"),
        (with_container(startup_check={"http_get": {}}), "containers[0].startup_check"),
        (with_container(health_check={"http_get": {}}), "containers[0].health_check"),
        (
            with_container(liveness_check={"http_get": {}, "initial_delay_seconds": 9}),
            "containers[0].liveness_check.initial_delay_seconds",
        ),
        (changed(**{"autoscaler.min": 1}), "autoscaler"),
        (changed(processor_path="p"), "processor_path"),
        (with_metadata(rdma=4), "metadata.rdma"),
        (with_container(prepare={}), "containers[0].prepare"),
        (
            with_container(liveness_check={"exec": {"command": ["true"]}}),
            "containers[0].liveness_check.exec",
        ),
        (
            with_container(env=[{"name": "UNIT_SECRET", "value": "sixteen bytes or more"}]),
            "containers[0].env UNIT_SECRET",
        ),
    ],
)
def test_what_no_engine_expresses_is_said(document: dict[str, Any], path: str) -> None:
    _, warnings = render("lws", document)
    assert [line for line in warnings if line.startswith(f"{path} is not in the manifest")]


@pytest.mark.parametrize(
    ("engine", "grace", "said"), [("swarm", 61, 1), ("swarm", 60, 0), ("compose", 61, 0)]
)
def test_swarm_overlaps_tasks_that_take_more_than_a_minute_to_end(engine: str, grace: int, said: int) -> None:
    _, warnings = render(engine, changed(**{"eas.termination_grace_period": grace}))
    assert len([line for line in warnings if line.startswith(f"stop_grace_period={grace}s")]) == said


def test_a_name_that_engines_refuse_is_changed_and_that_is_said() -> None:
    documents, warnings = render("lws", with_metadata(name="7_Oil.Model-"))
    assert documents[0]["metadata"]["name"] == "inference-7-oil-model"
    assert any("inference-7-oil-model" in line for line in warnings)


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({}, "containers[0].image missing"),
        (with_container(script=""), "containers[0].script missing"),
        (with_metadata(instance="two"), "metadata.instance='two'"),
        (with_metadata(gpu=-1), "metadata.gpu=-1"),
        (with_metadata(rolling_strategy={"max_surge": "some"}), "rolling_strategy.max_surge='some'"),
        (with_container(env=[{"name": "UNIT_SIZE", "value": "x"}]), "containers[0].env UNIT_SIZE='x'"),
        (with_metadata(instance=100), "metadata.instance=100 with unit.size=3"),
        (with_metadata(disk="much"), "metadata.disk='much'"),
        (changed(storage=[{"mount_path": "/m", "nfs": {"path": "/"}}]), "storage[0].nfs.server=null"),
        (
            changed(storage=[{"mount_path": "m,ro", "nfs": {"server": "s", "path": "/"}}]),
            "storage[0].mount_path",
        ),
    ],
)
def test_an_impossible_file_is_refused_with_the_path(document: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        render("compose", document)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("surge", "unavailable", "steps"), [(None, None, (1, 0)), (0, None, (0, 1)), ("0%", 2, ("0%", 2))]
)
def test_an_update_of_kubernetes_can_take_a_step(
    surge: object, unavailable: object, steps: tuple[object, ...]
) -> None:
    stated = {"max_surge": surge, "max_unavailable": unavailable}
    strategy = {key: value for key, value in stated.items() if value is not None}
    group = render("lws", with_metadata(rolling_strategy=strategy))[0][0]
    rollout = group["spec"]["rolloutStrategy"]["rollingUpdateConfiguration"]
    assert (rollout["maxSurge"], rollout["maxUnavailable"]) == steps


def test_an_update_that_could_not_begin_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="max_surge=0 with max_unavailable=0%"):
        render("lws", with_metadata(rolling_strategy={"max_surge": 0, "max_unavailable": "0%"}))


def pod(carrier: str | None = None, document: dict[str, Any] = EAS) -> dict[str, Any]:
    group = render("lws", document, carrier)[0][0]
    found: dict[str, Any] = group["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"]
    return found


def test_kubernetes_carries_the_agent_into_any_image() -> None:
    (carrier,), (instance,) = pod("agent:1")["initContainers"], pod("agent:1")["containers"]
    assert carrier["image"] == "agent:1"
    assert carrier["command"][-2:] == ["--copy-to", carrier["volumeMounts"][0]["mountPath"]]
    assert {"name": "agent", "mountPath": "/opt/unitagent", "readOnly": True} in instance["volumeMounts"]
    assert instance["command"][0] == "/opt/unitagent/unitagent"
    assert "initContainers" not in pod()


def test_compose_carries_the_agent_into_any_image() -> None:
    documents, warnings = render("compose", carrier="agent:1")
    services = documents[0]["services"]
    carrier = services.pop("agent")
    assert carrier["image"] == "agent:1"
    assert carrier["volumes"] == [{"type": "volume", "source": "agent", "target": "/opt/unitagent"}]
    for service in services.values():
        assert service["volumes"][-1]["target"] == "/opt/unitagent"
        assert service["entrypoint"][0] == service["healthcheck"]["test"][1] == "/opt/unitagent/unitagent"
        assert service["depends_on"] == {"agent": {"condition": "service_completed_successfully"}}
    assert not [line for line in warnings if line.startswith(IMAGE)]


def test_swarm_starts_containers_in_no_order_so_that_the_image_has_to_have_the_agent() -> None:
    documents, warnings = render("swarm", carrier="agent:1")
    assert "agent" not in documents[0]["services"]
    assert [line for line in warnings if line.startswith(IMAGE)]


STORAGE = changed(
    storage=[{"mount_path": "/models", "nfs": {"server": "files", "path": "/m", "readOnly": True}}]
)


@pytest.mark.parametrize("engine", ["compose", "swarm"])
def test_an_instance_finds_its_storage(engine: str) -> None:
    whole = render(engine, STORAGE)[0][0]
    service = next(found for name, found in whole["services"].items() if name.startswith("deepseek"))
    mount = service["volumes"][0]
    assert (mount["target"], mount["read_only"]) == ("/models", True)
    assert whole["volumes"][mount["source"]]["driver_opts"] == {
        "type": "nfs",
        "o": "addr=files,ro",
        "device": ":/m",
    }


def test_a_pod_finds_its_storage() -> None:
    found = pod(document=STORAGE)
    assert {"name": "storage-0", "nfs": {"server": "files", "path": "/m", "readOnly": True}} in found[
        "volumes"
    ]
    mount = {"name": "storage-0", "mountPath": "/models", "readOnly": True}
    assert mount in found["containers"][0]["volumeMounts"]


def test_a_pod_waits_for_a_leader_that_starts_late_and_leaves_a_node_that_is_gone() -> None:
    found = pod()
    environment = {entry["name"]: entry.get("value") for entry in found["containers"][0]["env"]}
    assert environment["UNIT_STORE_TIMEOUT_SECONDS"] == "3600"
    assert {toleration["tolerationSeconds"] for toleration in found["tolerations"]} == {30}


KEYS = (
    *(
        "name",
        "instance",
        "gpu",
        "cpu",
        "memory",
        "shm_size",
        "rolling_strategy",
        "max_surge",
        "image",
        "port",
    ),
    *(
        "script",
        "env",
        "value",
        "unit",
        "size",
        "guard",
        "rolling_strategy.max_surge",
        "metadata",
        "containers",
    ),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2000) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from(sorted(ENGINES)), st.dictionaries(st.sampled_from(KEYS), JSON, max_size=5))
def test_any_file_gives_a_manifest_or_an_error(engine: str, parts: dict[str, Any]) -> None:
    for document in (parts, changed(**parts), with_metadata(**parts), with_container(**parts)):
        try:
            text, _ = render_manifest(engine, json.dumps(document), "service.json")
        except ConfigurationError:
            continue
        assert all(isinstance(found, dict) for found in yaml.safe_load_all(text))


def command(*words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "unitagent", "render", *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_prints_the_manifest_and_warns_on_stderr(tmp_path: Path) -> None:
    file = tmp_path / "service.json"
    file.write_text(json.dumps(EAS))
    ended = command("swarm", str(file))
    assert ended.returncode == 0
    assert "deepseek-r1-1" in yaml.safe_load(ended.stdout)["services"]
    assert f"unitagent: warning: {IMAGE})" in ended.stderr.splitlines()


def test_a_file_that_is_not_there_is_an_error_in_one_line(tmp_path: Path) -> None:
    ended = command("lws", str(tmp_path / "none.json"))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("unitagent: error: ")
    assert len(ended.stderr.splitlines()) == 1
