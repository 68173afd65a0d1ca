"""What the probe server may know of an agent: answers, computed from its state on request."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import Any

from unitagent.agent.loop import Agent
from unitagent.agent.secret_rotation import SecretAgreement
from unitagent.core import probe_answers
from unitagent.core.model import Phase
from unitagent.core.state import State
from unitagent.core.status import build_own_status, build_status, find_phase
from unitagent.probes.metrics import Metrics


class Views:
    """The ``Answers`` of one agent."""

    def __init__(self, agent: Agent, metrics: Metrics, dashboard: str, agreement: SecretAgreement) -> None:
        self._agent = agent
        self._metrics = metrics
        self._dashboard = dashboard
        self._agreement = agreement

    async def next_step(self) -> None:
        """Wait until something has happened or the store has answered; for one caller only."""
        await self._agent.stepped.wait()
        self._agent.stepped.clear()

    @property
    def _state(self) -> State:
        """The state at this moment, so that a lease that has expired since the last event counts."""
        return replace(self._agent.state, now=time.monotonic())

    def live(self) -> probe_answers.ProbeAnswer:
        """Answer ``/livez``."""
        return probe_answers.answer_livez()

    def ready(self) -> probe_answers.ProbeAnswer:
        """Answer ``/readyz``."""
        return probe_answers.answer_readyz(self._state)

    def traffic(self) -> probe_answers.ProbeAnswer:
        """Answer ``/traffic``."""
        return probe_answers.answer_traffic(self._state)

    def startup(self) -> probe_answers.ProbeAnswer:
        """Answer ``/startupz``."""
        return probe_answers.answer_startupz(self._state)

    def status(self) -> dict[str, Any]:
        """Return ``/status``."""
        return {
            **build_status(self._state),
            "secrets": self._agreement.report_status(),
            "start": self._agent.start_report,
        }

    def report(self) -> dict[str, Any]:
        """Return the part of ``/status`` about this instance."""
        return build_own_status(self._state)

    def is_ready(self) -> bool:
        """Return whether the whole Unit serves."""
        return probe_answers.is_ready(self._state)

    def metrics(self) -> bytes:
        """Return ``/metrics``."""
        return self._metrics.render(self.status(), time.monotonic())

    async def processes(self) -> list[dict[str, Any]]:
        """Return what each process of the workload uses now."""
        return [asdict(usage) for usage in await self._agent.sample_usage()]

    def identity(self) -> tuple[str, int, str]:
        """Return my Unit, my rank and my incarnation."""
        rules = self._agent.state.config
        return rules.unit, rules.rank, rules.incarnation

    def peers(self) -> set[str]:
        """Return the addresses of all known instances."""
        return {record.ip for record in self._agent.state.store.records.values()}

    def dashboard(self) -> str:
        """Return what the dashboard shows."""
        return self._dashboard

    def phase(self) -> Phase:
        """Return the phase of the Unit."""
        return find_phase(self._state)

    def generation(self) -> int:
        """Return the generation of this instance."""
        return self._agent.state.me.generation
