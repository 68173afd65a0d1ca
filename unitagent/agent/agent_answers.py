"""What the probe server may know of an agent: answers, computed from its state on request."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from unitagent.agent.loop import Agent
from unitagent.agent.secret_rotation import SecretAgreement
from unitagent.core import probe_answers
from unitagent.core.model import InstanceState, Phase
from unitagent.core.probe_answers import ProbeAnswer
from unitagent.core.probe_paths import Probe
from unitagent.core.state import State
from unitagent.core.status import build_own_status, build_status, find_phase
from unitagent.probes.metrics import Gauges, Metrics
from unitagent.system.host_port import join_host_port

if TYPE_CHECKING:
    from unitagent.agent.spare_watch import SpareWatch
    from unitagent.core.history import HistoryEvent
    from unitagent.workload.file_warmer import FileWarmer


class AgentAnswers:
    """The ``Answers`` of one agent."""

    def __init__(
        self,
        agent: Agent,
        metrics: Metrics,
        dashboard: str,
        agreement: SecretAgreement,
        *,
        warmer: FileWarmer | None = None,
        traffic_port: int | None = None,
    ) -> None:
        self._agent = agent
        self._traffic_port = traffic_port
        self._metrics = metrics
        self._dashboard = dashboard
        self._agreement = agreement
        self._warmer = warmer
        self.spares: SpareWatch | None = None
        self.recall_events: Callable[[], Sequence[HistoryEvent]] = tuple

    async def next_step(self) -> None:
        """Wait until something has happened or the store has answered; for one caller only."""
        await self._agent.stepped.wait()
        self._agent.stepped.clear()

    @property
    def _state(self) -> State:
        """The state at this moment, so that a lease that has expired since the last event counts."""
        return replace(self._agent.state, now=time.monotonic())

    def answer_probe(self, probe: Probe) -> ProbeAnswer:
        """Answer one of ``PROBES``, by its rule in the core."""
        rule: Callable[[State], ProbeAnswer] = getattr(probe_answers, probe.rule)
        return rule(self._state)

    def build_status(self) -> dict[str, Any]:
        """Return ``/status``."""
        from unitagent.core.summary import summarize  # noqa: PLC0415 (for people, who may never ask)

        state = self._state
        files = {} if self._warmer is None else {"warm_files": self._warmer.progress.as_status()}
        spares = {} if self.spares is None else {"spares": self.spares.status()}
        status = {
            **build_status(state),
            "endpoint": self._find_endpoint(state),
            "secrets": self._agreement.report_status(),
            "start": self._agent.start_report,
            "engine": self._agent.engine_report,
            **files,
            **spares,
        }
        return {**status, "summary": summarize(status, state.now + state.config.epoch)}

    def _find_endpoint(self, state: State) -> str | None:
        """Return where rank 0 takes traffic, if both address and port are known here."""
        leader = state.me if state.config.rank == 0 else state.store.records.get(0)
        return join_host_port(leader.ip, self._traffic_port) if leader and self._traffic_port else None

    def report_instance(self) -> dict[str, Any]:
        """Return the part of ``/status`` about this instance."""
        return build_own_status(self._state)

    def is_ready(self) -> bool:
        """Return whether the whole Unit serves."""
        return probe_answers.is_ready(self._state)

    def render_metrics(self, processes: Sequence[Mapping[str, Any]] | None) -> bytes:
        """Return ``/metrics``."""
        state = self._state
        waits = state.now - state.barrier.entered if state.me.state is InstanceState.IDLE else 0.0
        gauges = Gauges(max(0.0, waits), self._agent.requests_in_flight, processes)
        return self._metrics.render_text(self.build_status(), state.now, gauges)

    async def list_processes(self) -> list[dict[str, Any]]:
        """Return what each process of the workload uses now."""
        return [asdict(usage) for usage in await self._agent.sample_usage()]

    def read_output(self, after: int) -> dict[str, Any]:
        """Return what ``/logs`` shows, with the bytes of its parts."""
        streams, page = self._agent.read_output(after)
        return {
            "streams": streams,
            **msgspec.structs.asdict(page),
            "parts": [*map(msgspec.structs.asdict, page.parts)],
        }

    def get_identity(self) -> tuple[str, int, str]:
        """Return my Unit, my rank and my incarnation."""
        config = self._agent.state.config
        return config.unit, config.rank, config.incarnation

    def list_addresses(self) -> set[str]:
        """Return the addresses of all known instances."""
        return {record.ip for record in self._agent.state.store.records.values()}

    def get_dashboard(self) -> str:
        """Return what the dashboard shows."""
        return self._dashboard

    def find_phase(self) -> Phase:
        """Return the phase of the Unit."""
        return find_phase(self._state)

    def get_generation(self) -> int:
        """Return the generation of this instance."""
        return self._agent.state.me.generation
