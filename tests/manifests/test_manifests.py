"""The manifests of docker/ hold together, and agree with the program on names, ports and times."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from unitagent import setting_parsers
from unitagent.core.exits import ExitCode
from unitagent.settings.variables import VARIABLES

DOCKER = Path(__file__).parents[2] / "docker"
KUBERNETES = sorted((DOCKER / "kubernetes").glob("*.yaml"))
STACKS = [DOCKER / "compose.yaml", *sorted(DOCKER.glob("[rs]*/*.yaml"))]  # rollout, swarm
UNITS = [path for path in STACKS if path.name != "traffic.yaml"]
OURS = ("UNIT_", "RANK_", "COMM_", "MASTER_")
DOCKERFILE = (DOCKER / "Dockerfile").read_text(encoding="utf-8")


def parametrized(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=lambda path: str(path.relative_to(DOCKER)))


by_name = parametrized([*KUBERNETES, *UNITS])
kubernetes = parametrized(KUBERNETES)
stacks = parametrized(STACKS)
units = parametrized(UNITS)


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def below(content: object, key: str) -> Iterator[Any]:
    """Every value of ``key``, however deep."""
    if isinstance(content, dict):
        for name, value in content.items():
            if name == key:
                yield value
            yield from below(value, key)
    elif isinstance(content, list):
        for item in content:
            yield from below(item, key)


def defaults(text: str) -> str:
    """Compose's ``${NAME:-default}``; empty for ``${NAME:?reason}``, which has none."""
    return re.sub(r"\$\{\w+:(?:-([^}]*)|\?[^}]*)\}", r"\1", text)


def services(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = documents(path)[0]["services"]
    return found


def environments(path: Path) -> Iterator[dict[str, Any]]:
    if path in STACKS:
        yield from (service.get("environment", {}) for service in services(path).values())
    for entries in below(documents(path), "env"):
        yield {entry["name"]: entry.get("value") for entry in entries}


def pods(path: Path) -> list[dict[str, Any]]:
    """All pod specs: what has containers."""
    return [spec for spec in below(documents(path), "spec") if "containers" in spec]


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


@by_name
def test_every_variable_is_one_of_ours_with_a_value_that_we_accept(path: Path) -> None:
    seen = 0
    for environment in environments(path):
        for name, value in environment.items():
            if name.startswith(OURS):
                assert name in VARIABLES
                seen += 1
                text = defaults(value) if isinstance(value, str) else ""
                if text and "{{" not in text:
                    VARIABLES[name].kind.parse(text)
    assert seen


@units
def test_the_engine_waits_longer_than_the_agent(path: Path) -> None:
    instances = [found for found in services(path).values() if "UNIT_ID" in found.get("environment", {})]
    assert instances
    for found in instances:
        stop = float(found["environment"]["UNIT_STOP_GRACE_SECONDS"])
        assert stop < seconds(found["stop_grace_period"]) <= 60


@stacks
def test_secrets_and_networks_and_configs_that_are_used_exist(path: Path) -> None:
    whole = documents(path)[0]
    for found in services(path).values():
        assert set(found.get("secrets", ())) <= whole["secrets"].keys()
        assert set(found["networks"]) <= whole["networks"].keys()
    for config in whole.get("configs", {}).values():
        assert (path.parent / config["file"]).is_file()


@stacks
def test_no_password_is_in_a_command_line_or_an_environment(path: Path) -> None:
    assert "--requirepass " not in path.read_text(encoding="utf-8").replace("argument --requirepass", "")
    assert all("UNIT_REDIS_URL" not in environment for environment in environments(path))


def test_the_secrets_are_made_once_and_fit_together(tmp_path: Path) -> None:
    script = tmp_path / "secrets.sh"
    script.write_bytes((DOCKER / "secrets.sh").read_bytes())
    made = []
    for _ in range(2):
        subprocess.run(["sh", script], check=True)
        made.append([(tmp_path / "secrets" / name).read_text() for name in ("redis.conf", "redis-url")])
    assert made[0] == made[1]
    password = made[0][0].removeprefix("requirepass ").strip()
    assert made[0][1] == f"redis://:{password}@redis:6379/0\n"
    assert setting_parsers.has_password(made[0][1].strip())
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700


def test_compose_gives_each_rank_once() -> None:
    units: dict[str, list[str]] = {}
    for environment in environments(DOCKER / "compose.yaml"):
        if "UNIT_ID" in environment:
            units.setdefault(environment["UNIT_ID"], []).append(environment["RANK_ID"])
    assert units == {"explicit": ["0", "1"], "scaled": ["auto"]}


def test_swarm_runs_as_many_tasks_as_the_unit_has_ranks() -> None:
    unit = services(DOCKER / "swarm" / "unit.yaml")["unit"]
    assert unit["deploy"]["replicas"] == unit["environment"]["UNIT_SIZE"]
    assert unit["deploy"]["endpoint_mode"] == "dnsrr"


@kubernetes
def test_a_pod_can_start_as_it_is_described(path: Path) -> None:
    assert pods(path)
    for pod in pods(path):
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            assert ports["unit"] == 9470
            for _, probe in probes(pod):
                assert probe["httpGet"]["port"] in (*ports, *ports.values())


def probes(pod: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Kind and probe, of sidecars too."""
    for container in (*pod.get("initContainers", ()), *pod["containers"]):
        yield from ((kind, probe) for kind, probe in container.items() if kind.endswith("Probe"))


def longest(probe: dict[str, Any]) -> int:
    """Seconds until the kubelet acts."""
    return int(probe["periodSeconds"] * probe["failureThreshold"])


@kubernetes
def test_probes_ask_for_what_the_platform_may_act_on(path: Path) -> None:
    accepted = {
        "startupProbe": {"/livez", "/startupz"},
        "livenessProbe": {"/livez"},
        "readinessProbe": {"/readyz"},
    }
    for pod in pods(path):
        kinds = [kind for kind, _ in probes(pod)]
        assert kinds.count("readinessProbe") == 1
        for kind, probe in probes(pod):
            assert probe["httpGet"]["path"] in accepted[kind]
            if kind == "startupProbe":
                # The card may take 60 s, and ends with a reason of its own; weights may take half an hour.
                least = 1800 if probe["httpGet"]["path"] == "/startupz" else 60
                assert longest(probe) > least


@kubernetes
def test_a_sidecar_does_not_hold_up_the_container_that_it_waits_for(path: Path) -> None:
    """The engine's container starts when its sidecars have passed their startup probes."""
    for pod in pods(path):
        for sidecar in pod.get("initContainers", ()):
            assert "startupProbe" not in sidecar
            assert ("readinessProbe" in sidecar) == (sidecar.get("restartPolicy") == "Always")


def test_what_an_init_container_carries_in_is_what_is_run() -> None:
    (pod,) = pods(DOCKER / "kubernetes" / "leaderworkerset.yaml")
    (carrier,), (instance,) = pod["initContainers"], pod["containers"]
    (to,), (at,) = carrier["volumeMounts"], [m for m in instance["volumeMounts"] if m["name"] == "agent"]
    assert carrier["command"] == ["/opt/unitagent/unitagent", "--copy-to", to["mountPath"]]
    assert (to["name"], at["mountPath"]) == ("agent", "/opt/unitagent")
    assert instance["command"] == ["/opt/unitagent/unitagent", "run", "--"]


@kubernetes
def test_a_worker_waits_for_the_store_of_a_leader_that_starts_much_later(path: Path) -> None:
    """With the store embedded; an agent that gives up (69) would have its whole group made anew."""
    for environment in environments(path):
        if "UNIT_REDIS_URL_FILE" not in environment:
            assert float(environment["UNIT_STORE_TIMEOUT_SECONDS"]) >= 1800


@kubernetes
def test_a_pod_has_the_grace_the_rights_and_the_secret_that_an_agent_needs(path: Path) -> None:
    for pod in pods(path):
        variables = {entry["name"]: entry.get("value") for entry in pod["containers"][0]["env"]}
        assert float(variables["UNIT_STOP_GRACE_SECONDS"]) < pod["terminationGracePeriodSeconds"]
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsUser"] == int(re.findall(r"ARG UID=(\d+)", DOCKERFILE)[0])
        mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
        assert variables["UNIT_SECRET_FILE"] == f"{mounts['secret']}/unit-secret"
        assert variables.get("UNIT_REDIS_URL_FILE") in {None, f"{mounts['secret']}/redis-url"}
        assert mounts["shm"] == "/dev/shm"  # noqa: S108  # where engines look for it


@kubernetes
def test_services_and_budgets_select_the_pods(path: Path) -> None:
    """Labels that controllers put on pods by themselves, or that the template has."""
    known = {key: value for labels in below(documents(path), "labels") for key, value in labels.items()}
    for found in documents(path):
        selector = found["spec"].get("selector", found["spec"].get("podSelector", {}))
        for key, value in selector.get("matchLabels", selector).items():
            assert known.get(key) == value or "kubernetes.io/" in key or "k8s.io/" in key


@kubernetes
def test_the_store_is_reached_by_the_pods_of_the_service_alone(path: Path) -> None:
    (policy,) = [found["spec"] for found in documents(path) if found["kind"] == "NetworkPolicy"]
    among, *others = policy["ingress"]
    assert among["from"] == [{"podSelector": policy["podSelector"]}]
    assert policy["policyTypes"] == ["Ingress"]
    named = {port["name"] for ports in below(documents(path), "ports") for port in ports if "name" in port}
    opened = {port["port"] for rule in others for port in rule["ports"]}
    assert opened
    assert opened <= named & {"http", "unit"}


def test_a_service_does_not_spoil_the_environment() -> None:
    names = [found["metadata"]["name"] for path in KUBERNETES for found in documents(path)]
    assert names
    assert not [name for name in names if name.startswith("unit")]


def test_the_stateful_set_and_the_job_have_as_many_pods_as_the_unit_has_ranks() -> None:
    folder = DOCKER / "kubernetes"
    for stateful in (folder / "statefulset.yaml", folder / "sidecar.yaml"):
        assert list(below(documents(stateful), "replicas")) == sizes(stateful)
    jobs = folder / "jobset.yaml"
    (job,) = next(below(documents(jobs), "replicatedJobs"))
    assert [job["template"]["spec"]["parallelism"]] == sizes(jobs)
    assert [job["template"]["spec"]["completions"]] == sizes(jobs)


def test_a_job_tells_mistakes_from_failures_by_the_program_s_own_codes() -> None:
    jobs = DOCKER / "kubernetes" / "jobset.yaml"
    (rules,) = [policy["rules"] for policy in below(documents(jobs), "podFailurePolicy")]
    (codes,) = [rule["onExitCodes"] for rule in rules if "onExitCodes" in rule]
    mistakes = {ExitCode.CONFIGURATION, ExitCode.DISAGREE, ExitCode.NOT_EXECUTABLE, ExitCode.NOT_FOUND}
    assert set(codes["values"]) == mistakes
    assert codes["containerName"] in {
        container["name"] for pod in pods(jobs) for container in pod["containers"]
    }


def test_the_page_says_what_each_code_leads_to() -> None:
    text = (DOCKER / "kubernetes" / "README.md").read_text(encoding="utf-8")
    table = text.partition("## Exit codes")[2].partition("\n## ")[0]
    told = {
        int(code) for row in re.findall(r"^\| ([0-9, ]+) \|", table, re.MULTILINE) for code in row.split(",")
    }
    assert told == set(ExitCode) - {ExitCode.UNEXPECTED}  # without guard alone, as the workload's own


def sizes(path: Path) -> list[int]:
    return [int(environment["UNIT_SIZE"]) for environment in environments(path)]


def test_the_image_asks_the_agent_and_is_stopped_as_the_agent_expects() -> None:
    assert 'ENTRYPOINT ["unitagent", "run", "--"]' in DOCKERFILE
    assert 'CMD ["unitagent", "probe", "live"]' in DOCKERFILE
    assert "STOPSIGNAL SIGTERM" in DOCKERFILE
    assert DOCKERFILE.index("USER ${UID}") < DOCKERFILE.rindex("ENTRYPOINT")
