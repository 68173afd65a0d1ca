"""Failed health checks in the log: the first at once, then at growing intervals.

A workload that loads for minutes fails its checks all that time, which is no fault; one that has been
healthy does not.
"""

from __future__ import annotations

from msgspec.structs import replace

from unitagent.core.actions import Action, Level, Log
from unitagent.core.probe_answers import describe_failed_check
from unitagent.core.state import Result, State

SHORTEST, LONGEST = 5.0, 60.0  # seconds between two lines about one check; the interval grows


def log_failed_checks(state: State) -> Result:
    """Log the failed checks that are due."""
    due = [check for check, failed in state.workload.failed_checks.items() if state.now >= failed.report_at]
    if not due:
        return state, ()
    checks = {**state.workload.failed_checks}
    actions: tuple[Action, ...] = ()
    level = Level.WARNING if state.workload.was_healthy else Level.INFO
    for check in due:
        failed = checks[check]
        pause = min(LONGEST, max(SHORTEST, state.now - failed.since))
        checks[check] = replace(failed, report_at=state.now + pause)
        actions += (Log(level, f"rank {state.config.rank}'s health {describe_failed_check(state, check)}"),)
    return state.with_workload(failed_checks=checks), actions
