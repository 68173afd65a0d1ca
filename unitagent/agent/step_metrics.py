"""What metrics count of one step of the agent."""

from __future__ import annotations

from unitagent.core.state import State
from unitagent.core.status import measure_recovery
from unitagent.probes.metrics import Metrics


def record_metrics(metrics: Metrics, before: State, now: State) -> None:
    """Count a restart, and record the duration of a recovery that has just finished."""
    failure, marks = now.recovery.failure, now.recovery.timestamps
    if now.recovery.counted_generation != before.recovery.counted_generation and failure is not None:
        metrics.observe_restart(failure.reason, None if failure.requested else failure.rank)
    if marks.ready is not None and before.recovery.timestamps.ready is None and marks.failed is not None:
        metrics.observe_recovery(marks.detect + marks.ready - marks.failed, measure_recovery(now))
