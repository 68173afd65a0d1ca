"""Every manifest, those of docker/ and those that ``unitagent render`` makes, is what its engine accepts."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.manifests.validating import NEWEST, OLDEST, compose_problems, problems
from unitagent.operator.render.render_cli import render_manifest

DOCKER = Path(__file__).parents[2] / "docker"
KUBERNETES = sorted((DOCKER / "kubernetes").glob("*.yaml"))
SWARM = sorted(DOCKER.glob("swarm/*.yaml"))
STACKS = [DOCKER / "compose.yaml", *DOCKER.glob("rollout/*.yaml"), *SWARM]
FULL = {
    "metadata": {
        "name": "deepseek-r1",
        "instance": 2,
        "gpu": 8,
        "cpu": 64.5,
        "memory": 512000,
        "shm_size": 64,
        "disk": "200Gi",
        "rolling_strategy": {"max_surge": "10%", "max_unavailable": 1},
    },
    "containers": [
        {
            "image": "your/engine:1",
            "port": 8000,
            "script": "bash -c 'exec serve $RANK_ID {{x}}'",
            "env": [{"name": "MODEL", "value": "$(HOME) {{.Slot}} on"}, {"name": "EMPTY", "value": ""}],
            "startup_check": {
                "http_get": {"path": "/health"},
                "period_seconds": 30,
                "failure_threshold": 120,
            },
            "liveness_check": {"http_get": {"path": "/health", "port": 8000}},
        }
    ],
    "unit": {"size": 3, "guard": True},
    "storage": [{"mount_path": "/models", "nfs": {"server": "nfs.example", "path": "/m", "readOnly": True}}],
    "eas.termination_grace_period": 60,
}
BARE = {"containers": [{"image": "your/engine:1", "script": "serve"}]}
versions = pytest.mark.parametrize("version", [OLDEST, NEWEST])
EXAMPLE = json.loads((DOCKER / "service.json").read_text(encoding="utf-8"))
files = pytest.mark.parametrize("file", [FULL, BARE, EXAMPLE], ids=["full", "bare", "example"])


def render(engine: str, file: dict[str, Any], carrier: str | None = None) -> list[Any]:
    return list(yaml.safe_load_all(render_manifest(engine, json.dumps(file), "service.json", carrier)[0]))


@versions
@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.name)
def test_kubernetes_accepts_the_manifests(path: Path, version: str) -> None:
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        assert problems(document, version) == []


@versions
@files
def test_kubernetes_accepts_what_render_makes(file: dict[str, Any], version: str) -> None:
    for document in [*render("lws", file), *render("lws", file, "agent:1")]:
        assert problems(document, version) == []


@pytest.mark.parametrize("path", STACKS, ids=lambda path: str(path.relative_to(DOCKER)))
def test_compose_accepts_the_manifests(path: Path) -> None:
    assert compose_problems(yaml.safe_load(path.read_text(encoding="utf-8"))) == []


@files
@pytest.mark.parametrize("engine", ["compose", "swarm"])
def test_compose_accepts_what_render_makes(engine: str, file: dict[str, Any]) -> None:
    for document in [*render(engine, file), *render(engine, file, "agent:1")]:
        assert compose_problems(document) == []


@pytest.mark.parametrize(
    ("engine", "left_out"),
    [
        ("compose", ["metadata.rolling_strategy"]),
        ("swarm", ["metadata.rolling_strategy", "containers[0].port"]),
        ("lws", []),
    ],
)
def test_the_example_loses_little(engine: str, left_out: list[str]) -> None:
    _, warnings = render_manifest(engine, json.dumps(EXAMPLE), "service.json", "agent:1")
    said = [line.partition(" is not in the manifest") for line in warnings]
    assert [path for path, without, _ in said if without] == left_out


def readme(first: str) -> dict[str, Any]:
    """The README's YAML that begins with this word."""
    text = (DOCKER.parent / "README.md").read_text(encoding="utf-8")
    (found,) = re.findall(rf"```yaml\n((?:#.*\n)?{first}[^`]*)```", text)
    document: dict[str, Any] = yaml.safe_load(found)
    return document


def test_compose_accepts_what_the_readme_shows() -> None:
    assert compose_problems(readme("x-unit")) == []


def test_kubernetes_accepts_what_the_readme_shows() -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "chat-0"}, "spec": readme("containers")}
    assert problems(pod, NEWEST) == []


# Of a service, what `docker stack deploy` ignores or refuses though the Compose Specification has it.
# Source: docker/cli, cli/compose/types, UnsupportedProperties, DeprecatedProperties and ForbiddenProperties.
NOT_OF_SWARM = {
    "build", "cgroupns_mode", "cgroup_parent", "container_name", "cpu_quota", "cpu_shares", "cpus", "cpuset",
    "depends_on", "devices", "domainname", "expose", "extends", "external_links", "ipc", "links",
    "mac_address", "mem_limit", "memswap_limit", "network_mode", "pid", "privileged", "restart",
    "security_opt", "shm_size", "userns_mode", "volume_driver", "volumes_from",
}  # fmt: skip


@pytest.mark.parametrize(
    "document",
    [*render("swarm", FULL), *(yaml.safe_load(path.read_text(encoding="utf-8")) for path in SWARM)],
)
def test_swarm_ignores_nothing_that_a_stack_says(document: dict[str, Any]) -> None:
    for service in document["services"].values():
        assert not service.keys() & NOT_OF_SWARM


# What a mistake looks like: each key written wrong, one at a time. These hold any key at all.
FREE = {"labels", "matchLabels", "annotations", "selector", "limits", "requests", "environment"}
FREE |= {"services", "networks", "secrets", "configs", "volumes", "driver_opts"}


def places(content: object, *path: str | int) -> Iterator[tuple[str | int, ...]]:
    """The path of every key that has a meaning."""
    if isinstance(content, dict):
        for key, value in content.items():
            named = bool(path) and path[-1] in FREE
            if not named and not str(key).startswith("x-"):
                yield (*path, key)
            yield from places(value, *path, key)
    elif isinstance(content, list):
        for index, item in enumerate(content):
            yield from places(item, *path, index)


def misspelt(document: dict[str, Any], path: tuple[str | int, ...]) -> dict[str, Any]:
    changed: Any = copy.deepcopy(document)
    inner = changed
    for step in path[:-1]:
        inner = inner[step]
    inner[f"{path[-1]}s"] = inner.pop(path[-1])
    result: dict[str, Any] = changed
    return result


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.name)
def test_a_key_that_is_written_wrong_is_found(path: Path) -> None:
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        for place in places(document):
            if place not in {("kind",), ("apiVersion",)}:
                assert problems(misspelt(document, place), NEWEST), place


def test_a_key_of_a_stack_that_is_written_wrong_is_found() -> None:
    (document,) = render("swarm", FULL)
    for place in places(document):
        assert compose_problems(misspelt(document, place)), place


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (("spec", "startupPolicy"), "LeaderStarted"),
        (("spec", "leaderWorkerTemplate", "restartPolicy"), "Always"),
        (("spec", "leaderWorkerTemplate", "size"), "2"),
        (("spec", "rolloutStrategy", "rollingUpdateConfiguration", "maxSurge"), 0),
        (("spec", "rolloutStrategy", "type"), "Recreate"),
    ],
)
def test_a_value_that_the_controller_refuses_is_found(path: tuple[str, ...], wrong: object) -> None:
    manifest = (DOCKER / "kubernetes" / "leaderworkerset.yaml").read_text(encoding="utf-8")
    document = next(yaml.safe_load_all(manifest))
    inner = document
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = wrong
    assert problems(document, NEWEST)
