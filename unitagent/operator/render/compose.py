"""A service on one machine: each instance is a Compose service, since only then it can get its rank.

The store is the embedded one of each Unit's rank 0, which the other ranks find by its service name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from unitagent.errors import ConfigurationError
from unitagent.operator.render.service import (
    BUNDLE,
    Service,
    build_limits,
    build_nfs_volumes,
    escape_dollars,
    format_pairs,
    list_mounts,
)

_MAX_CONTAINERS = 250  # containers that fit into one file and on one machine

ABOUT = """\
Before the first start, create the secret of the Units' stores (the folder's mode keeps others out):
  mkdir -m 700 secrets && od -An -N24 -tx1 /dev/urandom | tr -d ' \\n' >secrets/unit-secret
  chmod 644 secrets/unit-secret
Another --agent-image takes effect after: docker compose down --volumes
Where rank 0 answers on this machine: docker compose port NAME-0-0 PORT"""


def render_compose(service: Service) -> list[object]:
    """Return the one document of a Compose file.

    Raises:
        ConfigurationError: more containers than fit on one machine.

    """
    if service.units * service.size > _MAX_CONTAINERS:
        raise ConfigurationError(
            f"metadata.instance={service.units} with unit.size={service.size}: must be at most "
            f"{_MAX_CONTAINERS} instances in all on one machine; render for swarm or lws instead"
        )
    services: dict[str, Any] = {
        _name_service(service, unit, rank): _build_instance(service, unit, rank)
        for unit in range(service.units)
        for rank in range(service.size)
    }
    whole: dict[str, Any] = {
        "services": services,
        "secrets": {"unit-secret": {"file": "./secrets/unit-secret"}},
    }
    kept = build_nfs_volumes(service)
    if service.carrier:
        services["agent"] = _build_carrier(service.carrier)
        kept["agent"] = {}
    return [escape_dollars(whole | ({"volumes": kept} if kept else {}))]


def warn_of_one_machine(service: Service) -> Iterator[str]:
    """Yield a warning for everything that changes when all instances share a machine."""
    instances = service.units * service.size
    if service.gpu and instances > 1:
        yield (
            f"metadata.gpu={service.gpu} for each of {instances} instances on one machine: the machine needs "
            f"{instances * service.gpu} GPUs; the manifest assigns each instance its own, by number"
        )
    if service.port and service.units > 1:
        yield (
            f"containers[0].port={service.port}: each Unit's rank 0 is published at a separate port, "
            "which the engine chooses; use a load balancer for a single address (docker/haproxy.cfg)"
        )


def _name_service(service: Service, unit: int, rank: int) -> str:
    return f"{service.name}-{unit}-{rank}"


def _build_carrier(image: str) -> dict[str, Any]:
    """Copy the agent into a volume: Docker fills an empty one with the image's content at the mount point."""
    volume = {"type": "volume", "source": "agent", "target": BUNDLE}
    return {"image": image, "entrypoint": [f"{BUNDLE}/unitagent", "--version"], "volumes": [volume]}


def _build_instance(service: Service, unit: int, rank: int) -> dict[str, Any]:
    place = {
        "UNIT_ID": f"{service.name}-{unit}",
        "UNIT_SIZE": str(service.size),
        "RANK_ID": str(rank),
        "MASTER_ADDRESS": _name_service(service, unit, 0),
        "UNIT_SECRET_FILE": "/run/secrets/unit-secret",
    }
    service_entry: dict[str, Any] = {
        "image": service.image,
        "entrypoint": [service.program, "run", "--"],
        "command": list(service.command),
        "environment": format_pairs({**service.variables, **place}),
        "secrets": ["unit-secret"],
        "restart": "on-failure",
        "stop_grace_period": f"{service.grace}s",
        "healthcheck": {
            "test": ["CMD", service.program, "probe", "live"],
            "interval": "5s",
            "timeout": "4s",
            "start_period": "130s",
            "retries": 3,
        },
    }
    if service.port and rank == 0:
        service_entry["ports"] = [str(service.port)]
    if service.shm:
        service_entry["shm_size"] = f"{service.shm}g"
    return service_entry | _build_volumes(service) | _build_resources(service, unit * service.size + rank)


def _build_volumes(service: Service) -> dict[str, Any]:
    mounts = list_mounts(service)
    if not service.carrier:
        return {"volumes": mounts} if mounts else {}
    mounts.append({"type": "volume", "source": "agent", "target": BUNDLE, "read_only": True})
    return {"volumes": mounts, "depends_on": {"agent": {"condition": "service_completed_successfully"}}}


def _build_resources(service: Service, place: int) -> dict[str, Any]:
    """Assign the instance its GPUs by number; a ``count`` would mean the machine's first ones."""
    resources: dict[str, Any] = {}
    if bounds := build_limits(service):
        resources["limits"] = bounds
    if service.gpu:
        devices = [str(place * service.gpu + number) for number in range(service.gpu)]
        device = {"driver": "nvidia", "device_ids": devices, "capabilities": ["gpu"]}
        resources["reservations"] = {"devices": [device]}
    return {"deploy": {"resources": resources}} if resources else {}
