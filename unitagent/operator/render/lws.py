"""A service on Kubernetes as a LeaderWorkerSet: each Unit is a group, whose pods get rank, size and leader.

The store is the embedded one of each leader. ``docker/kubernetes/leaderworkerset.yaml`` in the repository
explains each field.
"""

from __future__ import annotations

from typing import Any

from unitagent.errors import ConfigurationError
from unitagent.operator.render.service import BUNDLE, PROBE_PORT, Service, escape_dollars

_PREFIX = "leaderworkerset.sigs.k8s.io"
_NONE = (0, "0%")
_NODE_DOWN_TAINTS = ("node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready")
_AGENT_VARIABLES = frozenset({"UNIT_ID", "UNIT_SIZE", "RANK_ID", "MASTER_ADDRESS"})

ABOUT = """\
Before the first start, create the secret that protects the Units' stores:
  kubectl create secret generic NAME --from-literal=unit-secret="$(openssl rand -hex 24)"
where NAME is the name of the LeaderWorkerSet."""


def render_lws(service: Service) -> list[object]:
    """Return the documents: the group, the Service for traffic, the disruption budget.

    Raises:
        ConfigurationError: an update could never begin.

    """
    documents: list[object] = [_build_group(service)]
    if service.port:
        documents.append(_build_traffic_service(service))
    documents.append(_build_disruption_budget(service))
    return documents


def _build_group(service: Service) -> dict[str, Any]:
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {"name": service.name},
        "spec": {
            "replicas": service.units,
            "startupPolicy": "LeaderCreated",
            "rolloutStrategy": {
                "type": "RollingUpdate",
                "rollingUpdateConfiguration": _choose_update_steps(service),
            },
            "leaderWorkerTemplate": {
                "size": service.size,
                "restartPolicy": "RecreateGroupOnPodRestart",
                "workerTemplate": {
                    "metadata": {"labels": {"app": service.name}},
                    "spec": _build_pod(service),
                },
            },
        },
    }


def _choose_update_steps(service: Service) -> dict[str, int | str]:
    """Choose the update steps: by default a new Unit first; the controller rejects zero for both."""
    surge = 1 if service.surge is None else service.surge
    unavailable = service.unavailable
    if unavailable is None:
        unavailable = 1 if surge in _NONE else 0
    if surge in _NONE and unavailable in _NONE:
        raise ConfigurationError(
            f"rolling_strategy: max_surge={surge} with max_unavailable={unavailable} would block every "
            "update; at least one of them must be above 0"
        )
    return {"maxSurge": surge, "maxUnavailable": unavailable}


def _build_pod(service: Service) -> dict[str, Any]:
    pod = {
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": service.grace,
        # The other instances have stopped after a lease, so the default wait of five minutes gains nothing.
        "tolerations": [
            {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}
            for key in _NODE_DOWN_TAINTS
        ],
        "containers": [_build_container(service)],
        "volumes": _build_volumes(service),
    }
    return pod | ({"initContainers": [_build_carrier(service.carrier)]} if service.carrier else {})


def _build_carrier(image: str) -> dict[str, Any]:
    """Copy the agent to a volume that the instance mounts, whatever its image."""
    return {
        "name": "agent",
        "image": image,
        "command": [f"{BUNDLE}/unitagent", "--copy-to", "/agent"],
        "volumeMounts": [{"name": "agent", "mountPath": "/agent"}],
    }


def _build_volumes(service: Service) -> list[dict[str, Any]]:
    secret = {"name": "secret", "secret": {"secretName": service.name, "defaultMode": 0o444}}
    memory: dict[str, Any] = {"medium": "Memory"}
    if service.shm:
        memory["sizeLimit"] = f"{service.shm}Gi"
    volumes: list[dict[str, Any]] = [secret, {"name": "shm", "emptyDir": memory}]
    if service.carrier:
        volumes.append({"name": "agent", "emptyDir": {}})
    for index, mount in enumerate(service.mounts):
        nfs = {"server": mount.server, "path": mount.source, "readOnly": mount.read_only}
        volumes.append({"name": f"storage-{index}", "nfs": nfs})
    return volumes


def _list_mounts(service: Service) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = [
        {"name": "secret", "mountPath": "/etc/unit", "readOnly": True},
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108  # where it is mounted
    ]
    if service.carrier:
        mounts.append({"name": "agent", "mountPath": BUNDLE, "readOnly": True})
    for index, mount in enumerate(service.mounts):
        mounts.append({"name": f"storage-{index}", "mountPath": mount.target, "readOnly": mount.read_only})
    return mounts


def _build_container(service: Service) -> dict[str, Any]:
    ports = [{"name": "unit", "containerPort": PROBE_PORT}]
    if service.port:
        ports.insert(0, {"name": "http", "containerPort": service.port})
    container: dict[str, Any] = {
        "name": "instance",
        "image": service.image,
        "command": [service.program, "run", "--"],
        "args": escape_dollars(list(service.command)),
        "env": _build_environment(service),
        "ports": ports,
        "startupProbe": _build_probe("/livez", period=2, failures=75),
        "livenessProbe": _build_probe("/livez", period=5, failures=6),
        "readinessProbe": _build_probe("/readyz", period=2, failures=1),
        "volumeMounts": _list_mounts(service),
    }
    bounds = _build_limits(service)
    return container | ({"resources": {"limits": bounds}} if bounds else {})


def _build_environment(service: Service) -> list[dict[str, Any]]:
    variables = {name: text for name, text in service.variables.items() if name not in _AGENT_VARIABLES}
    # The store starts with the leader's pod, which may start much later than its workers.
    variables.setdefault("UNIT_STORE_TIMEOUT_SECONDS", "3600")
    variables["UNIT_SECRET_FILE"] = "/etc/unit/unit-secret"  # noqa: S105  # its path
    entries: list[dict[str, Any]] = [
        {"name": name, "value": escape_dollars(text)} for name, text in variables.items()
    ]
    if "UNIT_REVISION" not in variables:
        label = {"fieldPath": f"metadata.labels['{_PREFIX}/template-revision-hash']"}
        entries.append({"name": "UNIT_REVISION", "valueFrom": {"fieldRef": label}})
    return entries


def _build_probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "unit"},
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }


def _build_limits(service: Service) -> dict[str, str]:
    limits = {}
    if service.cpu:
        limits["cpu"] = f"{service.cpu:g}"
    if service.memory:
        limits["memory"] = f"{service.memory}Mi"
    if service.disk:
        limits["ephemeral-storage"] = service.disk
    if service.gpu:
        limits["nvidia.com/gpu"] = str(service.gpu)
    return limits


def _build_traffic_service(service: Service) -> dict[str, Any]:
    selector = {f"{_PREFIX}/name": service.name, f"{_PREFIX}/worker-index": "0"}
    port = {"name": "http", "port": service.port, "targetPort": "http"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"{service.name}-traffic"},
        "spec": {"selector": selector, "ports": [port]},
    }


def _build_disruption_budget(service: Service) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": service.name},
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": {f"{_PREFIX}/name": service.name}},
        },
    }
