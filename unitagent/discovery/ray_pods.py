"""Controllers of Ray pods, which tell where the head is and no pod its rank.

Sources: KubeRay's environment variables (``FQ_RAY_IP`` on workers alone), KServe's controller of predictors
(``HEAD_SVC`` on workers alone, ``RAY_NODE_COUNT`` on all). They are asked last, for a rank is worth more.
"""

from __future__ import annotations

import re

from unitagent.discovery.platform_rules import Environ, Platform, PlatformRule, make_unit_name, read_size


def _read_kuberay(environ: Environ, _hostname: str) -> Platform:
    return Platform(
        "KubeRay",
        leader=environ.get("FQ_RAY_IP"),
        unit=make_unit_name(environ["RAY_CLUSTER_NAME"]),
        notes=(_list_used(environ, "RAY_CLUSTER_NAME", "FQ_RAY_IP"),),
    )


def _read_kserve(environ: Environ, _hostname: str) -> Platform | None:
    """Take a Service, or the two counts that the head too is told: one of these names alone says little."""
    leader, size = environ.get("HEAD_SVC", ""), environ.get("RAY_NODE_COUNT")
    if not (leader or environ.get("WORKER_SVC") or size):
        return None
    return Platform(
        "KServe InferenceService",
        size=read_size(environ, "RAY_NODE_COUNT") if size else None,
        leader=leader if _SERVICE.fullmatch(leader) else None,
        notes=(_list_used(environ, "HEAD_SVC", "WORKER_SVC", "RAY_NODE_COUNT"),),
    )


_SERVICE = re.compile(r"[a-z0-9.-]+")


def _list_used(environ: Environ, *names: str) -> str:
    return ", ".join(name for name in names if environ.get(name))


RAY_PODS: tuple[PlatformRule, ...] = (
    PlatformRule("KubeRay", ("RAY_CLUSTER_NAME",), (), _read_kuberay),
    PlatformRule(
        "KServe InferenceService", ("HEAD_SVC", "WORKER_SVC", "REQUEST_GPU_COUNT"), (), _read_kserve
    ),
)
