"""How vLLM's data parallel replicas are spread over the ranks of a Unit.

Replicas that fit into one rank each are engines of their own, which rank 0's coordinator addresses by their
start rank; replicas larger than a rank need the native multi-node flags, from which vLLM infers their
place.

The invariant: with vLLM's own load balancing only rank 0 has an API server, and never
``--data-parallel-start-rank``: without ``--headless`` that flag means hybrid load balancing, and then the
headless ranks are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unitagent.frameworks.interface import RankContext
from unitagent.frameworks.flags import Flag, FlagCompleter

BACKEND = Flag("--data-parallel-backend", ("-dpb",))
_SIZE = Flag("--data-parallel-size", ("-dp",))
_LOCAL = Flag("--data-parallel-size-local", ("-dpl",))
_RANK = Flag("--data-parallel-rank", ("-dpn",))
_START_RANK = Flag("--data-parallel-start-rank", ("-dpr",))
_HEADLESS = Flag("--headless")
_HYBRID_BY_START_RANK = (
    "at rank 0, whatever its value, it means hybrid load balancing to vLLM, which then refuses the headless "
    "ranks; leave it out, each rank gets its own, or write --data-parallel-hybrid-lb"
)
_ADDRESS = Flag("--data-parallel-address", ("-dpa",))
_RPC_PORT = Flag("--data-parallel-rpc-port", ("-dpp",))
_HYBRID = (Flag("--data-parallel-hybrid-lb", ("-dph",)), Flag("--data-parallel-multi-port-external-lb"))
_EXTERNAL = (Flag("--data-parallel-external-lb", ("-dpe",)), _RANK)


@dataclass(frozen=True, slots=True)
class Layout:
    """What data parallelism means for one rank.

    Attributes:
        native: whether the native multi-node flags are needed.
        headless: whether this rank takes no requests.

    """

    native: bool
    headless: bool


def choose_layout(context: RankContext, words: Sequence[str], completer: FlagCompleter, *, native: bool) -> Layout:
    """Add the flags of this rank to ``missing``; ``native`` says that the user wrote native ones."""
    replicas = _SIZE.read_number(words) or 1
    balanced = any(flag.is_set(words) for flag in (*_HYBRID, *_EXTERNAL))
    if replicas > 1 and _means_hybrid(context, words, balanced=balanced):
        completer.add_problem(f"{_START_RANK.name}: {_HYBRID_BY_START_RANK}")
    if replicas == 1 or native or replicas % context.size:
        return _spanning(context, replicas, completer, balanced=balanced, native=native)
    _meeting(context, completer)
    if any(flag.is_set(words) for flag in _EXTERNAL):
        _external(context, replicas, completer)
    else:
        _engines(context, replicas // context.size, words, completer, balanced=balanced)
    return Layout(native=False, headless=context.rank > 0 and not balanced)


def _spanning(context: RankContext, replicas: int, completer: FlagCompleter, *, balanced: bool, native: bool) -> Layout:
    """Each replica is spread over several ranks, or there is but one."""
    if context.size % replicas and not native:
        completer.add_problem(
            f"--data-parallel-size {replicas}: a Unit of {context.size} instances runs a multiple or a "
            f"divisor of {context.size} replicas; change it or UNIT_SIZE"
        )
    if replicas > 1:
        _meeting(context, completer)
    span = max(context.size // replicas, 1) if balanced else context.size
    return Layout(native=True, headless=context.rank % span > 0)


def _means_hybrid(context: RankContext, words: Sequence[str], *, balanced: bool) -> bool:
    """Whether rank 0 has, or with the same words would have, a start rank that the user wrote."""
    own_worker = context.rank > 0 and _HEADLESS.is_set(words)
    return _START_RANK.is_set(words) and not balanced and not own_worker


def _meeting(context: RankContext, completer: FlagCompleter) -> None:
    completer.add_default(_ADDRESS, context.master_address, "The replicas meet at the address of rank 0.")
    completer.add_default(_RPC_PORT, context.master_port + 1, "The replicas meet at a port free in this generation.")


def _engines(context: RankContext, local: int, words: Sequence[str], completer: FlagCompleter, *, balanced: bool) -> None:
    completer.require_value(
        _LOCAL, local, f"each of {context.size} instances runs {local} of the replicas", str(local)
    )
    if (context.rank or balanced) and not _means_hybrid(context, words, balanced=balanced):
        first = context.rank * local
        fact = f"the replicas of rank {context.rank} are counted from {first}"
        completer.require_value(_START_RANK, first, fact)


def _external(context: RankContext, replicas: int, completer: FlagCompleter) -> None:
    """One server per replica, and one replica per rank, behind a balancer of the user's."""
    if replicas != context.size:
        completer.add_problem(
            f"--data-parallel-size {replicas}: with an external load balancer each of the {context.size} "
            f"instances runs one replica; write {context.size}, "
            "or choose --data-parallel-multi-port-external-lb"
        )
    completer.require_value(_RANK, context.rank, f"this instance has rank {context.rank}", "{RANK_ID}")
