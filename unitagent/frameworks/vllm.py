"""vLLM over several machines: its own multi-node executor, data parallelism, or Ray.

The invariant: rank 0 is the only one with an API server unless the user chose a load balancing of their
own, in which every rank has one. Flags in a file (``--config``) count like those of the command line.

Sources: vLLM 0.33 ``engine/arg_utils.py`` and ``entrypoints/cli/serve.py``; native multi-node came with
0.11.1, ``--shutdown-timeout`` with 0.18.0: without it SIGTERM breaks requests in flight.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from unitagent.engine_commands import VLLM, VLLM_MODULE
from unitagent.errors import ConfigurationError
from unitagent.frameworks import ray_cluster, vllm_data_parallel
from unitagent.frameworks.adapter import Context, Plan
from unitagent.frameworks.command import Command, recognize, vouched
from unitagent.frameworks.config_file import filed
from unitagent.frameworks.flags import Flag, Missing
from unitagent.frameworks.serving import Door

_NNODES = Flag("--nnodes", ("-n",))
_NODE_RANK = Flag("--node-rank", ("-r",))
_MASTER_ADDR = Flag("--master-addr")
_MASTER_PORT = Flag("--master-port")
_HEADLESS = Flag("--headless")
_NOT_HEADLESS = Flag("--no-headless")
_API_SERVERS = Flag("--api-server-count", ("-asc",))
_EXECUTOR = Flag("--distributed-executor-backend")
_SHUTDOWN_TIMEOUT = Flag("--shutdown-timeout")
_NO_STATS = Flag("--disable-log-stats")

_DOOR = Door(8000, elsewhere=(Flag("--uds"),))
_RUNNING = ("vllm:num_requests_running", "vllm:num_requests_waiting")
_STEPS = "vllm:iteration_tokens_total_count"
_SHUTDOWN_TIMEOUT_SINCE = (0, 18)
_VITAL = ("VLLM::Worker", "VLLM::EngineCor")  # vLLM itself ends seconds after one of them, or never


class Vllm:
    """``vllm serve MODEL …``; see the module."""

    name = "vllm"

    def recognizes(self, argv: tuple[str, ...]) -> bool:
        """Whether it starts vLLM's API server."""
        return recognize(argv, VLLM) is not None

    def plan(self, context: Context, argv: tuple[str, ...], env: Mapping[str, str]) -> Plan:
        """Complete ``argv`` for one rank."""
        command = vouched(argv, VLLM)
        if command is None:
            return Plan(argv=argv)
        command = replace(command, filed=filed(command.words, context.folder))
        if context.size == 1:
            return _served(Plan(argv=argv, vital=_VITAL), command, health=True)
        if _runs_on_ray(command):
            return _on_ray(context, command, env)
        return _completed(context, command, env)


def _completed(context: Context, command: Command, env: Mapping[str, str]) -> Plan:
    missing = Missing(command.said, env)
    layout = vllm_data_parallel.layout(context, command.said, missing, native=_NNODES.among(command.said))
    if layout.native:
        _native(context, missing)
    _roles(context, missing, command, headless=layout.headless)
    _ending(context, missing)
    added = missing.words()
    start = _servable(command) if layout.headless else command
    plan = Plan(argv=start.appended(added), origins=missing.origins, vital=_VITAL)
    return plan if layout.headless else _served(plan, command, health=context.rank == 0)


def _native(context: Context, missing: Missing) -> None:
    fact = f"the Unit has {context.size} instances"
    missing.require(_NNODES, context.size, fact, "{UNIT_SIZE}")
    missing.require(_NODE_RANK, context.rank, f"this instance has rank {context.rank}", "{RANK_ID}")
    missing.offer(_MASTER_ADDR, context.master_address, "The ranks meet at the address of rank 0.")
    missing.offer(_MASTER_PORT, context.master_port, "The ranks meet at a port free in this generation.")


def _roles(context: Context, missing: Missing, command: Command, *, headless: bool) -> None:
    if headless:
        if _NOT_HEADLESS.among(command.said):
            missing.problem(f"--no-headless: requests go to rank 0, not to rank {context.rank}; leave it out")
        missing.switch(_HEADLESS, f"Rank {context.rank} only computes; requests go to rank 0.")
        missing.override(_API_SERVERS, 0, "A rank without requests may not have API servers.")
    elif _HEADLESS.among(command.said):
        missing.problem(
            f"--headless: rank {context.rank} has to take requests; leave it out, the others get it"
        )


def _ending(context: Context, missing: Missing) -> None:
    release = re.match(r"(\d+)\.(\d+)", context.version)
    known = release is not None and (int(release[1]), int(release[2])) >= _SHUTDOWN_TIMEOUT_SINCE
    if known and context.rank == 0 and context.patience:
        why = "At a stop, requests still in flight after the drain may finish for so many seconds."
        missing.offer(_SHUTDOWN_TIMEOUT, context.patience, why)


def _servable(command: Command) -> Command:
    """``--headless`` is a matter of ``vllm serve``; the older module takes it and starts a server anyway."""
    if command.head[-1] != VLLM_MODULE:
        return command
    return replace(command, head=(*command.head[:-1], "vllm.entrypoints.cli.main", "serve"))


def _runs_on_ray(command: Command) -> bool:
    return "ray" in (_EXECUTOR.value(command.said), vllm_data_parallel.BACKEND.value(command.said))


def _on_ray(context: Context, command: Command, env: Mapping[str, str]) -> Plan:
    """Ray gives vLLM the GPUs of all ranks; its native flags and Ray exclude each other."""
    if (_NNODES.number(command.said) or 1) > 1:
        raise ConfigurationError(
            f"--nnodes {_NNODES.value(command.said)}: vLLM takes no such flag with Ray; leave one out"
        )
    missing = Missing(command.said, env)
    _ending(context, missing)
    plan = ray_cluster.plan(context, command.appended(missing.words()), env)
    plan = replace(plan, origins={**plan.origins, **missing.origins})
    return _served(plan, command, health=True) if context.rank == 0 else plan


def _served(plan: Plan, command: Command, *, health: bool) -> Plan:
    plan, door = replace(plan, said_port=_DOOR.said(command.said)), _DOOR.opened(command.said)
    if door is None:
        return plan
    plan = replace(plan, traffic_port=door.port, health=door.health if health else None)
    if door.metrics is None or _NO_STATS.among(command.said):
        return plan
    return replace(plan, metrics_url=door.metrics, running_metrics=_RUNNING, progress_metric=_STEPS)
