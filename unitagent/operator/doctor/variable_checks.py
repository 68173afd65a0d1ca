"""Variables that contradict this instance's placement, or that engines are known to misread.

Only variables that a user, an image or a platform has set: they override what the agent would set.
Sources: vLLM, SGLang and torchrun as of 2026; NCCL's documentation of NCCL_IB_GID_INDEX and NCCL_IB_HCA.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from unitagent.operator.doctor.findings import Finding, ok, warn
from unitagent.system.interface_variables import SERVICE_LINKS, find_misleading_variables

_CHECK = "variables"
_IGNORED = "HOST_IP"
_LEADERS = ("MASTER_ADDR", "PET_MASTER_ADDR")
_FLAGS = {
    "PET_MASTER_PORT": (
        "every generation has its own port",
        "unset it; the agent sets it for each generation",
    ),
    "PET_MAX_RESTARTS": (
        "it would restart workers independently of the agent, which restarts all ranks together",
        "unset it; UNIT_MAX_RESTARTS is the Unit's restart budget",
    ),
}
_GID_INDEXES = ("NCCL_IB_GID_INDEX", "UCX_IB_GID_INDEX", "NVSHMEM_IB_GID_INDEX")
_RENDEZVOUS = ("PET_RDZV_", "PET_STANDALONE")


@dataclass(frozen=True, slots=True)
class AddressContext:
    """What is known about this instance; empty or None if unknown.

    Attributes:
        leader: names and addresses of rank 0.

    """

    ip: str = ""
    ifname: str = ""
    rank: int | None = None
    size: int = 0
    leader: Sequence[str] = ()


def judge_variables(environ: Mapping[str, str], place: AddressContext) -> list[Finding]:
    """Judge the environment; one ``ok`` if there is no problem."""
    variables = {name: text for name, text in environ.items() if text}
    findings = [
        *_find_service_links(variables),
        *_check_interfaces(variables, place),
        *_check_leader(variables, place.leader),
        *_check_torchrun(variables, place),
        *_check_rdma(variables),
    ]
    return findings or [ok(_CHECK, "none contradicts this instance's rank and addresses")]


def _find_service_links(variables: Mapping[str, str]) -> Iterator[Finding]:
    for name in SERVICE_LINKS:
        if variables.get(name, "").startswith("tcp://"):
            detail = (
                f"{name}={variables[name]} is a Kubernetes service link; the agent hides it from the workload"
            )
            yield warn(_CHECK, detail, "enableServiceLinks: false in the pod's spec, or rename the Service")


def _check_interfaces(variables: Mapping[str, str], place: AddressContext) -> Iterator[Finding]:
    for problem, remedy in find_misleading_variables(variables, place.ifname, place.ip):
        yield warn(_CHECK, problem, remedy)
    if place.ip and variables.get(_IGNORED, place.ip) != place.ip:
        problem = f"{_IGNORED}={variables[_IGNORED]} is not this instance's address {place.ip}"
        then = "vLLM ignores it with a warning, and SGLang prefers the SGLANG_HOST_IP that the agent sets"
        yield warn(_CHECK, f"{problem}: {then}", f"unset {_IGNORED}")


def _check_leader(variables: Mapping[str, str], leader: Sequence[str]) -> Iterator[Finding]:
    for name in _LEADERS:
        if leader and name in variables and variables[name].strip("[]") not in leader:
            value = variables[name]
            detail = f"{name}={value} is not the address of rank 0 ({leader[0]}): the ranks would meet there"
            yield warn(_CHECK, detail, "unset it; the agent sets it for each generation")


def _check_torchrun(variables: Mapping[str, str], place: AddressContext) -> Iterator[Finding]:
    remedy = "unset it; the agent sets it for each rank"
    meant = {"PET_NNODES": str(place.size), "PET_NODE_RANK": str(place.rank)} if place.size else {}
    for name in sorted(variables):
        if name in meant and variables[name] != meant[name]:
            value = variables[name]
            detail = f"{name}={value}, which torchrun reads as a flag, is not this instance's {meant[name]}"
            yield warn(_CHECK, detail, remedy)
        elif name in _FLAGS:
            then, how = _FLAGS[name]
            yield warn(_CHECK, f"{name}={variables[name]}, which torchrun reads as a flag: {then}", how)
        elif name.startswith(_RENDEZVOUS):
            detail = f"{name} is set, which torchrun reads as a flag: the ranks would not meet at rank 0"
            yield warn(_CHECK, detail, "unset it")


def _check_rdma(variables: Mapping[str, str]) -> Iterator[Finding]:
    for name in _GID_INDEXES:
        if name in variables:
            detail = f"{name}={variables[name]} is fixed, but the right index differs from machine to machine"
            yield warn(_CHECK, detail, f"unset {name}: NCCL 2.21 and later find it")
    hca = variables.get("NCCL_IB_HCA", "=")
    if not hca.startswith(("=", "^")):
        detail = f"NCCL_IB_HCA={hca} also matches every device whose name begins with it"
        yield warn(_CHECK, detail, f"NCCL_IB_HCA=={hca}")
