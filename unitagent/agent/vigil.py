"""What a running workload is asked, from its start to its stop: whether it is well, and moves."""

from __future__ import annotations

from collections.abc import Callable

from unitagent.agent.workload_health import OnVerdict
from unitagent.agent.launch import Launch
from unitagent.probes.health import HealthProbe, StallProbe


class WorkloadMonitor:
    """Over one workload at a time."""

    def __init__(self, on_verdict: OnVerdict, on_stall: Callable[[str], None], stall: float) -> None:
        """Prepare; ``stall``: seconds without progress that count as one, 0 for never."""
        self._on_verdict = on_verdict
        self._on_stall = on_stall
        self._stall = stall
        self._probes: list[HealthProbe | StallProbe] = []

    def start_probes(self, launch: Launch, *, health: bool) -> None:
        """Ask this workload; of its health only where that counts."""
        if health and launch.health_probe is not None:
            self._probes.append(launch.health_probe.make_probe(self._on_verdict))
        if self._stall and launch.gauges is not None:
            self._probes.append(StallProbe(launch.gauges, self._stall, self._on_stall))
        for probe in self._probes:
            probe.start()

    def stop_probes(self) -> None:
        """Ask no more."""
        for probe in self._probes:
            probe.stop()
        self._probes.clear()
