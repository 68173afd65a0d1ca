"""torchrun: the static rendezvous, or c10d if the user chooses it.

The invariant: only torchrun's own options are read. Everything after the program belongs to the program, so
options are added in front.

Sources: PyTorch ``torch/distributed/run.py``. Every option can also be set as ``PET_<NAME>``; a value there
that differs from the agent's own was set by the user, and wins. An unrecognized command stays unchanged: a
torchrun inside a script reads those variables. c10d decides by host name whether it hosts the store, which
fails on a second network interface; ``is_host`` decides it instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from unitagent.frameworks.command import split_at_engine
from unitagent.frameworks.flags import Flag, FlagCompleter
from unitagent.frameworks.interface import Framework, LaunchPlan, RankContext
from unitagent.system.host_port import bracket_ipv6, join_host_port

_STARTS = (("torchrun",), ("-m", "torch.distributed.run"), ("-m", "torch.distributed.launch"))

_NNODES = Flag("--nnodes", variable="PET_NNODES")
_NODE_RANK = Flag("--node-rank", variable="PET_NODE_RANK")
_MASTER_ADDR = Flag("--master-addr", variable="PET_MASTER_ADDR")
_MASTER_PORT = Flag("--master-port", variable="PET_MASTER_PORT")
_BACKEND = Flag("--rdzv-backend", variable="PET_RDZV_BACKEND")
_ENDPOINT = Flag("--rdzv-endpoint", variable="PET_RDZV_ENDPOINT")
_RUN_ID = Flag("--rdzv-id", variable="PET_RDZV_ID")
_CONF = Flag("--rdzv-conf", variable="PET_RDZV_CONF")
_LOCAL_ADDR = Flag("--local-addr", variable="PET_LOCAL_ADDR")
_STANDALONE = Flag("--standalone")

_WHY_HOST = "Rank 0 hosts the store; guessing by host name fails on a second interface."
_WITHOUT_VALUE = frozenset(
    {"--standalone", "-m", "--module", "--no-python", "--run-path", "--use-env", "--virtual-local-rank"}
)


class Torchrun:
    """``torchrun --nproc-per-node 8 PROGRAM …``; see the module."""

    name = "torchrun"
    example = ""  # it completes any command

    def recognizes(self, argv: tuple[str, ...]) -> bool:
        """Whether it starts torchrun, under any of its names."""
        return split_at_engine(argv, _STARTS) is not None

    def plan(self, context: RankContext, argv: tuple[str, ...], env: Mapping[str, str]) -> LaunchPlan:
        """Complete ``argv`` for one rank."""
        command = split_at_engine(argv, _STARTS)
        if command is None or context.size == 1:
            return LaunchPlan(argv=argv)
        words = tuple(take_own_options(command.words, _WITHOUT_VALUE))
        completer = FlagCompleter(words, env)
        options = _UserOptions(words, env)
        _place_rank(context, completer, options)
        rest = command.words[len(words) :]
        command = replace(command, words=(*words, *_merge_rdzv_conf(context, completer, options), *rest))
        return LaunchPlan(argv=command.insert_options(completer.build_words()), origins=completer.origins)


FRAMEWORK: Framework = Torchrun()


@dataclass(frozen=True, slots=True)
class _UserOptions:
    """The user's options: flags, or variables in their place."""

    words: tuple[str, ...]
    env: Mapping[str, str]

    def read_value(self, flag: Flag) -> str:
        return flag.read_value(self.words) or self.env.get(flag.variable, "")

    @property
    def backend(self) -> str:
        return self.read_value(_BACKEND) or "static"


def take_own_options(words: tuple[str, ...], without_value: frozenset[str]) -> Iterator[str]:
    """Yield a launcher's options up to the program it launches."""
    rest = iter(words)
    for word in rest:
        if not word.startswith("-") or word == "--":
            return
        yield word
        attached = "=" in word or (not word.startswith("--") and len(word) > 2)  # noqa: PLR2004 (-r3)
        if not attached and word.replace("_", "-") not in without_value:
            yield from (value for value in [next(rest, None)] if value is not None)


def _place_rank(context: RankContext, completer: FlagCompleter, options: _UserOptions) -> None:
    if _STANDALONE.is_set(options.words):
        completer.add_problem(f"--standalone: the Unit has {context.size} instances; leave it out")
    completer.require_value(_NNODES, context.size, f"the Unit has {context.size} instances", "{UNIT_SIZE}")
    if options.backend == "static":
        _add_static_rendezvous(context, completer, options)
        return
    if options.backend == "c10d":
        where = join_host_port(context.master_address, context.master_port)
        completer.add_default(
            _ENDPOINT, where, "The ranks meet at rank 0, at a port free in this generation."
        )
        if not options.read_value(_CONF) and _meets_at_rank_0(context, options):
            completer.add_default(_CONF, _format_is_host(context), _WHY_HOST)
    run = f"{context.unit}-{context.generation}"
    completer.add_default(_RUN_ID, run, "Ranks of another generation must not meet this one.")
    completer.add_default(_LOCAL_ADDR, context.rank_ip, "The other ranks reach this one at this address.")


def _add_static_rendezvous(context: RankContext, completer: FlagCompleter, options: _UserOptions) -> None:
    completer.require_value(_NODE_RANK, context.rank, f"this instance has rank {context.rank}", "{RANK_ID}")
    if options.read_value(_ENDPOINT):  # replaces address and port
        return
    completer.add_default(
        _MASTER_ADDR, bracket_ipv6(context.master_address), "The ranks meet at the address of rank 0."
    )
    completer.add_default(
        _MASTER_PORT, context.master_port, "The ranks meet at a port free in this generation."
    )


def _merge_rdzv_conf(
    context: RankContext, completer: FlagCompleter, options: _UserOptions
) -> tuple[str, ...]:
    """Repeat the user's configuration with the missing part, after theirs, since the last one counts."""
    conf = options.read_value(_CONF)
    if options.backend != "c10d" or not conf or "is_host=" in conf or not _meets_at_rank_0(context, options):
        return ()
    completer.origins[_CONF.name] = _WHY_HOST
    return (_CONF.name, f"{conf},{_format_is_host(context)}")


def _meets_at_rank_0(context: RankContext, options: _UserOptions) -> bool:
    """Whether rank 0 hosts the store of c10d; the user's own endpoint may be elsewhere."""
    endpoint = options.read_value(_ENDPOINT)
    return not endpoint or endpoint.rsplit(":", 1)[0].strip("[]") == context.master_address


def _format_is_host(context: RankContext) -> str:
    return f"is_host={'false' if context.rank else 'true'}"
