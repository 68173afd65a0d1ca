"""A service on a Swarm: each Unit is a Swarm service, each rank one of its slots, with one Redis for all.

Slots count from 1, and a task that replaces a failed one keeps its slot. A Swarm task cannot find another
one, so the store cannot run at rank 0.
"""

from __future__ import annotations

import math
from typing import Any

from unitagent.operator.render.service import (
    Service,
    build_limits,
    build_nfs_volumes,
    escape_dollars,
    format_pairs,
    list_mounts,
)

_ENTRYPOINT = ["sh", "-c", 'RANK_ID=$((TASK_SLOT - 1)) exec unitagent run -- "$@"', "sh"]
_GIB = 1024**3
_LOAD = 3600.0  # seconds until an instance that never served is replaced, unless the file allows more

ABOUT = """\
Before the first start, create the secrets with the password (the folder's mode keeps others out):
  mkdir -m 700 secrets && p=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \\n')
  printf 'requirepass %s\\n' "$p" >secrets/redis.conf
  printf 'redis://:%s@redis:6379/0\\n' "$p" >secrets/redis-url
Each Unit is a service; traffic for rank 0 needs a load balancer on the network `cards`, which finds all
instances under the name unit and checks GET /traffic at port 9470 (docker/haproxy.cfg). Change UNIT_REVISION
for an update; if a new task does not serve within start_period, Swarm rolls back."""


def render_swarm(service: Service) -> list[object]:
    """Return the one document of a stack file."""
    units = {f"{service.name}-{unit}": _build_unit(service, unit) for unit in range(service.units)}
    stack = {
        "version": "3.9",
        "services": {"redis": _build_redis(), **units},
        "networks": {"cards": {"driver": "overlay", "attachable": True}},
        "secrets": {name: {"file": f"./secrets/{name}"} for name in ("redis.conf", "redis-url")},
    }
    if kept := build_nfs_volumes(service):
        stack["volumes"] = kept
    return [escape_dollars(stack)]


def _build_redis() -> dict[str, Any]:
    return {
        "image": "redis:7",
        "command": ["redis-server", "/run/secrets/redis.conf"],
        "secrets": ["redis.conf"],
        "networks": ["cards"],
        # Straight to the task: Swarm's virtual addresses drop connections that are idle for 15 minutes.
        "deploy": {"endpoint_mode": "dnsrr"},
    }


def _build_unit(service: Service, unit: int) -> dict[str, Any]:
    place = {
        "UNIT_ID": f"{service.name}-{unit}",
        "UNIT_SIZE": str(service.size),
        "UNIT_REDIS_URL_FILE": "/run/secrets/redis-url",
        # The default would be eth1, which is Swarm's bridge, with the same addresses on each machine.
        "COMM_IFNAME": "eth0",
    }
    variables = {name: text.replace("{{", '{{"{{"}}') for name, text in service.variables.items()}
    service_entry: dict[str, Any] = {
        "image": service.image,
        "entrypoint": list(_ENTRYPOINT),
        "command": list(service.command),
        "environment": format_pairs(
            {"UNIT_REVISION": "1", **variables, **place, "TASK_SLOT": "{{.Task.Slot}}"}
        ),
        "secrets": ["redis-url"],
        "networks": {"cards": {"aliases": ["unit"]}},
        "healthcheck": _build_healthcheck(service),
        "stop_grace_period": f"{service.grace}s",
        "deploy": _build_deploy(service),
    }
    found_there = list_mounts(service)
    if service.shm:
        shm = {"type": "tmpfs", "target": "/dev/shm", "tmpfs": {"size": service.shm * _GIB}}  # noqa: S108
        found_there.append(shm)
    return service_entry | ({"volumes": found_there} if found_there else {})


def _build_healthcheck(service: Service) -> dict[str, Any]:
    """Check the whole Unit: once this passes, Swarm counts the task as running and the update as
    successful.
    """
    startup = float(service.settings.get("UNIT_STARTUP_SECONDS", 0))
    return {
        "test": ["CMD", "unitagent", "probe", "startup"],
        "interval": "5s",
        "timeout": "4s",
        # Machines do not start together: some still pull the image.
        "start_period": f"{math.ceil(max(_LOAD, 2 * startup))}s",
        "retries": 3,
    }


def _build_deploy(service: Service) -> dict[str, Any]:
    """Replace all tasks at once, stopping the old ones first: a Unit only works as a whole."""
    deploy: dict[str, Any] = {
        "replicas": service.size,
        "endpoint_mode": "dnsrr",
        "restart_policy": {"condition": "on-failure", "delay": "1s"},
        "update_config": {
            "parallelism": 0,
            "order": "stop-first",
            "failure_action": "rollback",
            "monitor": "60s",
        },
        "rollback_config": {"parallelism": 0, "order": "stop-first"},
    }
    resources: dict[str, Any] = {}
    if bounds := build_limits(service):
        resources["limits"] = bounds
    if service.gpu:
        spec = {"discrete_resource_spec": {"kind": "NVIDIA-GPU", "value": service.gpu}}
        resources["reservations"] = {"generic_resources": [spec]}
    return deploy | ({"resources": resources} if resources else {})
