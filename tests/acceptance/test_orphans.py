"""Orphans of the workload come to the agent, which reaps and counts them."""

from __future__ import annotations

import re
from pathlib import Path

from tests.acceptance.solo import Solo
from tests.waiting import until


def test_reaped_orphans_are_counted(tmp_path: Path) -> None:
    solo = Solo(tmp_path, DAEMON="(sleep 0.1 &); (sleep 0.1 &)")

    def count_reaped() -> float:
        found = re.search(r"^unitagent_reaped_total (\S+)$", solo.get("/metrics"), re.MULTILINE)
        return float(found[1]) if found else 0.0

    try:
        solo.ready()
        until(lambda: count_reaped() == 2, "both orphans are counted")
    finally:
        solo.close()
