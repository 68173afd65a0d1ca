"""vLLM over several machines: its own multi-node executor, data parallelism, or Ray.

Data parallel replicas that fit into one rank each are separate engines, which rank 0's coordinator addresses
by their start rank; larger replicas need the native multi-node flags, from which vLLM infers their place.

The invariants: only rank 0 has an API server, unless the user chose another load balancing, in which every
rank has one. With vLLM's own load balancing no rank gets ``--data-parallel-start-rank``: without
``--headless`` that flag means hybrid load balancing, and vLLM then refuses the headless ranks. Flags in a
file (``--config``) count like flags on the command line.

Sources: vLLM 0.33 ``engine/arg_utils.py`` and ``entrypoints/cli/serve.py``; native multi-node came with
0.11.1, ``--shutdown-timeout`` with 0.18.0: without it SIGTERM breaks requests in flight. The lines of a start
are those of 0.32 and 0.33, with their older forms where they differ: ``v1/engine/core.py``,
``distributed/parallel_state.py``, ``v1/worker/gpu_model_runner.py`` and ``cpu_model_runner.py``,
``model_executor/model_loader/default_loader.py``, ``compilation/monitor.py``,
``entrypoints/launchers/api_server/entry.py``. Rank 0 tells all of them, a headless rank none of the engine
core or the server.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from unitagent.engine_commands import VLLM, VLLM_MODULE
from unitagent.errors import ConfigurationError
from unitagent.frameworks import ray
from unitagent.frameworks.command import SplitCommand, split_assumed, split_at_engine
from unitagent.frameworks.config_file import read_config_flags
from unitagent.frameworks.flags import Flag, FlagCompleter
from unitagent.frameworks.interface import Framework, LaunchPlan, PhaseLine, RankContext
from unitagent.frameworks.listen_address import ListenFlags

BACKEND = Flag("--data-parallel-backend", ("-dpb",))
_SIZE = Flag("--data-parallel-size", ("-dp",))
_LOCAL = Flag("--data-parallel-size-local", ("-dpl",))
_RANK = Flag("--data-parallel-rank", ("-dpn",))
_START_RANK = Flag("--data-parallel-start-rank", ("-dpr",))
_HEADLESS = Flag("--headless")
_HYBRID_BY_START_RANK = (
    "at rank 0 vLLM takes it, whatever its value, as hybrid load balancing and then refuses the headless "
    "ranks; omit it, since each rank gets its own, or use --data-parallel-hybrid-lb"
)
_ADDRESS = Flag("--data-parallel-address", ("-dpa",))
_RPC_PORT = Flag("--data-parallel-rpc-port", ("-dpp",))
_HYBRID = (Flag("--data-parallel-hybrid-lb", ("-dph",)), Flag("--data-parallel-multi-port-external-lb"))
_EXTERNAL = (Flag("--data-parallel-external-lb", ("-dpe",)), _RANK)
_NNODES = Flag("--nnodes", ("-n",))
_NODE_RANK = Flag("--node-rank", ("-r",))
_MASTER_ADDR = Flag("--master-addr")
_MASTER_PORT = Flag("--master-port")
_NOT_HEADLESS = Flag("--no-headless")
_API_SERVERS = Flag("--api-server-count", ("-asc",))
_EXECUTOR = Flag("--distributed-executor-backend")
_SHUTDOWN_TIMEOUT = Flag("--shutdown-timeout")
_NO_STATS = Flag("--disable-log-stats")
_LISTEN = ListenFlags(8000, elsewhere=(Flag("--uds"),))
_RUNNING = ("vllm:num_requests_running", "vllm:num_requests_waiting")
_STEPS = "vllm:iteration_tokens_total_count"
_SHUTDOWN_TIMEOUT_SINCE = (0, 18)
_RESTART_GRACE = 0.5  # from its arguments to "startup complete" it swallows SIGTERM
_WARM = (
    "vllm.entrypoints.cli.main",
    "vllm.entrypoints.openai.api_server",
    "vllm.entrypoints.launchers.api_server.entry",  # in its place from 0.33 on
    "vllm.v1.engine.core",
    "uvloop",
)
_WARM_ON_CPU = "vllm.v1.worker.cpu_worker"  # that of GPUs may initialize CUDA when it is imported
_PHASE_LINES = (
    PhaseLine(b"Initializing a V1 LLM engine", "imports", tentative=True),  # its workers import after that
    PhaseLine(b"distributed_init_method=", "imports"),
    PhaseLine(b"is assigned as DP rank", "distributed_init"),
    PhaseLine(b"Starting to load model", "distributed_init"),
    PhaseLine(b"Loading weights took", "weights"),  # the last word of the CPU runner
    PhaseLine(b"Model loading took", "weights"),
    PhaseLine(b"torch.compile took", "compile", rb"took (\d+\.?\d*) s", within=True),
    PhaseLine(b"torch.compile takes", "compile", rb"takes (\d+\.?\d*) s", within=True),  # older
    PhaseLine(b"torch.compile and initial profiling", "compile", rb"took (\d+\.?\d*) s", within=True),
    PhaseLine(b"Graph capturing finished", "graph_capture", rb"in (\d+\.?\d*) secs", within=True),
    PhaseLine(b"(compilation: ", "compile", rb"\(compilation: (\d+\.?\d*) s", within=True),
    PhaseLine(b"init engine (profile, create kv cache", "kv_cache"),
    PhaseLine(b"Starting vLLM server on", "server"),
    PhaseLine(b"Starting vLLM API server", "server"),  # older
    PhaseLine(b"Application startup complete", "server"),
)
_COMPLETIONS = "/v1/completions"
_WARM_UP = '{"prompt": "warm up", "max_tokens": 2, "temperature": 0}'  # it needs a prefill and a decode
_REQUIRED = ("VLLM::Worker", "VLLM::EngineCor")  # vLLM itself exits seconds after one of them, or never


@dataclass(frozen=True, slots=True)
class Layout:
    """The role of one rank in data parallelism.

    Attributes:
        native: whether the native multi-node flags are needed.
        headless: whether this rank takes no requests.

    """

    native: bool
    headless: bool


def choose_layout(
    context: RankContext, words: Sequence[str], completer: FlagCompleter, *, native: bool
) -> Layout:
    """Add the flags of this rank to ``completer``; ``native``: the user has set native ones."""
    replicas = _SIZE.read_number(words) or 1
    balanced = any(flag.is_set(words) for flag in (*_HYBRID, *_EXTERNAL))
    if replicas > 1 and _means_hybrid(context, words, balanced=balanced):
        completer.add_problem(f"{_START_RANK.name}: {_HYBRID_BY_START_RANK}")
    if replicas == 1 or native or replicas % context.size:
        return _span_replicas(context, replicas, completer, balanced=balanced, native=native)
    _add_meeting_point(context, completer)
    if any(flag.is_set(words) for flag in _EXTERNAL):
        _check_external_balancer(context, replicas, completer)
    else:
        _add_engine_ranks(context, replicas // context.size, words, completer, balanced=balanced)
    return Layout(native=False, headless=context.rank > 0 and not balanced)


def _span_replicas(
    context: RankContext, replicas: int, completer: FlagCompleter, *, balanced: bool, native: bool
) -> Layout:
    """Spread each replica over several ranks, or the only one over all."""
    if context.size % replicas and not native:
        completer.add_problem(
            f"--data-parallel-size {replicas}: a Unit of {context.size} instances runs a multiple or a "
            f"divisor of {context.size} replicas; change it or UNIT_SIZE"
        )
    if replicas > 1:
        _add_meeting_point(context, completer)
    span = max(context.size // replicas, 1) if balanced else context.size
    return Layout(native=True, headless=context.rank % span > 0)


def _means_hybrid(context: RankContext, words: Sequence[str], *, balanced: bool) -> bool:
    """Whether rank 0 has, or with the same flags would have, a start rank from the user."""
    own_worker = context.rank > 0 and _HEADLESS.is_set(words)
    return _START_RANK.is_set(words) and not balanced and not own_worker


def _add_meeting_point(context: RankContext, completer: FlagCompleter) -> None:
    completer.add_default(_ADDRESS, context.master_address, "The replicas meet at the address of rank 0.")
    completer.add_default(
        _RPC_PORT, context.master_port + 1, "The replicas meet at a port free in this generation."
    )


def _add_engine_ranks(
    context: RankContext, local: int, words: Sequence[str], completer: FlagCompleter, *, balanced: bool
) -> None:
    completer.require_value(
        _LOCAL, local, f"each of {context.size} instances runs {local} of the replicas", str(local)
    )
    if (context.rank or balanced) and not _means_hybrid(context, words, balanced=balanced):
        first = context.rank * local
        fact = f"the replicas of rank {context.rank} are counted from {first}"
        completer.require_value(_START_RANK, first, fact)


def _check_external_balancer(context: RankContext, replicas: int, completer: FlagCompleter) -> None:
    """Check for one server per replica and one replica per rank, behind the user's own load balancer."""
    if replicas != context.size:
        completer.add_problem(
            f"--data-parallel-size {replicas}: with an external load balancer each of the {context.size} "
            f"instances runs one replica; write {context.size}, "
            "or choose --data-parallel-multi-port-external-lb"
        )
    completer.require_value(_RANK, context.rank, f"this instance has rank {context.rank}", "{RANK_ID}")


class Vllm:
    """``vllm serve MODEL …``; see the module."""

    name = "vllm"
    example = "vllm serve MODEL"

    def recognizes(self, argv: tuple[str, ...]) -> bool:
        """Whether it starts vLLM's API server."""
        return split_at_engine(argv, VLLM) is not None

    def plan(self, context: RankContext, argv: tuple[str, ...], env: Mapping[str, str]) -> LaunchPlan:
        """Complete ``argv`` for one rank."""
        command = split_assumed(argv, VLLM)
        if command is None:
            return LaunchPlan(argv=argv)
        command = replace(command, file_words=read_config_flags(command.words, context.folder))
        plan = _plan_rank(context, command, argv, env)
        if context.keeper_port is None:
            return plan
        from unitagent.frameworks.weight_cache import add_vllm_keeper  # noqa: PLC0415 (few have one)

        return add_vllm_keeper(plan, split_assumed(plan.argv, VLLM) or command, context)


FRAMEWORK: Framework = Vllm()


def _plan_rank(
    context: RankContext, command: SplitCommand, argv: tuple[str, ...], env: Mapping[str, str]
) -> LaunchPlan:
    if context.size == 1:
        return _add_endpoints(_plan_alone(context, argv), command, health=True)
    if _runs_on_ray(command):
        return _plan_on_ray(context, command, env)
    return _plan_native(context, command, env)


def _plan_alone(context: RankContext, argv: tuple[str, ...]) -> LaunchPlan:
    modules = (*_WARM, _WARM_ON_CPU) if "cpu" in context.version else _WARM
    return LaunchPlan(
        argv=argv,
        required_processes=_REQUIRED,
        restart_grace=_RESTART_GRACE,
        warm_modules=modules,
        phase_lines=_PHASE_LINES,
    )


def _plan_native(context: RankContext, command: SplitCommand, env: Mapping[str, str]) -> LaunchPlan:
    completer = FlagCompleter(command.all_words, env)
    layout = choose_layout(context, command.all_words, completer, native=_NNODES.is_set(command.all_words))
    if layout.native:
        _add_native_flags(context, completer)
    _assign_role(context, completer, command, headless=layout.headless)
    _add_shutdown_timeout(context, completer)
    added = completer.build_words()
    start = _use_serve_command(command) if layout.headless else command
    plan = replace(_plan_alone(context, start.append_options(added)), origins=completer.origins)
    return plan if layout.headless else _add_endpoints(plan, command, health=context.rank == 0)


def _add_native_flags(context: RankContext, completer: FlagCompleter) -> None:
    fact = f"the Unit has {context.size} instances"
    completer.require_value(_NNODES, context.size, fact, "{UNIT_SIZE}")
    completer.require_value(_NODE_RANK, context.rank, f"this instance has rank {context.rank}", "{RANK_ID}")
    completer.add_default(_MASTER_ADDR, context.master_address, "The ranks meet at the address of rank 0.")
    completer.add_default(
        _MASTER_PORT, context.master_port, "The ranks meet at a port free in this generation."
    )


def _assign_role(
    context: RankContext, completer: FlagCompleter, command: SplitCommand, *, headless: bool
) -> None:
    if headless:
        if _NOT_HEADLESS.is_set(command.all_words):
            completer.add_problem(
                f"--no-headless: requests go to rank 0, not to rank {context.rank}; omit it"
            )
        completer.add_switch(_HEADLESS, f"Rank {context.rank} only computes; requests go to rank 0.")
        completer.override_value(_API_SERVERS, 0, "A rank that takes no requests must not have API servers.")
    elif _HEADLESS.is_set(command.all_words):
        completer.add_problem(
            f"--headless: rank {context.rank} must take requests; omit it, since the other ranks get it"
        )


def _add_shutdown_timeout(context: RankContext, completer: FlagCompleter) -> None:
    release = re.match(r"(\d+)\.(\d+)", context.version)
    known = release is not None and (int(release[1]), int(release[2])) >= _SHUTDOWN_TIMEOUT_SINCE
    if known and context.rank == 0 and context.shutdown_timeout:
        why = "Requests still in flight after the drain get this many seconds to finish."
        completer.add_default(_SHUTDOWN_TIMEOUT, context.shutdown_timeout, why)


def _use_serve_command(command: SplitCommand) -> SplitCommand:
    """Use ``vllm serve``: the older module accepts ``--headless``, but starts a server anyway."""
    if command.head[-1] != VLLM_MODULE:
        return command
    return replace(command, head=(*command.head[:-1], "vllm.entrypoints.cli.main", "serve"))


def _runs_on_ray(command: SplitCommand) -> bool:
    return "ray" in (_EXECUTOR.read_value(command.all_words), BACKEND.read_value(command.all_words))


def _plan_on_ray(context: RankContext, command: SplitCommand, env: Mapping[str, str]) -> LaunchPlan:
    """Plan vLLM on a Ray cluster with the GPUs of all ranks; vLLM's native flags do not work with Ray."""
    if (_NNODES.read_number(command.all_words) or 1) > 1:
        raise ConfigurationError(
            f"--nnodes {_NNODES.read_value(command.all_words)}: vLLM does not accept this flag with Ray; "
            f"omit one of them"
        )
    completer = FlagCompleter(command.all_words, env)
    _add_shutdown_timeout(context, completer)
    plan = ray.plan_ray_cluster(context, command.append_options(completer.build_words()), env)
    plan = replace(plan, origins={**plan.origins, **completer.origins}, phase_lines=_PHASE_LINES)
    return _add_endpoints(plan, command, health=True) if context.rank == 0 else plan


def _add_endpoints(plan: LaunchPlan, command: SplitCommand, *, health: bool) -> LaunchPlan:
    plan, address = (
        replace(plan, stated_port=_LISTEN.read_port_text(command.all_words)),
        _LISTEN.find_address(command.all_words),
    )
    if address is None:
        return plan
    plan = replace(plan, traffic_port=address.port)
    if health:
        plan = replace(plan, health=address.health_url, warm_up=(address.make_url(_COMPLETIONS), _WARM_UP))
    if address.metrics_url is None or _NO_STATS.is_set(command.all_words):
        return plan
    return replace(plan, metrics_url=address.metrics_url, running_metrics=_RUNNING, progress_metric=_STEPS)
