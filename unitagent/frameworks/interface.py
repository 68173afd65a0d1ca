"""The interface of a framework: one pure function from a rank's placement in the Unit to what runs there.

The invariants: every argument of the user's command is kept, in its order. Planning is idempotent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class RankContext:
    """The placement of one rank in one gang.

    Attributes:
        rank_ip: IP address of this rank.
        master_address: IP address of rank 0.
        master_port: free on rank 0 when the gang was formed, with 7 free ports above it. Their use:
            +0 the rendezvous (or Ray's GCS), +1 vLLM's data parallel RPC, Ray's dashboard or LMDeploy's data
            parallel master, +2 Ray's client server; SGLang's attention data parallelism takes +1 to +6.
        rank_ips: IP addresses of all ranks, in rank order.
        ifname: the network interface for traffic between ranks; empty if unknown.
        version: of the engine; empty if unknown.
        folder: the working directory of the command; None if unknown.
        shutdown_timeout: whole seconds that the engine may spend on requests in flight after SIGTERM; 0 when
            unset.
        traffic_port: where requests come in, if the user has set it; else None.
        keeper_port: the keepers' port at rank 0, free with 7 above it, if a keeper is to be derived from the
            engine's command (``UNIT_KEEPER=auto``); else None.

    """

    rank: int
    size: int
    unit: str
    generation: int
    rank_ip: str
    master_address: str
    master_port: int
    rank_ips: tuple[str, ...]
    ifname: str
    version: str = ""
    folder: str | None = None
    shutdown_timeout: int = 0
    traffic_port: int | None = None
    keeper_port: int | None = None


@dataclass(frozen=True, slots=True)
class PhaseLine:
    """A line of an engine's output that tells how far its start is.

    Attributes:
        text: what the line contains.
        phase: the phase of ``core.engine_start`` that ends with it, or that it is about.
        seconds: pattern of the seconds that the engine says it took, in a group; empty if it says none.
        within: the phase is a part of another one, which this line does not end.
        tentative: other processes of the engine are usually still in the phase.

    """

    text: bytes
    phase: str
    seconds: bytes = b""
    within: bool = False
    tentative: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchPlan:
    """What one rank runs, and how its health and progress are checked.

    Attributes:
        env: variables to set in addition to those that every workload gets.
        origins: added flag or variable -> a sentence that explains it.
        health: ``http`` URL that answers 2xx or 3xx, or ``tcp`` URL that accepts connections, while the
            engine serves; only at rank 0, None without a check.
        traffic_port: where users' requests come in; None if this rank takes none.
        stated_port: that port as the flags have it, possibly ``UNKNOWN``; None if no flag sets it.
        running_metrics: gauges of ``metrics_url`` that add up to the requests in flight.
        progress_metric: counter of ``metrics_url`` that grows with every step of the engine; if it does not
            while requests are running, the engine is stalled.
        metrics_url: Prometheus text of the engine.
        required_processes: name prefixes (at most 15 characters, the kernel's limit) of processes that the
            command starts and cannot work without; they get no grace once its main process has ended.
        ignores_sigterm: the engine ignores SIGTERM on this rank, so it is killed without a grace.
        restart_grace: seconds from SIGTERM to SIGKILL after a failure, where the engine ignores SIGTERM while
            it starts or when a peer has gone; None for the setting's default.
        warm_up: URL, and JSON to post to it, that make the engine do what it leaves to its first request;
            only at rank 0, None if no such request is known.
        warm_modules: what most of its start goes into importing, in each of its processes.
        phase_lines: lines of its output that tell how far its start is; all that fit a line count, in their
            order.
        notices: sentences to show once, at the start.
        keeper: the command that holds what the engine takes from it, where ``keeper_port`` asks for one.
        keeper_ready: how to tell that it is ready, as ``UNIT_KEEPER_READY`` says it.
        model: what the keeper loads: a path, or a name of a model hub.

    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)
    health: str | None = None
    traffic_port: int | None = None
    stated_port: str | None = None
    running_metrics: tuple[str, ...] = ()
    progress_metric: str | None = None
    metrics_url: str | None = None
    required_processes: tuple[str, ...] = ()
    ignores_sigterm: bool = False
    restart_grace: float | None = None
    warm_up: tuple[str, str] | None = None
    warm_modules: tuple[str, ...] = ()
    phase_lines: tuple[PhaseLine, ...] = ()
    notices: tuple[str, ...] = ()
    keeper: tuple[str, ...] = ()
    keeper_ready: str = ""
    model: str = ""


class Framework(Protocol):
    """Knows one engine. Its command may be wrapped (``env X=1 …``, ``python -m …``), but not in ``sh -c
    TEXT``.

    A word may be ``UNKNOWN``: reading its value raises ``UnreadableError``, and then the command stays
    unchanged.
    """

    @property
    def name(self) -> str:
        """The value of ``UNIT_FRAMEWORK`` that selects it."""

    @property
    def example(self) -> str:
        """A command that it completes, for error messages; empty if it completes any command."""

    def recognizes(self, argv: tuple[str, ...]) -> bool:
        """Whether this is a command of the engine, for ``UNIT_FRAMEWORK=auto``."""

    def plan(self, context: RankContext, argv: tuple[str, ...], env: Mapping[str, str]) -> LaunchPlan:
        """Complete ``argv`` for one rank; in a Unit of size 1 nothing is added.

        Raises:
            ConfigurationError: the user's flags contradict the Unit.

        """
