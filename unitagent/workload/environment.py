"""The environment of the workload and the placeholders of its command line: its rank in the gang.

There are three kinds of variables: those that we always set, those that frameworks read and that we set only
if the user did not, and those that a workload must not see. An empty variable counts as unset.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from unitagent.system.host_port import bracket_ipv6, join_host_port
from unitagent.system.interface_variables import ADDRESSES, SERVICE_LINKS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MARKER = "UNIT_AGENT"

OF_GENERATION = frozenset(
    {
        "MASTER_ADDRESS", "MASTER_PORT", "MASTER_ADDR", "PET_MASTER_ADDR", "PET_MASTER_PORT",
        "JAX_COORDINATOR_ADDRESS", "UNIT_GENERATION", "UNIT_RANK_IPS", "UNIT_KEEPER_GENERATION",
        "UNIT_KEEPER_PORT",
    }
)  # fmt: skip
"""Variables that another generation may have other values of."""

_OURS = (MARKER, "UNIT_KEEPER_GENERATION", "UNIT_KEEPER_PORT")
_REMOVED = ("UNIT_REDIS_URL", "UNIT_REDIS_URL_FILE", "UNIT_SECRET", "UNIT_SECRET_FILE")

# Not ${RANK_ID}: that is a shell variable, which has the same value.
_NAMES = (
    "(RANK_ID|UNIT_SIZE|MASTER_ADDRESS|MASTER_PORT|MASTER_ENDPOINT|RANK_IP|COMM_IFNAME|UNIT_GENERATION"
    "|UNIT_KEEPER_GENERATION|UNIT_KEEPER_PORT)"
)
_PLACEHOLDER = re.compile(rf"(?<!\$)\{{{_NAMES}\}}")
# As shells and Kubernetes write a variable; Kubernetes only knows those of the pod's spec.
_VARIABLE = re.compile(rf"\$(?:{_NAMES}\b|\{{{_NAMES}\}}|\({_NAMES}\))")
_PORT = re.compile(r"\$(?:\w*PORT\b|\{\w*PORT\}|\(\w*PORT\))")  # images often get it in a variable
# An address before a port, as a placeholder or a shell's variable, without the brackets that IPv6 needs.
_PAIR = re.compile(
    r"(?<!\[)(?:\{(?:MASTER_ADDRESS|RANK_IP)\}|\$(?:MASTER_ADDR(?:ESS)?|RANK_IP)\b"
    r"|\$\{(?:MASTER_ADDR(?:ESS)?|RANK_IP)\}):(?=[\d{$])"
)


class GangInfo(Struct, frozen=True, kw_only=True):
    """What one rank of a gang passes to its workload.

    Attributes:
        master_port: a port that was free on rank 0 when the gang was formed, as were the 7 ports above it.
        rank_ips: addresses of all ranks, in rank order.
        marker: value of ``UNIT_AGENT``, by which a later agent finds leftovers; empty for none.
        keeper: generation and master port of the keepers; None for none.

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
    keeper: tuple[int, int] | None = None

    @property
    def master_endpoint(self) -> str:
        """Address and port of rank 0, IPv6 in brackets."""
        return join_host_port(self.master_address, self.master_port)


def build_environment(base: Mapping[str, str], gang: GangInfo) -> dict[str, str]:
    """Return the whole environment of the workload, derived from the agent's."""
    kept = {name: value for name, value in base.items() if not _is_hidden(name, value)}
    offered = {name: value for name, value in _make_defaults(gang).items() if value and not kept.get(name)}
    return kept | offered | _make_rank_variables(gang)


def fill_placeholders(argv: Sequence[str], values: Mapping[str, str]) -> list[str]:
    """Replace our placeholders (``{RANK_ID}`` …) by ``values``; other braces, such as those of shell
    variables, stay as they are.
    """
    return [_PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), word) for word in argv]


def explain_pairs(argv: Sequence[str], gang: GangInfo) -> tuple[str, ...]:
    """Warn about an address and a port joined by a bare colon, which does not work with IPv6."""
    match = next(filter(None, map(_PAIR.search, argv)), None)
    if match is None or ":" not in gang.rank_ip:
        return ()
    problem = f"COMMAND has {match[0][:-1]} and a port, which is not a valid endpoint with IPv6 addresses"
    return (f"{problem}: use {{MASTER_ENDPOINT}} for rank 0, or put the address in brackets",)


def explain_variables(argv: Sequence[str]) -> tuple[str, ...]:
    """Warn about one of our variables, or a port variable, that no shell will expand."""
    match = next(filter(None, map(_VARIABLE.search, argv)), None)
    if match is not None:
        name = next(filter(None, match.groups()))
        return (f"COMMAND has {match[0]}, which is not expanded without a shell: use {{{name}}}",)
    port = next(filter(None, map(_PORT.search, argv)), None)
    if port is None:
        return ()
    remedy = "use the number, or run COMMAND in a shell (sh -c 'exec …')"
    return (f"COMMAND has {port[0]}, which is not expanded without a shell: {remedy}",)


def has_placeholder(word: str) -> bool:
    """Whether :func:`fill_placeholders` would change this word."""
    return _PLACEHOLDER.search(word) is not None


def _is_hidden(name: str, value: str) -> bool:
    return name in _REMOVED or name in _OURS or (name in SERVICE_LINKS and value.startswith("tcp://"))


def _make_rank_variables(gang: GangInfo) -> dict[str, str]:
    marker = {MARKER: gang.marker} if gang.marker else {}
    if gang.keeper is not None:
        names = ("UNIT_KEEPER_GENERATION", "UNIT_KEEPER_PORT")
        marker |= dict(zip(names, map(str, gang.keeper), strict=True))
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
    interface = gang.comm_ifname
    return (_make_jax_defaults(gang) if gang.size > 1 else {}) | {
        # "=" makes NCCL match the name exactly: without it eth1 would also mean eth10.
        "NCCL_SOCKET_IFNAME": f"={interface}" if interface else "",
        "GLOO_SOCKET_IFNAME": interface,
        **dict.fromkeys(ADDRESSES, gang.rank_ip),
        "MASTER_ADDR": gang.master_address,
        # Read by Megatron's example scripts and many like them, and by Lightning.
        "NNODES": str(gang.size),
        "NUM_NODES": str(gang.size),
        "NODE_RANK": str(gang.rank),
        "PET_NNODES": str(gang.size),
        "PET_NODE_RANK": str(gang.rank),
        # torchrun joins address and port by a colon, so its help asks for brackets around IPv6.
        "PET_MASTER_ADDR": bracket_ipv6(gang.master_address),
        "PET_MASTER_PORT": str(gang.master_port),
    }


def _make_jax_defaults(gang: GangInfo) -> dict[str, str]:
    """Return the variables for one JAX process per instance. JAX itself reads the address, Kubeflow all
    three.
    """
    return {
        "JAX_COORDINATOR_ADDRESS": gang.master_endpoint,
        "JAX_NUM_PROCESSES": str(gang.size),
        "JAX_PROCESS_ID": str(gang.rank),
    }
