"""What a step of the agent means for its metrics."""

from __future__ import annotations

from unitagent.core.state import State
from unitagent.probes.metrics import Metrics


def measure(metrics: Metrics, before: State, now: State) -> None:
    """Count a restart, and time a recovery that has just ended."""
    failure, marks = now.recovery.failure, now.recovery.marks
    if now.recovery.counted != before.recovery.counted and failure is not None:
        metrics.observe_restart(failure.reason, failure.rank)
    if marks.ready is not None and before.recovery.marks.ready is None and marks.failed is not None:
        metrics.observe_recovery(marks.detect + marks.ready - marks.failed)
