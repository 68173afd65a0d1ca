"""SGLang over several machines: the same command everywhere, with the number and place of each rank.

The invariant: health is asked at rank 0 only; the other ranks answer 200 whatever happens to them.

Sources: SGLang 0.5.23. ``/health`` makes one token through all ranks, which takes a second at least and
gives up after 20 (``http_server.py``), and ``UNIT_HEALTH_TIMEOUT_SECONDS`` has to be longer; a rank other
than 0 ignores SIGTERM, rank 0 stops it (``entrypoints/engine.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from unitagent.engine_commands import SGLANG
from unitagent.frameworks.adapter import Context, Plan
from unitagent.frameworks.command import recognize, vouched
from unitagent.frameworks.config_file import filed
from unitagent.frameworks.flags import Flag, Missing
from unitagent.frameworks.serving import HOST, Door, bracketed, everywhere

_NNODES = Flag("--nnodes")
_NODE_RANK = Flag("--node-rank")
_INIT_ADDR = Flag("--dist-init-addr", ("--nccl-init-addr",))
_METRICS = Flag("--enable-metrics")

_DOOR = Door(30000)
_RUNNING = ("sglang:num_running_reqs", "sglang:num_queue_reqs")


class SgLang:
    """``sglang serve --model-path …``; see the module."""

    name = "sglang"

    def recognizes(self, argv: tuple[str, ...]) -> bool:
        """Whether it starts SGLang's server."""
        return recognize(argv, SGLANG) is not None

    def plan(self, context: Context, argv: tuple[str, ...], env: Mapping[str, str]) -> Plan:
        """Complete ``argv`` for one rank."""
        command = vouched(argv, SGLANG)
        if command is None:
            return Plan(argv=argv)
        command = replace(command, filed=filed(command.words, context.folder))
        missing = Missing(command.said, env)
        if context.size > 1:
            _place(context, missing)
        added = missing.words()
        plan = Plan(argv=command.appended(added), origins=missing.origins, deaf=context.rank > 0)
        return _served(plan, (*command.said, *added)) if context.rank == 0 else plan


def _place(context: Context, missing: Missing) -> None:
    missing.require(_NNODES, context.size, f"the Unit has {context.size} instances", "{UNIT_SIZE}")
    missing.require(_NODE_RANK, context.rank, f"this instance has rank {context.rank}", "{RANK_ID}")
    where = f"{bracketed(context.master_address)}:{context.master_port}"
    missing.offer(_INIT_ADDR, where, "The ranks meet at rank 0, at a port free in this generation.")
    if context.rank == 0:
        why = "Requests come from other machines; by default SGLang takes its own machine's only."
        missing.offer(HOST, everywhere(context.rank_ip), why)


def _served(plan: Plan, words: Sequence[str]) -> Plan:
    plan, door = replace(plan, said_port=_DOOR.said(words)), _DOOR.opened(words)
    if door is None:
        return plan
    plan = replace(plan, traffic_port=door.port, health=door.health)
    if door.metrics is None or not _METRICS.among(words):
        return plan
    return replace(plan, metrics_url=door.metrics, running_metrics=_RUNNING)
