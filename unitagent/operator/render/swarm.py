"""A service on a Swarm: each Unit a service of Swarm, each rank one of its slots, and a Redis for all.

Slots count from 1 and stay with the task that replaces a failed one. Swarm tells no task where another is, so
that the store cannot be at rank 0.
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
_LOAD = 3600.0  # seconds until an instance that never served is given up, unless the file allows it more

ABOUT = """\
Before the first start, make the password that the secrets hold (the folder keeps others out):
  mkdir -m 700 secrets && p=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \\n')
  printf 'requirepass %s\\n' "$p" >secrets/redis.conf
  printf 'redis://:%s@redis:6379/0\\n' "$p" >secrets/redis-url
Each Unit is a service; traffic for rank 0 needs a balancer on the network `cards`, which finds all instances
by the name unit and asks them for GET /traffic at port 9470 (docker/haproxy.cfg). An update goes with another
UNIT_REVISION; a task of it that has not served within start_period ends, and the former ones come back."""


def render_swarm(service: Service) -> list[object]:
    """Give the one document of a stack file."""
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
        # Straight to the task: Swarm's virtual addresses forget connections that are silent for 15 minutes.
        "deploy": {"endpoint_mode": "dnsrr"},
    }


def _build_unit(service: Service, unit: int) -> dict[str, Any]:
    place = {
        "UNIT_ID": f"{service.name}-{unit}",
        "UNIT_SIZE": str(service.size),
        "UNIT_REDIS_URL_FILE": "/run/secrets/redis-url",
        # eth1 would be taken, and is Swarm's bridge, with the same addresses on each machine.
        "COMM_IFNAME": "eth0",
    }
    variables = {name: text.replace("{{", '{{"{{"}}') for name, text in service.variables.items()}
    found: dict[str, Any] = {
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
    return found | ({"volumes": found_there} if found_there else {})


def _build_healthcheck(service: Service) -> dict[str, Any]:
    """To Swarm a task is running, and an update has succeeded, once this passes: so it asks for the Unit."""
    startup = float(service.settings.get("UNIT_STARTUP_SECONDS", 0))
    return {
        "test": ["CMD", "unitagent", "probe", "startup"],
        "interval": "5s",
        "timeout": "4s",
        # Machines do not begin together: some still pull the image.
        "start_period": f"{math.ceil(max(_LOAD, 2 * startup))}s",
        "retries": 3,
    }


def _build_deploy(service: Service) -> dict[str, Any]:
    """Replace all tasks at once, the old ones first: a Unit is one thing."""
    found: dict[str, Any] = {
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
    return found | ({"resources": resources} if resources else {})
