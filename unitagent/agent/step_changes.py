"""What one step of the agent has changed: what metrics count, and whether there is news at all."""

from __future__ import annotations

from unitagent.core.state import State
from unitagent.core.status import measure_recovery
from unitagent.probes.metrics import Metrics


def record_metrics(metrics: Metrics, before: State, now: State) -> None:
    """Count a restart, and record the duration of a recovery that has just finished."""
    failure, marks = now.recovery.failure, now.recovery.timestamps
    if now.recovery.counted != before.recovery.counted and failure is not None:
        metrics.observe_restart(failure.reason, None if failure.requested else failure.rank)
    if marks.ready is not None and before.recovery.timestamps.ready is None and marks.failed is not None:
        metrics.observe_recovery(marks.detect + marks.ready - marks.failed, measure_recovery(now))


def has_news(before: State, now: State) -> bool:
    """Whether more has happened than time passing and an exchange starting."""
    store = before.store.leases is now.store.leases and before.store.records is now.store.records
    same = before.me is now.me and before.workload is now.workload and before.peers is now.peers
    unfinished = before.shutdown is now.shutdown and before.recovery is now.recovery
    return not (store and same and unfinished and before.generation == now.generation)
