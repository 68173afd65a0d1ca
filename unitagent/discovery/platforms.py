"""Detect the platform: the first rule of the table that fits.

The invariant: detection reads variables and a hostname only; it resolves no name and opens no file.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import ip_address

from unitagent.discovery.kubernetes import (
    CONTROLLERS,
    NAMELESS_POD,
    RAY_PODS,
    is_node_name,
    read_stateful_set,
)
from unitagent.discovery.platform_rules import Environ, Platform, PlatformRule, apply_rule, read_rank
from unitagent.discovery.schedulers import SCHEDULERS

__all__ = ["Platform", "detect_platform", "find_full_name", "is_node_name"]

_EAS_INTERFACES = ("net0", "eth1")


def _read_eas(environ: Environ, _hostname: str) -> Platform | None:
    """PAI-EAS tells rank and leader under our own names, and no size: that is in its service file alone.

    People set these names elsewhere, too (Compose). EAS sets all four of them, one of its two interfaces, and
    addresses without a name.
    """
    addresses = (environ.get("RANK_IP", ""), environ["MASTER_ADDRESS"])
    if environ.get("COMM_IFNAME") not in _EAS_INTERFACES or not all(map(_is_address, addresses)):
        return None
    if environ.get("RANK_ID", "auto").strip().lower() in {"auto", ""}:
        return None
    leader = environ["MASTER_ADDRESS"]
    return Platform("EAS", read_rank(environ, "RANK_ID"), None, leader, None, ("RANK_ID, MASTER_ADDRESS",))


def _is_address(text: str) -> bool:
    try:
        return bool(ip_address(text))
    except ValueError:
        return False


# EAS stands last although its variables win over all others: they are the explicit ones. A manifest that
# maps a controller's variables to them looks like EAS, and the controller still knows the size and a name.
TABLE: tuple[PlatformRule, ...] = (
    *CONTROLLERS,
    *SCHEDULERS,
    PlatformRule("EAS", ("MASTER_ADDRESS",), (), _read_eas),
)


def detect_platform(environ: Environ, hostname: str, *, in_cluster: bool = False) -> Platform | None:
    """Find out what platform this is and what it tells; None when nothing fits.

    Args:
        environ: the environment; an empty variable counts as unset.
        hostname: this machine's name, with its domain where that is known; empty where it is a node's.
        in_cluster: whether anything but the environment says that this is a pod of Kubernetes.

    Raises:
        ConfigurationError: a platform's variables are incomplete or impossible.

    """
    platforms = (apply_rule(rule, environ, hostname) for rule in TABLE)
    platform = next((platform for platform in platforms if platform), None)
    in_pod = in_cluster or bool(environ.get("KUBERNETES_SERVICE_HOST"))
    if platform is None and in_pod:
        platform = read_stateful_set(environ, hostname)
    last = (apply_rule(rule, environ, hostname) for rule in RAY_PODS)
    nameless = NAMELESS_POD if in_pod and not hostname else None
    return platform or next((platform for platform in last if platform), nameless)


def find_full_name(hostname: str, hosts: str) -> str:
    """Look up a host's name with its domain in the text of ``/etc/hosts``, where the kubelet writes it."""
    for line in hosts.splitlines():
        names = line.partition("#")[0].split()[1:]
        if hostname in names:
            return next((name for name in names if name.startswith(hostname + ".")), hostname)
    return hostname


_KUBEFLOW_RENDEZVOUS = re.compile(
    r"PET_(NNODES|NODE_RANK|MASTER_\w+|RDZV_\w+|MAX_RESTARTS)|MASTER_(ADDR|PORT)"
)


def find_rendezvous_variables(platform: str | None, names: Collection[str]) -> frozenset[str]:
    """Pick those of ``platform`` out of the names of variables; its jobs of JAX meet otherwise."""
    torchrun = platform == "Kubeflow" and "PET_NODE_RANK" in names
    return frozenset(filter(_KUBEFLOW_RENDEZVOUS.fullmatch, names)) if torchrun else frozenset()
