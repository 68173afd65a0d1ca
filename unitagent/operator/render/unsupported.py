"""What a service file contains and an engine's manifest omits, each with the reason or the remedy."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase

_EAS = "it only concerns EAS"
_IMAGE = "put it into the image"
_BY_URL = "only http_get fits into a variable; mount the file and set UNIT_CONFIG to use this check"
_HEALTHY = "failures only count after the workload has been healthy"
_ONCE = "one success is enough"
_ALL = {
    "autoscaler": "the number of Units is fixed; scale with the engine's own means",
    "cloud": "the engine decides which machines serve",
    "containers[0].prepare": _IMAGE,
    "containers[0].readiness_check": "an instance is ready when its whole Unit serves (/readyz)",
    "containers[0].resources": "set gpu, cpu and memory under metadata",
    "containers[0].health_check.exec": _BY_URL,
    "containers[0].health_check.tcp_socket": _BY_URL,
    "containers[0].liveness_check.exec": _BY_URL,
    "containers[0].liveness_check.tcp_socket": _BY_URL,
    "containers[0].startup_check.exec": _BY_URL,
    "containers[0].startup_check.tcp_socket": _BY_URL,
    "containers[0].health_check.initial_delay_seconds": _HEALTHY,
    "containers[0].liveness_check.initial_delay_seconds": _HEALTHY,
    "containers[0].health_check.success_threshold": _ONCE,
    "containers[0].liveness_check.success_threshold": _ONCE,
    "containers[0].startup_check.success_threshold": _ONCE,
    "dockerAuth": "log the engine in to the registry",
    "features": _EAS,
    "labels": "these are labels of EAS; add the ones that you need",
    "metadata.enable_grpc": "any protocol passes",
    "metadata.quota_id": _EAS,
    "metadata.quota_type": _EAS,
    "metadata.rdma": "pass the devices to the containers; UNIT_RDMA=auto then finds them",
    "metadata.resource": _EAS,
    "metadata.resource_burstable": _EAS,
    "metadata.workspace_id": _EAS,
    "model_*": _IMAGE + ", or mount it",
    "networking": "put a load balancer in front of the Units (GET /traffic finds rank 0)",
    "options": _EAS,
    "processor*": "only containers are rendered, not processors of EAS",
    "rpc": "engines always send SIGTERM, and the load balancer decides the rest",
    "metadata.rpc": "engines always send SIGTERM, and the load balancer decides the rest",
    "scheduling": _EAS,
    "source": _EAS,
    "storage[*": "only nfs is rendered; add the volume to the manifest yourself",
    "token": "check it in the load balancer",
    "warm_up_data_path": "warm the workload up before it reports healthy",
}
_RENDERED = frozenset(
    {"name", "instance", "gpu", "cpu", "memory", "disk", "shm_size", "rolling_strategy", "eas", "runtime"}
)  # of metadata
_ROLLING = ("rolling_strategy", "metadata.rolling_strategy")
_ONE_BY_ONE = (
    "Compose updates containers one by one; start a second project and switch the traffic "
    "(scripts/rollout.sh)"
)
_AT_ONCE = "Swarm replaces all tasks of a Unit at once, and Units as they are deployed"
_NO_DISK = {"metadata.disk": "the engine cannot limit it; give the container a volume"}
_ENGINES: dict[str, dict[str, str]] = {
    "compose": dict.fromkeys(_ROLLING, _ONE_BY_ONE) | _NO_DISK,
    "swarm": dict.fromkeys(_ROLLING, _AT_ONCE)
    | _NO_DISK
    | {"containers[0].port": "a published port would lead to all ranks; HAProxy finds rank 0"},
    "lws": {
        "autoscaler": "the number of Units is fixed; a HorizontalPodAutoscaler can scale the LeaderWorkerSet",
        "networking": "the Service leads to rank 0; put an Ingress or a Gateway in front of it",
    },
}


def find_unsupported(engine: str, stated: Collection[str]) -> Iterator[str]:
    """Yield a sentence for each path that the engine's manifest omits."""
    reasons = _ALL | _ENGINES[engine]
    for path in stated:
        # Brackets in a pattern are literal, not a character class.
        matching = [why for pattern, why in reasons.items() if fnmatchcase(path, pattern.replace("[", "[[]"))]
        metadata = path.startswith("metadata.") and path.removeprefix("metadata.") not in _RENDERED
        if not matching and metadata:
            matching = ["it is unknown to unitagent"]
        yield from (f"{path} is not in the manifest: {reason}" for reason in matching)
