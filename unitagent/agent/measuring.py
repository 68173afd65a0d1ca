"""What a step of the agent means for its metrics, and for whoever tells others of it."""

from __future__ import annotations

from unitagent.core.state import State
from unitagent.probes.metrics import Metrics


def record_metrics(metrics: Metrics, before: State, now: State) -> None:
    """Count a restart, and time a recovery that has just ended."""
    failure, marks = now.recovery.failure, now.recovery.timestamps
    if now.recovery.counted != before.recovery.counted and failure is not None:
        metrics.observe_restart(failure.reason, failure.rank)
    if marks.ready is not None and before.recovery.timestamps.ready is None and marks.failed is not None:
        metrics.observe_recovery(marks.detect + marks.ready - marks.failed)


def has_news(before: State, now: State) -> bool:
    """Whether more has happened than that time passed and an exchange began."""
    store = before.store.leases is now.store.leases and before.store.records is now.store.records
    same = before.me is now.me and before.workload is now.workload and before.peers is now.peers
    way = before.shutdown is now.shutdown and before.recovery is now.recovery
    return not (store and same and way and before.generation == now.generation)
