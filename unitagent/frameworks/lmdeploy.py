"""LMDeploy over several machines: TurboMind by its own flags, the PyTorch engine on Ray.

The invariant: rank 0 takes the requests; the other ranks run the same server with an engine that only
computes. With data parallelism of the PyTorch engine, every rank has its own servers behind ``--proxy-url``.

Sources: LMDeploy ``lmdeploy/cli/serve.py``. While ranks wait for each other, a TurboMind process ignores
signals, so only SIGKILL ends it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from unitagent.engine_commands import LMDEPLOY
from unitagent.frameworks import ray
from unitagent.frameworks.command import SplitCommand, split_assumed, split_at_engine
from unitagent.frameworks.flags import Flag, FlagCompleter
from unitagent.frameworks.interface import Framework, LaunchPlan, RankContext
from unitagent.frameworks.listen_address import ListenFlags
from unitagent.system.host_port import join_host_port

_NNODES = Flag("--nnodes")
_NODE_RANK = Flag("--node-rank")
_INIT_ADDR = Flag("--dist-init-addr")
_BACKEND = Flag("--backend")
_REPLICAS = Flag("--dp")

_LISTEN = ListenFlags(23333, Flag("--server-port"), Flag("--server-name"))


class LmDeploy:
    """``lmdeploy serve api_server MODEL …``; see the module."""

    name = "lmdeploy"
    example = "lmdeploy serve api_server MODEL"

    def recognizes(self, argv: tuple[str, ...]) -> bool:
        """Whether it starts LMDeploy's API server."""
        return split_at_engine(argv, LMDEPLOY) is not None

    def plan(self, context: RankContext, argv: tuple[str, ...], env: Mapping[str, str]) -> LaunchPlan:
        """Complete ``argv`` for one rank."""
        command = split_assumed(argv, LMDEPLOY)
        if command is None:
            return LaunchPlan(argv=argv)
        plan = LaunchPlan(argv=argv) if context.size == 1 else _plan_multi_node(context, argv, command, env)
        return _add_endpoints(plan, command) if context.rank == 0 else plan


FRAMEWORK: Framework = LmDeploy()


def _plan_multi_node(
    context: RankContext, argv: tuple[str, ...], command: SplitCommand, env: Mapping[str, str]
) -> LaunchPlan:
    pytorch = _BACKEND.read_value(command.words) == "pytorch"
    replicated = (_REPLICAS.read_number(command.words) or 1) > 1
    if pytorch and not replicated:
        return _plan_on_ray(context, argv, env)
    completer = FlagCompleter(command.words, env)
    completer.require_value(_NNODES, context.size, f"the Unit has {context.size} instances", "{UNIT_SIZE}")
    completer.require_value(_NODE_RANK, context.rank, f"this instance has rank {context.rank}", "{RANK_ID}")
    if not pytorch:
        where = join_host_port(context.master_address, context.master_port)
        completer.add_default(
            _INIT_ADDR, where, "The ranks meet at rank 0, at a port free in this generation."
        )
    masters = _choose_masters(context, env) if pytorch else {}
    origins = dict.fromkeys(masters, "The replicas meet at rank 0, at a port free in this generation.")
    return LaunchPlan(
        argv=command.append_options(completer.build_words()), env=masters, origins=completer.origins | origins
    )


def _choose_masters(context: RankContext, env: Mapping[str, str]) -> dict[str, str]:
    masters = {
        "LMDEPLOY_DIST_MASTER_ADDR": context.master_address,
        "LMDEPLOY_DIST_MASTER_PORT": str(context.master_port),
        "LMDEPLOY_DP_MASTER_ADDR": context.master_address,
        "LMDEPLOY_DP_MASTER_PORT": str(context.master_port + 1),
    }
    return {name: value for name, value in masters.items() if not env.get(name)}


def _plan_on_ray(context: RankContext, argv: tuple[str, ...], env: Mapping[str, str]) -> LaunchPlan:
    executor = "LMDEPLOY_EXECUTOR_BACKEND"
    added = {} if env.get(executor) else {executor: "ray"}
    plan = ray.plan_ray_cluster(context, argv, env)
    origins = dict.fromkeys(added, "The PyTorch engine spans machines by Ray.")
    return replace(plan, env={**plan.env, **added}, origins={**plan.origins, **origins})


def _add_endpoints(plan: LaunchPlan, command: SplitCommand) -> LaunchPlan:
    plan, address = (
        replace(plan, stated_port=_LISTEN.read_port_text(command.words)),
        _LISTEN.find_address(command.words),
    )
    return plan if address is None else replace(plan, traffic_port=address.port, health=address.health_url)
