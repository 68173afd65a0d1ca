"""From a gang to what is run: the command line, its environment, and how its health is asked."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unitagent import folder
from unitagent.agent.checking import UNASKED, Asked, Asking, Commands
from unitagent.core.ending import LEADER_SHARE
from unitagent.core.model import Gang
from unitagent.discovery.rendezvous import rendezvous
from unitagent.probes.inflight import Inflight
from unitagent.probes.stall import Gauges
from unitagent.settings import Resolved, Settings
from unitagent.workload.environment import (
    GangInfo,
    explain_pairs,
    explain_variables,
    fill,
    workload_environment,
)

if TYPE_CHECKING:
    from unitagent.frameworks.completer import CompletedCommand
    from unitagent.frameworks.interface import LaunchPlan, RankContext
    from unitagent.frameworks.shell_text import PlainCommand


_UNKNOWN_HEALTH = (
    "the workload's health and port are not known{}: ready means that its process runs, and a drain waits "
    "for no request; set UNIT_HEALTH_URL (http://127.0.0.1:PORT/health) and UNIT_TRAFFIC_PORT"
)
_ENDING = 1.0  # seconds that an engine takes to end once it is idle


@dataclass(frozen=True, slots=True)
class Launch:
    """One start of the workload on this rank.

    Attributes:
        origins: flag or variable that a framework added -> a sentence why.
        asked: how it is asked for its health; None where there is nothing to ask.
        inflight: counts its requests in flight; None where that is not known.
        gauges: where its engine tells of its progress; None where it does not.
        traffic_port: where it takes user traffic at rank 0; None where that is not known.
        vital: beginnings of the names of processes that it cannot do without.
        deaf: it makes nothing of a SIGTERM, so that a grace would only be lost time.
        notices: sentences that a person should read once.

    """

    argv: list[str]
    env: dict[str, str]
    origins: Mapping[str, str]
    asked: Asked | None
    inflight: Inflight | None
    gauges: Gauges | None = None
    traffic_port: int | None = None
    vital: tuple[str, ...] = ()
    deaf: bool = False
    notices: tuple[str, ...] = ()


def find_rdma(found: Resolved, ifname: str, warn: Callable[[str], None], root: Path = Path("/")) -> str:
    """Give the value of ``NCCL_IB_HCA``, when the user wants the card's RDMA device found. Blocks."""
    chosen = os.environ.get("NCCL_IB_HCA") or found.environment.get("NCCL_IB_HCA")
    if found.settings.rdma != "auto" or chosen:
        return ""
    from unitagent.discovery.rdma import find_hca  # noqa: PLC0415 (for those who ask)

    hca = find_hca(ifname, root)
    if hca is not None and hca.usable:
        return str(hca.nccl)
    why = "; ".join(hca.problems) if hca else "none belongs to it"
    warn(f"UNIT_RDMA=auto: no RDMA device of interface {ifname} can be used: {why}")
    return ""


def replaced_by_ours(found: Resolved) -> frozenset[str]:
    """Name what the platform that gave the rank has set for its own rendezvous.

    That one is the same in every generation, where processes of an older one could meet the new ones.
    """
    told = found.sources["RANK_ID"].startswith("platform ")
    return rendezvous(found.platform, os.environ) if told else frozenset()


def _patience(settings: Settings) -> int:
    """How long an engine may take for requests in flight after SIGTERM.

    What is left of rank 0's share of a wanted stop when the drain has taken its time. But the same signal
    ends an engine after a failure, when it would wait for requests that can never finish: half of that grace
    at most.
    """
    left = LEADER_SHARE * settings.stop_grace - settings.deregister - settings.drain - _ENDING
    return max(1, int(min(left, settings.restart_grace / 2)))


class Launcher:
    """Knows the user's command and settings; each gang makes a ``Launch`` of them."""

    def __init__(
        self,
        found: Resolved,
        rank: int,
        card: tuple[str, str],
        marker: str,
        *,
        hca: str = "",
        commands: Commands = UNASKED,
    ) -> None:
        """Remember what stays the same.

        Args:
            found: the settings, and what the service file adds to the environment.
            rank: of this instance.
            card: name of the network card, and our address on it.
            marker: by which a later agent knows our processes.
            hca: value for ``NCCL_IB_HCA``; empty when nobody asked for it.
            commands: makes checks of commands; not needed where nothing is going to be asked.

        """
        self._found = found
        self._settings = found.settings
        self._rank = rank
        self._ifname, self._ip = card
        self._marker = marker
        self._commands = commands
        self._offered = {"NCCL_IB_HCA": hca} if hca else {}

    @folder.returned()
    def launch(self, gang: Gang) -> Launch:
        """Complete command and environment for this rank of ``gang``.

        Raises:
            ConfigurationError: the user's flags contradict the Unit.

        """
        replaced = replaced_by_ours(self._found)
        given = {name: text for name, text in os.environ.items() if text and name not in replaced}
        info = self._info(gang)
        env = workload_environment({**self._offered, **self._found.environment, **given}, info)
        argv = fill(self._settings.command, {**env, "MASTER_ENDPOINT": info.master_endpoint})
        made = self._completed(gang, argv, env)
        plan = made.plan if made else None
        asked = self._asked(plan, {**env, **(plan.env if plan else {})})
        said = (*self._literal(), *explain_pairs(self._settings.command, info))
        notices = (*(made.notices if made else self._alone(argv)), *said, *self._unknown(asked, made))
        if plan is None:
            known, inflight = self._settings.traffic_port, self._inflight(None)
            return Launch(argv, env, {}, asked, inflight, traffic_port=known, notices=notices)
        return Launch(
            argv=list(plan.argv),
            env={**env, **plan.env},
            origins=plan.origins,
            asked=asked,
            inflight=self._inflight(plan),
            gauges=self._gauges(plan),
            traffic_port=self._settings.traffic_port or plan.traffic_port,
            vital=plan.required_processes,
            deaf=plan.ignores_sigterm,
            notices=notices,
        )

    def rehearse(self, master: str | None = None) -> Launch:
        """What would be run in a Unit whose other ranks nobody has met yet.

        Raises:
            ConfigurationError: as :meth:`launch`.

        """
        size = self._settings.size
        ips = (self._ip if self._rank == 0 else master or self._ip, *(self._ip,) * (size - 1))
        return self.launch(Gang(generation=1, incarnations=("",) * size, ips=ips, master_port=29500))

    def _literal(self) -> tuple[str, ...]:
        """What is to be said of variables that only a shell would replace."""
        said = explain_variables(self._settings.command)
        if not said:
            return ()
        from unitagent.frameworks.command import is_shell_text  # noqa: PLC0415 (few have them)

        return () if is_shell_text(tuple(self._settings.command)) else said

    def _completed(self, gang: Gang, argv: list[str], env: Mapping[str, str]) -> CompletedCommand | None:
        """What the framework of the command makes of it; None where none was asked for."""
        if self._settings.framework == "none":
            return None
        from unitagent.frameworks.completer import complete_command  # noqa: PLC0415 (most run plain commands)

        def place(framework: str, command: PlainCommand) -> RankContext:
            return self._context(gang, framework, command)

        return complete_command(self._settings.framework, tuple(argv), env, str(Path.cwd()), place)

    def _alone(self, argv: list[str]) -> tuple[str, ...]:
        """What is to be said of an engine that nobody completes, unless it was asked for."""
        if self._found.sources["UNIT_FRAMEWORK"] != "default" or self._settings.size == 1:
            return ()
        from unitagent.starts import explain_alone  # noqa: PLC0415 (not every agent asks)

        return explain_alone(argv)

    def _context(self, gang: Gang, framework: str, command: PlainCommand) -> RankContext:
        from unitagent.discovery.installed import version_of  # noqa: PLC0415
        from unitagent.frameworks.interface import RankContext  # noqa: PLC0415

        return RankContext(
            rank=self._rank,
            size=self._settings.size,
            unit=self._settings.unit,
            generation=gang.generation,
            rank_ip=self._ip,
            master_address=gang.master_address,
            master_port=gang.master_port,
            rank_ips=gang.ips,
            ifname=self._ifname,
            folder=command.folder,
            version=version_of(framework, command.argv, command.env.get("PATH")),
            shutdown_timeout=_patience(self._settings),
            traffic_port=self._settings.traffic_port,
        )

    def _unknown(self, asked: Asked | None, made: CompletedCommand | None) -> tuple[str, ...]:
        """What to say where nobody can tell how the workload is."""
        if asked is not None or self._rank or self._settings.mode != "service":
            return ()
        because = f", because {made.hidden}" if made and made.hidden else ""
        return (_UNKNOWN_HEALTH.format(because),)

    def _info(self, gang: Gang) -> GangInfo:
        return GangInfo(
            rank=self._rank,
            size=self._settings.size,
            unit=self._settings.unit,
            generation=gang.generation,
            rank_ip=self._ip,
            comm_ifname=self._ifname,
            master_address=gang.master_address,
            master_port=gang.master_port,
            rank_ips=gang.ips,
            marker=self._marker,
        )

    def _asked(self, plan: LaunchPlan | None, env: Mapping[str, str]) -> Asked | None:
        return Asking(self._found, plan, env, self._commands, self._ip).asked() if self._rank == 0 else None

    def _gauges(self, plan: LaunchPlan) -> Gauges | None:
        if self._rank != 0 or not plan.metrics_url or not plan.progress_metric:
            return None
        return Gauges(plan.metrics_url, plan.running_metrics, plan.progress_metric)

    def _inflight(self, plan: LaunchPlan | None) -> Inflight | None:
        port = self._settings.traffic_port or (plan.traffic_port if plan else None)
        if port is None:
            return None
        if plan is not None and plan.metrics_url and plan.running_metrics:
            return Inflight(port, plan.metrics_url, plan.running_metrics)
        return Inflight(port)
