"""From a gang to what is run: the command line, its environment, and how its health is asked."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unitagent.core.model import Gang
from unitagent.probes.health import HealthProbe, check_for
from unitagent.probes.inflight import Inflight
from unitagent.settings import Resolved
from unitagent.workload.environment import GangInfo, fill, workload_environment

if TYPE_CHECKING:
    from unitagent.frameworks.adapter import Plan

OnHealth = Callable[[bool, str], None]


@dataclass(frozen=True, slots=True)
class Launch:
    """One start of the workload on this rank.

    Attributes:
        health: builds the probe of its health; None where there is nothing to ask.
        inflight: counts its requests in flight; None where that is not known.

    """

    argv: list[str]
    env: dict[str, str]
    health: Callable[[OnHealth], HealthProbe] | None
    inflight: Inflight | None


class Launcher:
    """Knows the user's command and settings; each gang makes a ``Launch`` of them."""

    def __init__(self, found: Resolved, rank: int, card: tuple[str, str], marker: str) -> None:
        """Remember what stays the same; ``card`` is the name of the network card and our address on it."""
        self._settings = found.settings
        self._base = {**found.environment, **{name: text for name, text in os.environ.items() if text}}
        self._rank = rank
        self._ifname, self._ip = card
        self._marker = marker

    def launch(self, gang: Gang) -> Launch:
        """Complete command and environment for this rank of ``gang``.

        Raises:
            ConfigurationError: the user's flags contradict the Unit.

        """
        info = self._info(gang)
        env = workload_environment(self._base, info)
        argv = fill(self._settings.command, env)
        plan = self.plan(gang, argv, env)
        if plan is None:
            return Launch(argv, env, self._health(self._settings.health_url, None), self._inflight(None))
        env = {**env, **plan.env}
        url = self._settings.health_url or plan.health
        return Launch(list(plan.argv), env, self._health(url, plan.health_timeout), self._inflight(plan))

    def has_health(self) -> bool:
        """Whether rank 0's workload can be asked for its health: by the user's word or by the framework's."""
        return self._rank == 0 and self.launch(self._alone()).health is not None

    def _alone(self) -> Gang:
        """A gang that never starts, to find out about the command before anybody has joined."""
        ips = (self._ip,) * self._settings.size
        return Gang(generation=0, incarnations=("",) * len(ips), ips=ips, master_port=29500)

    def plan(self, gang: Gang, argv: list[str], env: Mapping[str, str]) -> Plan | None:
        """What the framework of the command adds; None where there is none."""
        if self._settings.framework == "none":
            return None
        from unitagent.frameworks.adapter import Context  # noqa: PLC0415 (most workloads are plain commands)
        from unitagent.frameworks.registry import choose  # noqa: PLC0415

        framework = choose(self._settings.framework, argv)
        if framework is None:
            return None
        context = Context(
            rank=self._rank,
            size=self._settings.size,
            unit=self._settings.unit,
            generation=gang.generation,
            rank_ip=self._ip,
            master_address=gang.master_address,
            master_port=gang.master_port,
            rank_ips=gang.ips,
            ifname=self._ifname,
        )
        return framework.plan(context, tuple(argv), env)

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

    def _health(self, url: str | None, timeout: float | None) -> Callable[[OnHealth], HealthProbe] | None:
        if url is None:
            return None
        settings = self._settings
        limit = max(settings.health_timeout, timeout or 0.0)
        return lambda on_result: HealthProbe(
            check_for(url),
            interval=settings.health_interval,
            timeout=limit,
            failures=settings.health_failures,
            on_result=on_result,
        )

    def _inflight(self, plan: Plan | None) -> Inflight | None:
        port = self._settings.traffic_port or (plan.traffic_port if plan else None)
        if port and plan is not None and plan.metrics_url and plan.running_metrics:
            return Inflight(port, plan.metrics_url, plan.running_metrics)
        return Inflight(port) if port else None
