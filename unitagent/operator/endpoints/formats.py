"""The list of endpoints in each output format. The text only depends on the list, so equal text means no
change.
"""

from __future__ import annotations

import hashlib
import json
from itertools import groupby
from typing import TYPE_CHECKING, Any

from unitagent.system.host_port import join_host_port

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from unitagent.store.protocol import Endpoint


def format_endpoints(kind: str, entries: Sequence[Endpoint], service: str | None) -> str:
    """Format the list as ``kind``; a requested ``service`` appears even if it has no Unit."""
    services: dict[str, Sequence[Endpoint]] = {service: ()} if service else {}
    by_service = sorted(entries, key=lambda one: (one.service, one.unit))
    services |= {name: tuple(units) for name, units in groupby(by_service, lambda one: one.service)}
    return FORMATS[kind](services)


def _format_json(services: Mapping[str, Sequence[Endpoint]]) -> str:
    return _dump_json([_to_dict(one) for units in services.values() for one in units])


def _to_dict(one: Endpoint) -> dict[str, Any]:
    return {
        "service": one.service,
        "unit": one.unit,
        "revision": one.revision,
        "generation": one.generation,
        "address": one.ip,
        "port": one.port,
        "probe_port": one.probe_port,
    }


def _format_haproxy(services: Mapping[str, Sequence[Endpoint]]) -> str:
    """Write a backend for each service. Balancing and checks belong to the ``defaults`` before this file.

    Names come from the store; the prefix ``unit-`` keeps them from colliding with the user's own proxies,
    which HAProxy would reject together with the whole configuration.
    """
    lines = ["# Written by `unitagent endpoints`: rank 0 of each Unit that takes traffic."]
    for name, units in services.items():
        lines += ["", f"backend unit-{name}", *map(_format_server, units)]
    return "\n".join(lines) + "\n"


def _format_server(one: Endpoint) -> str:
    check = f" check port {one.probe_port}" if one.probe_port else ""
    return f"    server {one.unit} {join_host_port(one.ip, one.port)}{check}"


def _format_envoy(services: Mapping[str, Sequence[Endpoint]]) -> str:
    """Write a file for ``path_config_source``, whose cluster is named after the service.

    It is an ``envoy.service.discovery.v3.DiscoveryResponse`` as JSON. Envoy accepts exactly one assignment
    for a cluster: it rejects a file with more, and a file with none changes nothing.
    """
    resources = [_build_assignment(name, units) for name, units in services.items()]
    version = hashlib.sha256(json.dumps(resources).encode()).hexdigest()[:16]
    return _dump_json({"version_info": version, "resources": resources})


def _build_assignment(name: str, units: Sequence[Endpoint]) -> dict[str, Any]:
    addresses = [{"socket_address": {"address": one.ip, "port_value": one.port}} for one in units]
    ends = [{"endpoint": {"address": address}, "health_status": "HEALTHY"} for address in addresses]
    kind = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
    return {"@type": kind, "cluster_name": name, "endpoints": [{"lb_endpoints": ends}]}


def _format_prometheus(services: Mapping[str, Sequence[Endpoint]]) -> str:
    """Write targets for ``http_sd`` and ``file_sd``; a label leads to the agent's own metrics."""
    return _dump_json([_build_target(one) for units in services.values() for one in units])


def _build_target(one: Endpoint) -> dict[str, Any]:
    labels = {"service": one.service, "unit": one.unit, "revision": one.revision}
    if one.probe_port:
        labels["__meta_unitagent_agent"] = join_host_port(one.ip, one.probe_port)
    return {"targets": [join_host_port(one.ip, one.port)], "labels": labels}


def _dump_json(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"


FORMATS: dict[str, Callable[[Mapping[str, Sequence[Endpoint]]], str]] = {
    "json": _format_json,
    "haproxy": _format_haproxy,
    "envoy": _format_envoy,
    "prometheus": _format_prometheus,
}
