"""Identity of this instance from the environment variables of Kubernetes controllers.

Sources: the controllers' code (LWS, RBG, Kthena, AIBrix, Grove, Kubeflow training-operator 1.9 and Trainer
2, Volcano, JobSet, Kubernetes Job, KubeRay, KServe); each function names the traps of its controller.
Controllers of Ray pods tell where the head is but give no pod a rank, so they are asked last.
"""

from __future__ import annotations

import re

from unitagent.discovery.platform_rules import (
    Environ,
    Platform,
    PlatformRule,
    apply_rule,
    get_first_label,
    make_unit_name,
    read_rank,
    read_size,
    split_sibling,
)
from unitagent.errors import ConfigurationError


def _make_direct_rule(name: str, rank: str, size: str, leader: str, unit: str | None = None) -> PlatformRule:
    """Read a platform that tells all plainly; the Unit is named by ``unit`` or after the leader's pod."""

    def read(environ: Environ, _hostname: str) -> Platform:
        return Platform(
            name,
            read_rank(environ, rank),
            read_size(environ, size),
            environ[leader],
            make_unit_name(environ.get(unit or "") or get_first_label(environ[leader])),
            (f"{rank}, {size}, {leader}",),
        )

    return PlatformRule(name, (size, rank, leader), (rank, size, leader), read)


def _read_kthena(environ: Environ, hostname: str) -> Platform | None:
    """Kthena's names are so general that a leader alone says nothing; with one of the others it does."""
    if not (environ.get("GROUP_SIZE") or environ.get("WORKER_INDEX")):
        return None
    return apply_rule(_KTHENA, environ, hostname)


_KTHENA = _make_direct_rule("Kthena", "WORKER_INDEX", "GROUP_SIZE", "ENTRY_ADDRESS")


def _read_aibrix(environ: Environ, _hostname: str) -> Platform:
    """AIBrix does not tell where the leader is, but a PodSet's pods are known under the service's name."""
    name, service = environ["PODSET_NAME"], environ.get("STORM_SERVICE_NAME")
    return Platform(
        "AIBrix",
        read_rank(environ, "POD_GROUP_INDEX"),
        read_size(environ, "POD_GROUP_SIZE"),
        f"{name}-0.{service}" if service else None,
        make_unit_name(name),
        ("POD_GROUP_INDEX, POD_GROUP_SIZE, PODSET_NAME",),
    )


def _read_grove(environ: Environ, _hostname: str) -> Platform:
    """Read a clique of its own, whose pods count from 0, or one of a scaling group's two cliques."""
    if environ.get("GROVE_PCSG_NAME"):
        return _read_grove_scaling_group(environ)
    name, service = environ["GROVE_PCLQ_NAME"], environ.get("GROVE_HEADLESS_SERVICE")
    leader = f"{name}-0.{service}" if service else None
    rank = read_rank(environ, "GROVE_PCLQ_POD_INDEX")
    return Platform("Grove", rank, None, leader, make_unit_name(name), ("GROVE_PCLQ_POD_INDEX",))


def _read_grove_scaling_group(environ: Environ) -> Platform:
    """Make the leader clique's pod 0 and number the workers from 1; a clique's name tells which it is."""
    missing = [name for name in _GROVE_GROUP if not environ.get(name)]
    if missing:
        raise ConfigurationError(
            f"{', '.join(missing)} missing: GROVE_PCSG_NAME={environ['GROVE_PCSG_NAME']!r} says that this is "
            "a scaling group of Grove, which sets it; set RANK_ID and UNIT_SIZE instead"
        )
    clique = environ["GROVE_PCLQ_NAME"]
    ends = next((pair for pair in _GROVE_ENDS if clique.endswith(pair)), None)
    index = read_rank(environ, "GROVE_PCLQ_POD_INDEX")
    if ends is None or (clique.endswith(ends[0]) and index):
        raise ConfigurationError(
            f"GROVE_PCLQ_NAME={clique!r} with GROVE_PCLQ_POD_INDEX={index}: must be one leader, in a "
            "clique whose name ends in ldr or leader, and workers in one that ends in wkr or worker; "
            "set RANK_ID instead"
        )
    group = f"{environ['GROVE_PCSG_NAME']}-{environ['GROVE_PCSG_INDEX']}"
    is_leader = clique.endswith(ends[0])
    leading = clique if is_leader else clique.removesuffix(ends[1]) + ends[0]
    service = environ.get("GROVE_HEADLESS_SERVICE")
    return Platform(
        "Grove",
        0 if is_leader else index + 1,
        read_size(environ, "GROVE_PCSG_TEMPLATE_NUM_PODS"),
        f"{leading}-0.{service}" if service else None,
        make_unit_name(group),
        ("GROVE_PCLQ_NAME, GROVE_PCLQ_POD_INDEX, GROVE_PCSG_TEMPLATE_NUM_PODS",),
    )


_GROVE_ENDS = (("ldr", "wkr"), ("leader", "worker"))
_GROVE_GROUP = ("GROVE_PCSG_INDEX", "GROVE_PCSG_TEMPLATE_NUM_PODS")


def _read_kubeflow(environ: Environ, _hostname: str) -> Platform:
    """Read ``PET_*`` only: a PyTorchJob's ``WORLD_SIZE`` counts processes, not nodes.

    An elastic job says ``min:max``; a Unit has one size, so both must be the same.
    """
    least, _, most = environ["PET_NNODES"].partition(":")
    if most and least != most:
        raise ConfigurationError(
            f"PET_NNODES={environ['PET_NNODES']!r}: an elastic job has no fixed size; must be a number; "
            "set UNIT_SIZE and RANK_ID, or make the job's least and most nodes the same"
        )
    leader = environ.get("PET_MASTER_ADDR") or environ.get("MASTER_ADDR")
    named = re.fullmatch(r"(.+)-(?:node-0-0|master-0|worker-0)", get_first_label(leader or ""))
    return Platform(
        "Kubeflow",
        read_rank(environ, "PET_NODE_RANK"),
        read_size({"PET_NNODES": least}, "PET_NNODES"),
        leader,
        make_unit_name(named and named[1]),
        ("PET_NODE_RANK, PET_NNODES, PET_MASTER_ADDR",),
    )


def _read_train_job(environ: Environ, hostname: str) -> Platform | None:
    """Read a TrainJob's variables, where a process is a node; its leader's name tells them from anybody's."""
    if not _TRAIN_JOB.fullmatch(environ["JAX_COORDINATOR_ADDRESS"]):
        return None
    return apply_rule(_JAX, environ, hostname)


def _read_jax(environ: Environ, _hostname: str) -> Platform:
    leader, _, _ = environ["JAX_COORDINATOR_ADDRESS"].partition(":")
    return Platform(
        "Kubeflow",
        read_rank(environ, "JAX_PROCESS_ID"),
        read_size(environ, "JAX_NUM_PROCESSES"),
        leader,
        make_unit_name(get_first_label(leader).removesuffix("-node-0-0")),
        (", ".join(_JAX.needs),),
    )


_TRAIN_JOB = re.compile(r"(.+)-node-0-0\.\1(?::[0-9]+)?")
_JAX = PlatformRule(
    "Kubeflow (JAX)",
    ("JAX_COORDINATOR_ADDRESS",),
    ("JAX_PROCESS_ID", "JAX_NUM_PROCESSES", "JAX_COORDINATOR_ADDRESS"),
    _read_jax,
)


def _read_volcano(environ: Environ, _hostname: str) -> Platform:
    """Read a job of one task, or one with the pytorch plugin, where RANK and WORLD_SIZE do count pods."""
    if all(environ.get(name) for name in _VOLCANO_PYTORCH):
        rank, size = read_rank(environ, "RANK"), read_size(environ, "WORLD_SIZE")
        leader = environ["MASTER_ADDR"]
        unit = leader.split(".")[1] if "." in leader else None
        return Platform("Volcano", rank, size, leader, make_unit_name(unit), (", ".join(_VOLCANO_PYTORCH),))
    tasks = sorted(m[1] for m in map(_VOLCANO_TASK.fullmatch, environ) if m and environ[m[0]])
    if len(tasks) != 1:
        raise ConfigurationError(
            f"VC_<TASK>_NUM: must be one task; this Volcano job has {len(tasks)} "
            f"({', '.join(tasks) or 'none'}) and does not say which form the Unit; "
            "set RANK_ID and UNIT_SIZE, or use Volcano's pytorch plugin"
        )
    index = "VC_TASK_INDEX" if environ.get("VC_TASK_INDEX") else "VK_TASK_INDEX"
    leader = environ.get(f"VC_{tasks[0]}_HOSTS", "").partition(",")[0]
    number = f"VC_{tasks[0]}_NUM"
    unit = get_first_label(leader).removesuffix("-0")
    notes = (f"{index}, {number}",)
    return Platform(
        "Volcano",
        read_rank(environ, index),
        read_size(environ, number),
        leader or None,
        make_unit_name(unit),
        notes,
    )


_VOLCANO_PYTORCH = ("RANK", "WORLD_SIZE", "MASTER_ADDR")
_VOLCANO_TASK = re.compile(r"VC_(\w+)_NUM")


def _read_indexed_job(environ: Environ, hostname: str) -> Platform:
    """Read the index; neither Job nor JobSet tells the size, and the host's own name leads to the leader.

    A pod is called ``<job>-<index>-<five characters>``, its host without the last part.
    """
    rank = read_rank(environ, "JOB_COMPLETION_INDEX")
    pod = environ.get("POD_NAME", "").rpartition("-")[0]
    base, leader = split_sibling(hostname, str(rank)) or split_sibling(pod, str(rank)) or (None, None)
    return Platform("Job", rank, None, leader or None, make_unit_name(base), ("JOB_COMPLETION_INDEX",))


def read_stateful_set(environ: Environ, hostname: str) -> Platform | None:
    """Read ``<set>-<ordinal>`` of a pod's name; elsewhere a machine may be called so for any reason.

    ``POD_NAME`` (from ``metadata.name``) goes before the hostname, which on the host's network is the node's;
    ``POD_INDEX`` (from the label ``apps.kubernetes.io/pod-index``) says the ordinal alone.
    """
    pod = environ.get("POD_NAME") or hostname
    label = get_first_label(pod)
    match = _ORDINAL.fullmatch(label)
    if environ.get("POD_INDEX"):
        rank, note = read_rank(environ, "POD_INDEX"), "POD_INDEX"
    elif match and not _NODE_OF_AWS.fullmatch(label):
        rank, note = int(match[1]), f"POD_NAME {pod}" if environ.get("POD_NAME") else f"hostname {hostname}"
    else:
        return None
    whole = hostname if get_first_label(hostname) == label else pod
    base, leader = split_sibling(whole, str(rank)) or (None, None)
    return Platform("StatefulSet", rank, None, leader or None, make_unit_name(base), (note,))


_ORDINAL = re.compile(r".+?-(0|[1-9][0-9]{0,3})")
_NODE_OF_AWS = re.compile(r"ip(-[0-9]{1,3}){4}")


def is_node_name(environ: Environ, hostname: str, hosts: str) -> bool:
    """Whether this hostname is the node's: a pod on the host's network has no other. The kubelet says so at
    the head of the pod's ``/etc/hosts``.
    """
    return hosts.startswith(_HOST_NETWORK) or hostname in filter(None, map(environ.get, _NODE_NAMES))


_HOST_NETWORK = "# Kubernetes-managed hosts file (host network)"
_NODE_NAMES = ("NODE_NAME", "K8S_NODE_NAME", "KUBERNETES_NODE_NAME")  # by custom, from spec.nodeName
NAMELESS_POD = Platform(
    "Kubernetes",
    advice="this pod is on the host's network, so its hostname is the node's: let its spec set POD_NAME from "
    "metadata.name, since the rank of a StatefulSet pod is read from its name",
)


CONTROLLERS: tuple[PlatformRule, ...] = (
    _make_direct_rule("LWS", "LWS_WORKER_INDEX", "LWS_GROUP_SIZE", "LWS_LEADER_ADDRESS"),
    _make_direct_rule(
        "RBG",
        "RBG_LWP_WORKER_INDEX",
        "RBG_LWP_GROUP_SIZE",
        "RBG_LWP_LEADER_ADDRESS",
        unit="RBG_ROLE_INSTANCE_NAME",
    ),
    PlatformRule("Kthena", ("ENTRY_ADDRESS",), (), _read_kthena),
    PlatformRule("AIBrix", ("PODSET_NAME",), ("POD_GROUP_INDEX", "POD_GROUP_SIZE"), _read_aibrix),
    PlatformRule("Grove", ("GROVE_PCLQ_NAME",), ("GROVE_PCLQ_POD_INDEX",), _read_grove),
    PlatformRule(
        "Kubeflow", ("PET_NODE_RANK", "PET_NNODES"), ("PET_NODE_RANK", "PET_NNODES"), _read_kubeflow
    ),
    PlatformRule("Kubeflow", ("JAX_COORDINATOR_ADDRESS",), (), _read_train_job),
    PlatformRule("Volcano", ("VC_TASK_INDEX", "VK_TASK_INDEX"), (), _read_volcano),
    PlatformRule("Job", ("JOB_COMPLETION_INDEX",), (), _read_indexed_job),
)


def _read_kuberay(environ: Environ, _hostname: str) -> Platform:
    return Platform(
        "KubeRay",
        leader=environ.get("FQ_RAY_IP"),
        unit=make_unit_name(environ["RAY_CLUSTER_NAME"]),
        notes=(_list_used(environ, "RAY_CLUSTER_NAME", "FQ_RAY_IP"),),
    )


def _read_kserve(environ: Environ, _hostname: str) -> Platform | None:
    """Accept a Service, or both counts, which the head gets too: one of these names alone proves little."""
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
