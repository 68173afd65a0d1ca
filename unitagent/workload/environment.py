"""What the workload is given: its place in the gang, as variables and as words of its command line.

Three kinds of variables: those that are always ours, those that a framework reads and that are ours only
where the user set nothing, and those that a workload must not see. An empty variable counts as unset.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MARKER = "UNIT_AGENT"

_REMOVED = ("UNIT_REDIS_URL", "UNIT_REDIS_URL_FILE", "UNIT_SECRET", "UNIT_SECRET_FILE")

# Kubernetes puts VLLM_PORT=tcp://10.0.0.1:80 into every pod beside a Service named "vllm"; engines read a
# number.
_LINKS = ("VLLM_PORT", "SGLANG_PORT")

# Not ${RANK_ID}: that is a variable of a shell's, which has the same value.
_NAMES = "(RANK_ID|UNIT_SIZE|MASTER_ADDRESS|MASTER_PORT|MASTER_ENDPOINT|RANK_IP|COMM_IFNAME|UNIT_GENERATION)"
_PLACEHOLDER = re.compile(rf"(?<!\$)\{{{_NAMES}\}}")
# As a shell, or Kubernetes, is asked for a variable; the latter knows those of the pod's spec only.
_VARIABLE = re.compile(rf"\$(?:{_NAMES}\b|\{{{_NAMES}\}}|\({_NAMES}\))")
_PORT = re.compile(r"\$(?:\w*PORT\b|\{\w*PORT\}|\(\w*PORT\))")  # images get it in a variable
# An address before a port, as a placeholder or a shell's variable, without the brackets that IPv6 needs.
_PAIR = re.compile(
    r"(?<!\[)(?:\{(?:MASTER_ADDRESS|RANK_IP)\}|\$(?:MASTER_ADDR(?:ESS)?|RANK_IP)\b"
    r"|\$\{(?:MASTER_ADDR(?:ESS)?|RANK_IP)\}):(?=[\d{$])"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GangInfo:
    """What one rank of a gang tells its workload.

    Attributes:
        master_port: free on rank 0 when the gang was formed, with 7 free ports above it.
        rank_ips: of all ranks, in rank order.
        marker: value of ``UNIT_AGENT``, by which a later agent finds leftovers (``leftovers.marker``); empty
            for none.

    """

    rank: int
    size: int
    unit: str
    generation: int
    rank_ip: str
    comm_ifname: str
    master_address: str
    master_port: int
    rank_ips: tuple[str, ...]
    marker: str = ""

    @property
    def master_endpoint(self) -> str:
        """Address and port of rank 0, IPv6 in brackets."""
        return f"{_bracket_ipv6(self.master_address)}:{self.master_port}"


def build_environment(base: Mapping[str, str], gang: GangInfo) -> dict[str, str]:
    """Return the whole environment of the workload, made from the agent's own."""
    kept = {name: value for name, value in base.items() if not _is_hidden(name, value)}
    offered = {name: value for name, value in _make_defaults(gang).items() if value and not kept.get(name)}
    return kept | offered | _make_rank_variables(gang)


def fill_placeholders(argv: Sequence[str], values: Mapping[str, str]) -> list[str]:
    """Replace our placeholders (``{RANK_ID}`` …) by ``values``; all other braces are left alone, those of a
    shell's variables too.
    """
    return [_PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), word) for word in argv]


def explain_pairs(argv: Sequence[str], gang: GangInfo) -> tuple[str, ...]:
    """Say of an address and a port with nothing but a colon between them that IPv6 does not fit in there."""
    found = next(filter(None, map(_PAIR.search, argv)), None)
    if found is None or ":" not in gang.rank_ip:
        return ()
    told = f"COMMAND has {found[0][:-1]} and a port, which is no address where the Unit's are IPv6"
    return (f"{told}: write {{MASTER_ENDPOINT}} for rank 0's, or brackets around the address",)


def explain_variables(argv: Sequence[str]) -> tuple[str, ...]:
    """Say of a variable of ours, or a port's, in a word that no shell reads that it stays as it is."""
    found = next(filter(None, map(_VARIABLE.search, argv)), None)
    if found is not None:
        name = next(filter(None, found.groups()))
        return (f"COMMAND has {found[0]}, which nobody replaces where no shell runs it: write {{{name}}}",)
    port = next(filter(None, map(_PORT.search, argv)), None)
    if port is None:
        return ()
    remedy = "write the number, or have a shell run COMMAND (sh -c 'exec …')"
    return (f"COMMAND has {port[0]}, which nobody replaces where no shell runs it: {remedy}",)


def has_placeholder(word: str) -> bool:
    """Whether :func:`fill` would change this word."""
    return _PLACEHOLDER.search(word) is not None


def _is_hidden(name: str, value: str) -> bool:
    return name in _REMOVED or name == MARKER or (name in _LINKS and value.startswith("tcp://"))


def _make_rank_variables(gang: GangInfo) -> dict[str, str]:
    marker = {MARKER: gang.marker} if gang.marker else {}
    return marker | {
        "RANK_ID": str(gang.rank),
        "RANK_IP": gang.rank_ip,
        "COMM_IFNAME": gang.comm_ifname,
        "MASTER_ADDRESS": gang.master_address,
        "MASTER_PORT": str(gang.master_port),
        "UNIT_ID": gang.unit,
        "UNIT_SIZE": str(gang.size),
        "UNIT_GENERATION": str(gang.generation),
        "UNIT_RANK_IPS": ",".join(gang.rank_ips),
    }


def _make_defaults(gang: GangInfo) -> dict[str, str]:
    card = gang.comm_ifname
    return (_make_jax_defaults(gang) if gang.size > 1 else {}) | {
        # "=" makes NCCL match the name exactly: without it eth1 would also mean eth10.
        "NCCL_SOCKET_IFNAME": f"={card}" if card else "",
        "GLOO_SOCKET_IFNAME": card,
        "VLLM_HOST_IP": gang.rank_ip,
        "SGLANG_HOST_IP": gang.rank_ip,
        "MASTER_ADDR": gang.master_address,
        # Read by Megatron's example scripts and many like them, and by Lightning.
        "NNODES": str(gang.size),
        "NUM_NODES": str(gang.size),
        "NODE_RANK": str(gang.rank),
        "PET_NNODES": str(gang.size),
        "PET_NODE_RANK": str(gang.rank),
        # torchrun joins address and port by a colon, so its help asks for brackets around IPv6.
        "PET_MASTER_ADDR": _bracket_ipv6(gang.master_address),
        "PET_MASTER_PORT": str(gang.master_port),
    }


def _make_jax_defaults(gang: GangInfo) -> dict[str, str]:
    """One process in each instance. JAX itself reads the address; Kubeflow's programs read all three."""
    return {
        "JAX_COORDINATOR_ADDRESS": gang.master_endpoint,
        "JAX_NUM_PROCESSES": str(gang.size),
        "JAX_PROCESS_ID": str(gang.rank),
    }


def _bracket_ipv6(address: str) -> str:
    return f"[{address}]" if ":" in address else address
