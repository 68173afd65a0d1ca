"""A standby: an instance that waits for a rank, and what its probe address answers meanwhile.

It is alive and has nothing to start, so ``/livez`` and ``/startupz`` pass. ``/readyz`` is the Unit's, as the
store shows it, and no traffic comes here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from unitagent.agent.rank_claim import Claimant
from unitagent.agent.rank_search import NO_RANK
from unitagent.core.model import InstanceState, Record
from unitagent.core.observed_status import status_from_store
from unitagent.core.probe_answers import NOT_HERE, OK, UNAVAILABLE, ProbeAnswer, ProbeCheck
from unitagent.core.probe_paths import READY, TRAFFIC, Probe
from unitagent.core.spares import describe_spares
from unitagent.core.summary import summarize
from unitagent.probes.metrics import Gauges, Metrics
from unitagent.settings import Settings
from unitagent.store.protocol import UnitSnapshot

if TYPE_CHECKING:
    from unitagent.core.history import HistoryEvent
    from unitagent.workload.file_warmer import FileWarmer


class StandbyAnswers:
    """The ``Answers`` of an instance without a rank.

    Args:
        claimant: reads the store, and knows why there is no rank.
        me: its record, without a rank.

    """

    def __init__(
        self, settings: Settings, claimant: Claimant, me: Record, metrics: Metrics, warmer: FileWarmer | None
    ) -> None:
        self._settings = settings
        self._claimant = claimant
        self._me = me
        self._metrics = metrics
        self._warmer = warmer
        self._since = time.time()

    @staticmethod
    def recall_events() -> tuple[HistoryEvent, ...]:
        """Return what is known of the history without the store: nothing."""
        return ()

    def answer_probe(self, probe: Probe) -> ProbeAnswer:
        """Answer one of ``PROBES``."""
        if probe == TRAFFIC:
            elsewhere = "traffic goes to rank 0, this is a standby without a rank"
            return ProbeAnswer(NOT_HERE, (ProbeCheck("rank", ok=False, reason=elsewhere),))
        if probe != READY:
            reason = "" if probe.on_standby else "this is a standby without a rank"
            check = ProbeCheck("standby", ok=probe.on_standby, reason=reason)
            return ProbeAnswer(OK if check.ok else UNAVAILABLE, (check,))
        why = self._explain_not_ready()
        return ProbeAnswer(UNAVAILABLE if why else OK, (ProbeCheck("unit", ok=not why, reason=why),))

    def _explain_not_ready(self) -> str:
        silent = time.monotonic() - self._claimant.read_at
        if silent > self._settings.lease:
            return f"the store has not answered this standby for {silent:.0f} s"
        status = self._read_status()
        return "" if status["ready"] else str(status["conditions"][0]["message"])

    def _read_status(self) -> dict[str, Any]:
        """The Unit's status as the store showed it last."""
        reply, age = self._claimant.reply, time.monotonic() - self._claimant.read_at
        ages = {} if reply is None else {rank: beat.age + age for rank, beat in reply.beats.items()}
        known = UnitSnapshot(
            generation=reply.generation if reply else 0,
            records=reply.records if reply else {},
            ages=ages,
            failure=reply.failure if reply else None,
            order=reply.order if reply else None,
            now=reply.now / 1000 if reply else 0.0,
        )
        return status_from_store(self._settings.unit, known, self._settings.lease)

    def build_status(self) -> dict[str, Any]:
        """Return ``/status``."""
        files = {} if self._warmer is None else {"warm_files": self._warmer.progress.as_status()}
        connected = time.monotonic() - self._claimant.read_at <= self._settings.lease
        status = {
            **self._read_status(),
            "size": self._settings.size,
            "ready": self.is_ready(),
            "traffic": False,
            "store": {"connected": connected, "since": None},
            "endpoint": None,
            "secrets": None,
            "start": None,
            "engine": None,
            "standby": {"since": self._since, "reason": self._claimant.why, "number": self._number},
            "spares": self._describe_spares(),
            **files,
        }
        summary = summarize(status, time.time())
        return {**status, "summary": {**summary, "message": f"this is a standby; {summary['message']}"}}

    def _describe_spares(self) -> dict[str, Any] | None:
        entry, wanted = self._claimant.entry, self._settings.spares
        if entry is None:
            return None
        return describe_spares(entry.listed, self._settings.lease, wanted=wanted, later=entry.age)

    def report_instance(self) -> dict[str, Any]:
        """Return the part of ``/status`` about this instance."""
        me = self._me
        own = {
            "rank": self._number,
            "incarnation": me.incarnation,
            "ip": me.ip,
            "port": me.port,
            "hostname": me.hostname,
            "state": InstanceState.WAITING.value,
            "generation": 0,
            "pid": None,
            "exit_code": None,
            "lease_seconds": None,
        }
        leader = {"incarnation": "", "age": 0.0}
        return {"unit": self._settings.unit, "generation": 0, "instances": [own], "leader": leader}

    def is_ready(self) -> bool:
        """Return whether the whole Unit serves, as the store shows it."""
        return not self._explain_not_ready()

    def render_metrics(self, processes: Sequence[Mapping[str, Any]] | None) -> bytes:
        """Return ``/metrics``."""
        return self._metrics.render_text(self.build_status(), time.monotonic(), Gauges(processes=processes))

    async def list_processes(self) -> list[dict[str, Any]]:
        """Return nothing: there is no workload."""
        return []

    def read_output(self, after: int) -> dict[str, Any]:  # noqa: ARG002 (as the protocol has it)
        """Return an empty log."""
        return {"streams": [], "begin": 0, "end": 0, "more": False, "parts": []}

    @property
    def _number(self) -> int | None:
        entry = self._claimant.entry
        return None if entry is None else entry.number

    def get_identity(self) -> tuple[str, int, str]:
        """Return my Unit, my number among the spares, if I have one, and my incarnation."""
        number = self._number
        return self._settings.unit, NO_RANK if number is None else number, self._me.incarnation

    def list_addresses(self) -> set[str]:
        """Return the addresses of all known instances."""
        reply = self._claimant.reply
        return set() if reply is None else {record.ip for record in reply.records.values()}

    def get_dashboard(self) -> str:
        """Return what the page shows; never all Units of the store, which an agent with a rank shows."""
        return "off" if self._settings.dashboard == "off" else "unit"
