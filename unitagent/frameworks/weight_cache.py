"""Keepers of vLLM and SGLang, derived from the engine's own command: a daemon that holds the weights in GPU
memory, and the flags with which the engine takes them from there.

Daemon and engine must agree on everything that shapes the weights, so the daemon gets the engine's completed
words, those of the HTTP server apart, which vLLM's daemon does not know. What the daemons refuse is refused
here, before anything starts.

Sources, read and not run on GPUs: vLLM 0.32 ``entrypoints/cli/preload.py``, ``launchers/cli_args.py``; SGLang
0.5.23 ``weight_cache/daemon.py``, ``arg_groups/model_path_hook.py``. vLLM's daemon meets at a port of its
own; SGLang's logs that it is ready, and has no other sign.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from unitagent.engine_commands import VLLM_MODULE
from unitagent.errors import ConfigurationError
from unitagent.frameworks.command import SplitCommand
from unitagent.frameworks.config_file import OPTION
from unitagent.frameworks.flags import Flag
from unitagent.frameworks.interface import LaunchPlan, RankContext
from unitagent.system.host_port import join_host_port

_AUTO = "UNIT_KEEPER=auto"
_BY_HAND = "or write the keeper's command in UNIT_KEEPER"
_VLLM_SINCE = (0, 31)
_VLLM_MEETS, _VLLM_HEALTH = 1, 3  # ports above the keepers' own; the one between is that of a draft model
_SGLANG_MODULE, _SGLANG_DAEMON = "sglang.launch_server", "sglang.srt.weight_cache.daemon"
_SGLANG_OWN = ("--gpu-id", "--tp-rank", "--pp-rank", "--dist-init-method", "--timeout", "--force")
_SGLANG_FULL = {"--tp": "--tp-size", "--pp": "--pp-size"}
_MODEL = Flag("--model")
_MODEL_PATH = Flag("--model-path", ("--model",))
_LOAD_FORMAT = Flag("--load-format")
_RAY = (Flag("--distributed-executor-backend"), Flag("--data-parallel-backend", ("-dpb",)))
_DRAFT = Flag("--speculative-algorithm", ("--speculative-algo",))  # the abbreviation is common
_LOG_LEVEL = Flag("--log-level")

# Flags of vLLM's server, which its daemon does not know: without a value, with one, and with several.
_SWITCHES = frozenset({
    "headless", "grpc", "trust-request-chat-template", "trust-request-mm-kwargs",
    "return-tokens-as-token-ids", "enable-auto-tool-choice", "exclude-tools-when-tool-choice-none",
    "enable-prompt-tokens-details", "enable-per-request-metrics", "enable-server-load-tracking",
    "enable-force-include-usage", "enable-tokenizer-info-endpoint", "enable-log-outputs",
    "enable-log-deltas", "cohere-is-reasoning-model", "log-error-stack", "tokens-only", "enable-scale-out",
    "disable-uvicorn-access-log", "allow-credentials", "enable-ssl-refresh", "enable-request-id-headers",
    "disable-fastapi-docs", "enable-offline-docs", "enable-flash-late-interaction", "enable-log-requests",
})  # fmt: skip
_VALUES = frozenset({
    "api-server-count", "chat-template", "chat-template-content-format", "default-chat-template-kwargs",
    "response-role", "tool-call-parser", "tool-parser-plugin", "tool-strict-level", "tool-server",
    "max-log-len", "sse-keep-alive-interval", "cohere-format", "anthropic-disabled-thinking-effort",
    "fingerprint-mode", "fingerprint-value", "host", "port", "grpc-port", "data-parallel-supervisor-port",
    "dp-supervisor-probe-interval-s", "dp-supervisor-probe-timeout-s",
    "dp-supervisor-probe-failure-threshold", "uds", "uvicorn-log-level", "disable-access-log-for-endpoints",
    "allowed-origins", "allowed-methods", "allowed-headers", "ssl-keyfile", "ssl-certfile", "ssl-ca-certs",
    "ssl-cert-reqs", "ssl-ciphers", "root-path", "middleware", "h11-max-incomplete-event-size",
    "h11-max-header-count",
})  # fmt: skip
_LISTS = frozenset({"lora-modules", "api-key"})
_SHORT = {"-asc": "api-server-count"}


def add_vllm_keeper(plan: LaunchPlan, command: SplitCommand, context: RankContext) -> LaunchPlan:
    """Return the plan with vLLM's daemon (``vllm preload``), and with the engine that takes its weights.

    Raises:
        ConfigurationError: the daemon refuses something of this command, or none can be derived.

    """
    port = _require_port(context)
    words = _strip_server_flags(command.all_words)
    _refuse_vllm(context, command)
    meets = ("--weight-cache-master-port", str(port + _VLLM_MEETS))
    asked = ("--weight-cache-health-port", str(port + _VLLM_HEALTH))
    listens = ("--weight-cache-health-host", "127.0.0.1")
    return replace(
        plan,
        argv=command.append_options((_LOAD_FORMAT.name, "ipc_cache")),
        origins={**plan.origins, _LOAD_FORMAT.name: "The weights are those that the keeper holds."},
        keeper=(*_find_preload(command.head), *words, *meets, *asked, *listens),
        keeper_ready=f"http://127.0.0.1:{port + _VLLM_HEALTH}/health",
        model=_MODEL.read_value(words) or "",
    )


def add_sglang_keeper(plan: LaunchPlan, command: SplitCommand, context: RankContext) -> LaunchPlan:
    """Return the plan with SGLang's weight cache daemon, and with the engine that is its client.

    Raises:
        ConfigurationError: as :func:`add_vllm_keeper`.

    """
    port = _require_port(context)
    _refuse_sglang(command)
    meets = f"tcp://{join_host_port(context.master_address, port)}"
    return replace(
        plan,
        argv=command.append_options(("--weight-cache-mode", "client")),
        origins={**plan.origins, "--weight-cache-mode": "The weights are those that the keeper holds."},
        keeper=(*command.head[:-1], _SGLANG_DAEMON, *_spell_out(command.words), "--dist-init-method", meets),
        keeper_ready=r"log:weight cache daemons on node \d+ are ready",
        model=_MODEL_PATH.read_value(command.words) or "",
    )


def _spell_out(words: Sequence[str]) -> Iterator[str]:
    """Yield the words of SGLang's engine so that its daemon, which accepts abbreviations of its own flags and
    looks for them first, leaves them to the engine's parser.

    Raises:
        ConfigurationError: the daemon would take one for its own.

    """
    for word in words:
        name, equals, value = word.partition("=")
        taken = next((own for own in _SGLANG_OWN if len(name) > len("--") and own.startswith(name)), None)
        full = _SGLANG_FULL.get(name, name)
        if taken is not None and full == name:
            raise ConfigurationError(
                f"{_AUTO}: {name}: SGLang's daemon would take it for its own {taken}; write the full name"
            )
        yield full + equals + value


def _require_port(context: RankContext) -> int:
    if context.keeper_port is None:
        raise ValueError("no keeper is wanted")
    return context.keeper_port


def _refuse_vllm(context: RankContext, command: SplitCommand) -> None:
    words = command.all_words
    release = re.match(r"(\d+)\.(\d+)", context.version)
    if release is not None and (int(release[1]), int(release[2])) < _VLLM_SINCE:
        raise ConfigurationError(f"{_AUTO}: vLLM {context.version} has no `vllm preload`; it came with 0.31")
    if "cpu" in context.version:
        raise ConfigurationError(f"{_AUTO}: vLLM {context.version} is a CPU build, and its daemon needs GPUs")
    for flag in _RAY:
        if flag.read_value(words) == "ray":
            raise ConfigurationError(f"{_AUTO}: {flag.name} ray: the daemon starts without Ray; omit it")
    for flag, why in (
        (Flag("--enable-eplb"), "experts move between ranks, and the daemon's weights do not"),
        (Flag("--enable-sleep-mode"), "sleeping would free weights that belong to the daemon"),
    ):
        if flag.is_set(words):
            raise ConfigurationError(f"{_AUTO}: {flag.name}: {why}; omit it, {_BY_HAND}")
    if _LOAD_FORMAT.equals(words, "ipc_cache"):
        why = "the engine gets it from here, and the daemon loads from disk"
        raise ConfigurationError(f"{_AUTO}: {_LOAD_FORMAT.name} ipc_cache: {why}; omit it")


def _refuse_sglang(command: SplitCommand) -> None:
    words = command.all_words
    if command.head[-2:] != ("-m", _SGLANG_MODULE):
        raise ConfigurationError(
            f"{_AUTO}: the daemon is a module of SGLang's Python, which {command.head[-1]!r} does not name; "
            f"start the engine by `python3 -m {_SGLANG_MODULE} …`, {_BY_HAND}"
        )
    if _DRAFT.is_set(words):
        raise ConfigurationError(
            f"{_AUTO}: --speculative-algorithm: SGLang's daemon holds no draft model; omit it, {_BY_HAND}"
        )
    quantization = Flag("--quantization").read_value(words)
    if quantization not in (None, "fp8"):
        raise ConfigurationError(
            f"{_AUTO}: --quantization {quantization}: SGLang's daemon serves unquantized weights and block "
            f"FP8 only; omit it, {_BY_HAND}"
        )
    if Flag("--weight-cache-mode").is_set(words):
        raise ConfigurationError(f"{_AUTO}: --weight-cache-mode is set; omit it, {_BY_HAND}")
    level = _LOG_LEVEL.read_value(words)
    if level not in (None, "info", "debug"):
        raise ConfigurationError(
            f"{_AUTO}: --log-level {level}: only its log tells when SGLang's daemon is ready; write info"
        )


def _find_preload(head: tuple[str, ...]) -> tuple[str, ...]:
    """``vllm preload`` by the same program, or by the same Python."""
    if head[-1] == VLLM_MODULE:
        return (*head[:-1], "vllm.entrypoints.cli.main", "preload")
    if head[-1] != "serve":
        raise ConfigurationError(f"{_AUTO}: COMMAND is not `vllm serve …`; write that, {_BY_HAND}")
    return (*head[:-1], "preload")


def _strip_server_flags(words: Sequence[str]) -> tuple[str, ...]:
    """The words without the server's flags, and with the model as a flag.

    Raises:
        ConfigurationError: they cannot be read one by one.

    """
    if OPTION in words:
        raise ConfigurationError(f"{_AUTO}: {OPTION}: the daemon reads no file of flags; write them out")
    model = words[:1] if words and not words[0].startswith("-") else ()
    if not model and not _MODEL.is_set(words):
        raise ConfigurationError(f"{_AUTO}: write the model first, `vllm serve MODEL …`, {_BY_HAND}")
    return (*((_MODEL.name, *model) if model else ()), *_drop_flags(words[len(model) :]))


def _is_number(word: str) -> bool:
    """Whether this is a value, as ``-1`` is, and no flag."""
    return re.fullmatch(r"-\d+(\.\d+)?", word) is not None


def _drop_flags(words: Sequence[str]) -> Iterator[str]:
    """Yield all words but the server's flags and their values."""
    values = 0.0  # of the server's flag, yet to be dropped
    for word in words:
        if not word.startswith("-") or _is_number(word):
            if values:
                values -= 1
            else:
                yield word
            continue
        name, equals, _ = word.partition("=")
        name = _SHORT.get(name, name.removeprefix("--").replace("_", "-"))
        values = 0.0 if equals else float("inf") if name in _LISTS else float(name in _VALUES)
        if name not in _VALUES | _LISTS and name.removeprefix("no-") not in _SWITCHES:
            yield word
