"""The workload, run by the agent's own user: it reads nothing of the agent, and disarms no watchdog."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.acceptance.solo import Solo
from tests.security.victims import ATTACKERS
from tests.waiting import until
from unitagent.system import procfs

SECRET = "hunter2-hunter2-hunter2"  # noqa: S105
UNPRIVILEGED = ("setpriv", "--bounding-set", "-all") if os.geteuid() == 0 else ()
TRIES = "cat /proc/$PPID/environ /proc/$PPID/mem; readlink /proc/$PPID/fd/*; for w in $(pgrep -P $PPID); do"
TRIES += " grep -qa unitagent-watchdog /proc/$w/cmdline && echo rest >/proc/$w/fd/0 && echo disarmed; done"


def watchdog(solo: Solo) -> int:
    for one in procfs.select_descendants(procfs.read_process_table(), solo.popen.pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended since
            if b"unitagent-watchdog" in Path(f"/proc/{one.pid}/cmdline").read_bytes():
                return one.pid
    return 0


def test_the_workload_reads_nothing_of_its_agent(tmp_path: Path) -> None:
    daemon = f"( {TRIES} ) >{tmp_path}/seen 2>/dev/null; touch {tmp_path}/tried"
    solo = Solo(tmp_path, prefix=UNPRIVILEGED, UNIT_SECRET=SECRET, DAEMON=daemon)
    try:
        until((tmp_path / "tried").exists, "the workload has tried")
        assert (tmp_path / "seen").read_bytes() == b""
    finally:
        solo.close()


@pytest.mark.root
def test_the_agent_s_own_environment_does_not_keep_the_secret(tmp_path: Path) -> None:
    solo = Solo(tmp_path, UNIT_SECRET=SECRET)
    try:
        solo.ready()
        seen = Path(f"/proc/{solo.popen.pid}/environ").read_bytes()
        assert SECRET.encode() not in seen
    finally:
        solo.close()


def test_a_watchdog_that_is_killed_is_brought_back(tmp_path: Path) -> None:
    solo = Solo(tmp_path)
    try:
        solo.ready()
        first = watchdog(solo)
        os.kill(first, signal.SIGKILL)
        until(lambda: watchdog(solo) not in {0, first}, "another watchdog")
    finally:
        solo.close()


def test_a_watchdog_that_is_stopped_is_replaced(tmp_path: Path) -> None:
    solo = Solo(tmp_path)
    try:
        solo.ready()
        first = watchdog(solo)
        os.kill(first, signal.SIGSTOP)
        until(lambda: watchdog(solo) not in {0, first}, "another watchdog")
        assert procfs.read_process(first) is None
        until(lambda: "the watchdog has been stopped" in solo.output.read_text(), "it is told")
    finally:
        solo.close()


@pytest.mark.slow
@pytest.mark.alone  # they leave nobody else a processor
def test_a_process_that_always_has_a_successor_is_ended_too(tmp_path: Path) -> None:
    """By its own number it cannot be hit: whoever bears that is gone by then. Thousands die each second."""
    daemon = f"test $UNIT_GENERATION != 1 || {sys.executable} -S {ATTACKERS / 'comet.py'}"
    solo = Solo(tmp_path, DAEMON=daemon, UNIT_RESTART_GRACE_SECONDS="0.5")
    try:
        solo.ready()
        solo.run("restart")
        solo.ready(above=1)
    finally:
        solo.close()
