"""Places in a Unit, and the environment that the agent gives to a workload there."""

from __future__ import annotations

from unitagent.frameworks.completer import choose_framework
from unitagent.frameworks.interface import LaunchPlan, RankContext

PORT = 40000


def place(
    rank: int = 0, size: int = 2, base: str = "10.0.0.", *, version: str = "", shutdown_timeout: int = 2
) -> RankContext:
    ips = tuple(f"{base}{each + 1}" for each in range(size))
    return RankContext(
        rank=rank,
        size=size,
        unit="u",
        generation=3,
        rank_ip=ips[rank],
        master_address=ips[0],
        master_port=PORT,
        rank_ips=ips,
        ifname="eth1",
        version=version,
        shutdown_timeout=shutdown_timeout,
    )


def offered(at: RankContext) -> dict[str, str]:
    """What the agent offers beside the command line."""
    return {
        "NNODES": str(at.size),
        "NODE_RANK": str(at.rank),
        "PET_NNODES": str(at.size),
        "PET_NODE_RANK": str(at.rank),
        "PET_MASTER_ADDR": at.master_address,
        "PET_MASTER_PORT": str(at.master_port),
        "VLLM_HOST_IP": at.rank_ip,
    }


def plan(framework: str, command: str, at: RankContext, **env: str) -> LaunchPlan:
    """Plan ``command``, whose words are parted by spaces."""
    argv = tuple(command.split())
    chosen = choose_framework(framework, argv)
    assert chosen is not None
    return chosen.plan(at, argv, offered(at) | env)


def line(framework: str, command: str, at: RankContext, **env: str) -> str:
    """Return the planned command."""
    return " ".join(plan(framework, command, at, **env).argv)


def bare(framework: str, command: str, at: RankContext, **env: str) -> str:
    """Return the planned command, to which no variable belongs."""
    made = plan(framework, command, at, **env)
    assert made.env == {}
    return " ".join(made.argv)
