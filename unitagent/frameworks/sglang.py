"""SGLang over several machines: the same command everywhere, with the number of ranks and each one's rank.

It is a short framework, to begin another from. ``split_assumed`` finds the engine's words behind wrappers
such as ``env X=1``; a ``FlagCompleter`` adds flags that the user left out, each with its reason, and refuses
values that contradict the Unit; ``ListenFlags`` reads host and port back from the flags, for health check and
traffic.

The invariant: only rank 0 has a health check; the other ranks answer 200 whatever their state.

Sources: SGLang 0.5.23. ``/health`` generates one token through all ranks, which takes at least a second and
times out after 20 (``http_server.py``), so ``UNIT_HEALTH_TIMEOUT_SECONDS`` must be longer; ranks other than 0
ignore SIGTERM, and rank 0 stops them (``entrypoints/engine.py``). The lines of a start are from
``distributed/bootstrap.py``, ``model_executor/model_runner.py``, ``mem_cache/kv_cache_configurator.py``,
``model_executor/model_runner_components/cuda_graph_setup.py`` and ``http_server.py``; older releases call
parallel torch distributed. Ranks other than 0 tell all but the last one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from unitagent.engine_commands import SGLANG
from unitagent.frameworks.command import split_assumed, split_at_engine
from unitagent.frameworks.config_file import read_config_flags
from unitagent.frameworks.flags import Flag, FlagCompleter
from unitagent.frameworks.interface import Framework, LaunchPlan, PhaseLine, RankContext
from unitagent.frameworks.listen_address import HOST, ListenFlags, choose_wildcard
from unitagent.system.host_port import join_host_port

_NNODES = Flag("--nnodes")
_NODE_RANK = Flag("--node-rank")
_INIT_ADDR = Flag("--dist-init-addr", ("--nccl-init-addr",))
_METRICS = Flag("--enable-metrics")

_LISTEN = ListenFlags(30000)
_RUNNING = ("sglang:num_running_reqs", "sglang:num_queue_reqs")


_RESTART_GRACE = 0.5  # while it starts it acts on no SIGTERM
_WARM = (
    "sglang.launch_server",
    "sglang.srt.entrypoints.http_server",
    "sglang.srt.managers.scheduler",
    "sglang.srt.managers.detokenizer_manager",
)
_PHASE_LINES = (
    PhaseLine(b"Init parallel begin", "imports"),
    PhaseLine(b"Init torch distributed begin", "imports"),
    PhaseLine(b"Init parallel ends", "distributed_init"),
    PhaseLine(b"Init torch distributed ends", "distributed_init"),
    PhaseLine(b"Load weight begin", "distributed_init"),
    PhaseLine(b"Load weight end", "weights", rb"(?:elapsed=|graph capture in )(\d+\.?\d*) s"),
    PhaseLine(b"Memory pool end", "kv_cache"),
    PhaseLine(b"DeepGEMM warmup done", "compile", rb"done in (\d+\.?\d*)s", within=True),
    PhaseLine(b"graph end", "graph_capture"),  # of several kinds, one after the other
    PhaseLine(b"The server is fired up and ready to roll", "server"),
)


class SgLang:
    """``sglang serve --model-path …``; see the module."""

    name = "sglang"
    example = "python3 -m sglang.launch_server --model-path MODEL"

    def recognizes(self, argv: tuple[str, ...]) -> bool:
        """Whether it starts SGLang's server."""
        return split_at_engine(argv, SGLANG) is not None

    def plan(self, context: RankContext, argv: tuple[str, ...], env: Mapping[str, str]) -> LaunchPlan:
        """Complete ``argv`` for one rank."""
        command = split_assumed(argv, SGLANG)
        if command is None:
            return LaunchPlan(argv=argv)
        command = replace(command, file_words=read_config_flags(command.words, context.folder))
        completer = FlagCompleter(command.all_words, env)
        if context.size > 1:
            _place_rank(context, completer)
        added = completer.build_words()
        plan = LaunchPlan(
            argv=command.append_options(added),
            origins=completer.origins,
            ignores_sigterm=context.rank > 0,
            restart_grace=_RESTART_GRACE,
            warm_modules=_WARM,
            phase_lines=_PHASE_LINES,
        )
        if context.keeper_port is not None:
            from unitagent.frameworks.weight_cache import add_sglang_keeper  # noqa: PLC0415 (few have one)

            plan = add_sglang_keeper(plan, split_assumed(plan.argv, SGLANG) or command, context)
        return _add_endpoints(plan, (*command.all_words, *added)) if context.rank == 0 else plan


FRAMEWORK: Framework = SgLang()


def _place_rank(context: RankContext, completer: FlagCompleter) -> None:
    completer.require_value(_NNODES, context.size, f"the Unit has {context.size} instances", "{UNIT_SIZE}")
    completer.require_value(_NODE_RANK, context.rank, f"this instance has rank {context.rank}", "{RANK_ID}")
    where = join_host_port(context.master_address, context.master_port)
    completer.add_default(_INIT_ADDR, where, "The ranks meet at rank 0, at a port free in this generation.")
    if context.rank == 0:
        why = "Requests come from other machines; by default SGLang only accepts those of its own."
        completer.add_default(HOST, choose_wildcard(context.rank_ip), why)


def _add_endpoints(plan: LaunchPlan, words: Sequence[str]) -> LaunchPlan:
    plan, address = replace(plan, stated_port=_LISTEN.read_port_text(words)), _LISTEN.find_address(words)
    if address is None:
        return plan
    plan = replace(plan, traffic_port=address.port, health=address.health_url)
    if address.metrics_url is None or not _METRICS.is_set(words):
        return plan
    return replace(plan, metrics_url=address.metrics_url, running_metrics=_RUNNING)
