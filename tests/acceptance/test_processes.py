"""``unitagent processes`` and the metrics of a real agent's workload."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from tests.acceptance.solo import Solo
from tests.operator.command import run
from tests.waiting import until


def test_it_shows_what_the_workload_uses(tmp_path: Path) -> None:
    solo = Solo(tmp_path)
    try:
        pid = solo.ready()["instances"][0]["pid"]
        found = json.loads(solo.run("processes", "--json"))
        main = next(one for one in found if one["pid"] == pid)
        assert main["memory_bytes"] > 100_000
        assert main["threads"] >= 1
        assert main["open_files"] >= 1
        head, *rows = solo.run("processes").splitlines()
        assert head.split() == ["pid", "parent", "name", "cpu", "memory", "threads", "files", "age"]
        assert len(rows) == len(found)
    finally:
        solo.close()


def test_without_an_agent_it_says_so() -> None:
    done = run("processes", "--http-address", "127.0.0.1:9")
    assert done.returncode == 1
    assert "no agent answers at 127.0.0.1:9: run this command in a container of the Unit" in done.stderr


# A process that computes 0.3 s, and then has 3 threads, 6 more open files and 40 MiB.
BUSY = """
import threading, time
while time.process_time() < 0.3:
    pass
for _ in range(2):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
files, memory = [open("/dev/null") for _ in range(6)], b"x" * (40 << 20)
open("busy", "w").close()
time.sleep(1000)
"""


def test_the_metrics_show_what_a_tree_of_processes_uses(tmp_path: Path) -> None:
    (tmp_path / "busy.py").write_text(BUSY)
    tree = f"(cd {tmp_path} && {sys.executable} busy.py & wait) & "
    solo = Solo(tmp_path, DAEMON=tree)
    try:
        solo.ready()
        until((tmp_path / "busy").exists, "the process is busy")
        first = scrape(solo)
        listed = json.loads(solo.get("/processes"))
        assert first["processes"] == len(listed) >= 3  # sleep, the subshell, Python
        assert 0.3 <= first["cpu_seconds_total"] < 60
        assert first["memory_bytes"] > 40 << 20
        assert first["threads"] == sum(one["threads"] for one in listed) >= 5
        assert first["open_files"] >= 6
        (busy,) = (one["pid"] for one in listed if one["threads"] == 3)
        os.kill(busy, signal.SIGKILL)
        until(lambda: scrape(solo)["processes"] < first["processes"], "it is gone")
        then = scrape(solo)
        assert then["cpu_seconds_total"] >= first["cpu_seconds_total"], "a counter never falls"
        assert then["memory_bytes"] < first["memory_bytes"] - (40 << 20)
    finally:
        solo.close()


def scrape(solo: Solo) -> dict[str, float]:
    """The metrics of the workload, without their prefix."""
    rows = (line.split() for line in solo.get("/metrics").splitlines())
    prefix = "unitagent_workload_"
    return {row[0].removeprefix(prefix): float(row[1]) for row in rows if row[0].startswith(prefix)}
