"""Variables that contradict this instance's placement, or that engines are known to misread.

Only variables that a user, an image or a platform has set: they override what the agent would set.
Sources: vLLM, SGLang and torchrun as of 2026; NCCL's documentation of NCCL_IB_GID_INDEX and NCCL_IB_HCA.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from unitagent.operator.doctor.findings import Finding, ok, warn
from unitagent.system.interface_variables import find_misleading_variables

_CHECK = "variables"
_LINKS = ("VLLM_PORT", "SGLANG_PORT")
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
class Placement:
    """What is known about this instance; empty or None if unknown.

    Attributes:
        leader: names and addresses of rank 0.

    """

    ip: str = ""
    ifname: str = ""
    rank: int | None = None
    size: int = 0
    leader: Sequence[str] = ()


def judge_variables(environ: Mapping[str, str], place: Placement) -> list[Finding]:
    """Judge the environment; one ``ok`` if there is no problem."""
    given = {name: text for name, text in environ.items() if text}
    found = [
        *_find_service_links(given),
        *_check_interfaces(given, place),
        *_check_leader(given, place.leader),
        *_check_torchrun(given, place),
        *_check_rdma(given),
    ]
    return found or [ok(_CHECK, "none contradicts this instance's rank and addresses")]


def _find_service_links(given: Mapping[str, str]) -> Iterator[Finding]:
    for name in _LINKS:
        if given.get(name, "").startswith("tcp://"):
            said = f"{name}={given[name]} is a Kubernetes service link; the agent hides it from the workload"
            yield warn(_CHECK, said, "enableServiceLinks: false in the pod's spec, or rename the Service")


def _check_interfaces(given: Mapping[str, str], place: Placement) -> Iterator[Finding]:
    for said, remedy in find_misleading_variables(given, place.ifname, place.ip):
        yield warn(_CHECK, said, remedy)
    if place.ip and given.get(_IGNORED, place.ip) != place.ip:
        said = f"{_IGNORED}={given[_IGNORED]} is not this instance's address {place.ip}"
        then = "vLLM ignores it with a warning, and SGLang prefers the SGLANG_HOST_IP that the agent sets"
        yield warn(_CHECK, f"{said}: {then}", f"unset {_IGNORED}")


def _check_leader(given: Mapping[str, str], leader: Sequence[str]) -> Iterator[Finding]:
    for name in _LEADERS:
        if leader and name in given and given[name].strip("[]") not in leader:
            said = (
                f"{name}={given[name]} is not the address of rank 0 ({leader[0]}): the ranks would meet there"
            )
            yield warn(_CHECK, said, "unset it; the agent sets it for each generation")


def _check_torchrun(given: Mapping[str, str], place: Placement) -> Iterator[Finding]:
    remedy = "unset it; the agent sets it for each rank"
    meant = {"PET_NNODES": str(place.size), "PET_NODE_RANK": str(place.rank)} if place.size else {}
    for name in sorted(given):
        if name in meant and given[name] != meant[name]:
            said = (
                f"{name}={given[name]}, which torchrun reads as a flag, is not this instance's {meant[name]}"
            )
            yield warn(_CHECK, said, remedy)
        elif name in _FLAGS:
            then, how = _FLAGS[name]
            yield warn(_CHECK, f"{name}={given[name]}, which torchrun reads as a flag: {then}", how)
        elif name.startswith(_RENDEZVOUS):
            said = f"{name} is set, which torchrun reads as a flag: the ranks would not meet at rank 0"
            yield warn(_CHECK, said, "unset it")


def _check_rdma(given: Mapping[str, str]) -> Iterator[Finding]:
    for name in _GID_INDEXES:
        if name in given:
            said = f"{name}={given[name]} is fixed, but the right index differs from machine to machine"
            yield warn(_CHECK, said, f"unset {name}: NCCL 2.21 and later find it")
    hca = given.get("NCCL_IB_HCA", "=")
    if not hca.startswith(("=", "^")):
        said = f"NCCL_IB_HCA={hca} also matches every device whose name begins with it"
        yield warn(_CHECK, said, f"NCCL_IB_HCA=={hca}")
