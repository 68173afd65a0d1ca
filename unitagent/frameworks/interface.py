"""The shape of a framework: one pure function from a rank's place in the Unit to what is run there.

The invariant: every word of the user's command is still there, in its order, and planning the result again
changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class RankContext:
    """The place of one rank in one gang.

    Attributes:
        rank_ip: address of this rank; always an IP, as are the next three.
        master_address: of rank 0.
        master_port: free on rank 0 when the gang was formed, with 7 free ports above it. Who uses which:
            +0 the rendezvous (or Ray's GCS), +1 vLLM's data parallel RPC, Ray's dashboard or LMDeploy's data
            parallel master, +2 Ray's client server; SGLang's attention data parallelism takes +1 to +6.
        rank_ips: of all ranks, in rank order.
        ifname: the network card for traffic between ranks; empty when unknown.
        version: of the engine; empty when unknown.
        folder: where the command runs; None when that is not known.
        shutdown_timeout: whole seconds that the engine may spend on requests in flight after SIGTERM; 0 when
            unset.
        traffic_port: where requests come in, by the user's word; None when nobody has said.

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


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchPlan:
    """What one rank runs, and how its workload is asked how it does.

    Attributes:
        env: variables to set beside the ones the workload is given anyway.
        origins: flag or variable that was added -> a sentence why.
        health: ``http`` URL that answers 200, or ``tcp`` one that can be reached, when the engine serves;
            only at rank 0, None where there is nothing to ask.
        traffic_port: where users' requests come in; None where they do not.
        stated_port: what the flags say of that port, which may be ``UNTOLD``; None where they say nothing.
        running_metrics: gauges of ``metrics_url`` that add up to the requests in flight.
        progress_metric: counter of ``metrics_url`` that moves with every step of the engine; frozen while
            requests run it means a stall.
        metrics_url: Prometheus text of the engine.
        required_processes: name prefixes (at most 15 characters, the kernel's limit) of processes that the
            command starts and cannot work without; they get no grace once its main process has ended.
        ignores_sigterm: the engine ignores SIGTERM on this rank, so it is killed without a grace.
        notices: sentences that a person should read once, at the start.

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
    notices: tuple[str, ...] = ()


class Framework(Protocol):
    """Knows one engine. Its command may be wrapped (``env X=1 …``, ``python -m …``) but in ``sh -c TEXT``.

    A word may be ``UNTOLD``: reading its value raises ``UntoldError``, and then the command is left alone.
    """

    @property
    def name(self) -> str:
        """The value of ``UNIT_FRAMEWORK`` that asks for it."""

    @property
    def example(self) -> str:
        """A command that it completes, for error messages; empty if it completes any command."""

    def recognizes(self, argv: tuple[str, ...]) -> bool:
        """Whether this is a command of the engine, for ``UNIT_FRAMEWORK=auto``."""

    def plan(self, context: RankContext, argv: tuple[str, ...], env: Mapping[str, str]) -> LaunchPlan:
        """Complete ``argv`` for one rank; in a Unit of size 1 nothing is added.

        Raises:
            ConfigurationError: the user's words contradict the Unit.

        """
