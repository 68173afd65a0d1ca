"""LMDeploy over several machines: TurboMind by its own flags, the PyTorch engine on Ray.

The invariant: rank 0 takes the requests; the others run the same server around an engine that only
computes. With data parallelism of the PyTorch engine every rank has servers of its own behind
``--proxy-url``.

Sources: LMDeploy ``lmdeploy/cli/serve.py``. While ranks wait for each other a TurboMind process ignores
signals, so that only SIGKILL ends it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from unitagent.engine_commands import LMDEPLOY
from unitagent.frameworks import ray_cluster
from unitagent.frameworks.adapter import Context, Plan
from unitagent.frameworks.command import Command, recognize, vouched
from unitagent.frameworks.flags import Flag, Missing
from unitagent.frameworks.serving import Door, bracketed

_NNODES = Flag("--nnodes")
_NODE_RANK = Flag("--node-rank")
_INIT_ADDR = Flag("--dist-init-addr")
_BACKEND = Flag("--backend")
_REPLICAS = Flag("--dp")

_DOOR = Door(23333, Flag("--server-port"), Flag("--server-name"))


class LmDeploy:
    """``lmdeploy serve api_server MODEL …``; see the module."""

    name = "lmdeploy"

    def recognizes(self, argv: tuple[str, ...]) -> bool:
        """Whether it starts LMDeploy's API server."""
        return recognize(argv, LMDEPLOY) is not None

    def plan(self, context: Context, argv: tuple[str, ...], env: Mapping[str, str]) -> Plan:
        """Complete ``argv`` for one rank."""
        command = vouched(argv, LMDEPLOY)
        if command is None:
            return Plan(argv=argv)
        plan = Plan(argv=argv) if context.size == 1 else _spread(context, argv, command, env)
        return _served(plan, command) if context.rank == 0 else plan


def _spread(context: Context, argv: tuple[str, ...], command: Command, env: Mapping[str, str]) -> Plan:
    pytorch = _BACKEND.value(command.words) == "pytorch"
    replicated = (_REPLICAS.number(command.words) or 1) > 1
    if pytorch and not replicated:
        return _on_ray(context, argv, env)
    missing = Missing(command.words, env)
    missing.require(_NNODES, context.size, f"the Unit has {context.size} instances", "{UNIT_SIZE}")
    missing.require(_NODE_RANK, context.rank, f"this instance has rank {context.rank}", "{RANK_ID}")
    if not pytorch:
        where = f"{bracketed(context.master_address)}:{context.master_port}"
        missing.offer(_INIT_ADDR, where, "The ranks meet at rank 0, at a port free in this generation.")
    masters = _masters(context, env) if pytorch else {}
    origins = dict.fromkeys(masters, "The replicas meet at rank 0, at a port free in this generation.")
    return Plan(argv=command.appended(missing.words()), env=masters, origins=missing.origins | origins)


def _masters(context: Context, env: Mapping[str, str]) -> dict[str, str]:
    masters = {
        "LMDEPLOY_DIST_MASTER_ADDR": context.master_address,
        "LMDEPLOY_DIST_MASTER_PORT": str(context.master_port),
        "LMDEPLOY_DP_MASTER_ADDR": context.master_address,
        "LMDEPLOY_DP_MASTER_PORT": str(context.master_port + 1),
    }
    return {name: value for name, value in masters.items() if not env.get(name)}


def _on_ray(context: Context, argv: tuple[str, ...], env: Mapping[str, str]) -> Plan:
    executor = "LMDEPLOY_EXECUTOR_BACKEND"
    added = {} if env.get(executor) else {executor: "ray"}
    plan = ray_cluster.plan(context, argv, env)
    origins = dict.fromkeys(added, "The PyTorch engine spans machines by Ray.")
    return replace(plan, env={**plan.env, **added}, origins={**plan.origins, **origins})


def _served(plan: Plan, command: Command) -> Plan:
    plan, door = replace(plan, said_port=_DOOR.said(command.words)), _DOOR.opened(command.words)
    return plan if door is None else replace(plan, traffic_port=door.port, health=door.health)
