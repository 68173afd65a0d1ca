"""What a service file states and an engine's manifest does not say, each with the reason or the remedy."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase

_EAS = "a matter of EAS alone"
_IMAGE = "put it into the image"
_BY_URL = "the agent asks the workload by http_get only"
_ALL = {
    "autoscaler": "the number of Units is fixed; scale with the engine's own means",
    "cloud": "which machines serve is for the engine's placement to say",
    "containers[0].prepare": _IMAGE,
    "containers[0].readiness_check": "an instance is ready when its whole Unit serves (/readyz)",
    "containers[0].resources": "state gpu, cpu and memory under metadata",
    "containers[0].health_check.exec": _BY_URL,
    "containers[0].health_check.tcp_socket": _BY_URL,
    "containers[0].liveness_check.exec": _BY_URL,
    "containers[0].liveness_check.tcp_socket": _BY_URL,
    "containers[0].startup_check.exec": _BY_URL,
    "containers[0].startup_check.tcp_socket": _BY_URL,
    "dockerAuth": "log the engine in to the registry",
    "features": _EAS,
    "labels": "labels of EAS; add those that you need",
    "metadata.disk": "give the container a volume",
    "metadata.enable_grpc": "any protocol passes",
    "metadata.quota_id": _EAS,
    "metadata.quota_type": _EAS,
    "metadata.rdma": "give the devices to the containers; UNIT_RDMA=auto then finds them",
    "metadata.resource": _EAS,
    "metadata.resource_burstable": _EAS,
    "metadata.workspace_id": _EAS,
    "model_*": _IMAGE + ", or mount it",
    "networking": "put a balancer before the Units (GET /traffic tells where rank 0 is)",
    "options": _EAS,
    "processor*": "only containers are rendered, not EAS's processors",
    "rpc": "engines always send SIGTERM, and the balancer decides on the rest",
    "metadata.rpc": "engines always send SIGTERM, and the balancer decides on the rest",
    "scheduling": _EAS,
    "source": _EAS,
    "storage": "volumes are the engine's own; add them to the manifest",
    "token": "let the balancer ask for it",
    "warm_up_data_path": "let the workload warm up before it is healthy",
}
_ROLLING = ("rolling_strategy", "metadata.rolling_strategy")
_ONE_BY_ONE = "Compose updates containers one by one; start a second project and move the traffic"
_AT_ONCE = "Swarm replaces all tasks of a Unit at once, and Units as they are deployed"
_ENGINES = {
    "compose": dict.fromkeys(_ROLLING, _ONE_BY_ONE),
    "swarm": dict.fromkeys(_ROLLING, _AT_ONCE)
    | {"containers[0].port": "a published port would lead to all ranks; HAProxy finds rank 0"},
    "lws": {},
}


def unexpressed(engine: str, stated: Collection[str]) -> Iterator[str]:
    """Yield a sentence for each stated path that the engine's manifest leaves out."""
    reasons = _ALL | _ENGINES[engine]
    for path in stated:
        for pattern, reason in reasons.items():
            # A pattern's brackets are the path's own, not a choice of characters.
            if fnmatchcase(path, pattern.replace("[", "[[]")):
                yield f"{path} is not in the manifest: {reason}"
