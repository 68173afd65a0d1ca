"""The end of processes that a test has started."""

from __future__ import annotations

import signal
import subprocess
from typing import Any

from tests.waiting import DEADLINE
from unitagent.system import procfs


def kill_family(popen: subprocess.Popen[Any]) -> None:
    """Kill a process with all its descendants, and reap it.

    All are stopped before one is killed. An agent would start its workload again as soon as that dies, and
    the new one would outlive the agent and the watchdog, which are killed next.
    """
    stopped: dict[int, procfs.Process] = {}
    while popen.poll() is None and (new := _list_others(popen.pid, stopped)):
        for one in new:
            procfs.send_signal(one, signal.SIGSTOP)
            stopped[one.pid] = one
    for one in stopped.values():
        procfs.kill_process(one)
    popen.wait(DEADLINE)


def _list_others(pid: int, known: dict[int, procfs.Process]) -> list[procfs.Process]:
    """List those of its family, itself included, that are not known yet."""
    table = procfs.read_process_table()
    return [one for one in (table[pid], *procfs.select_descendants(table, pid)) if one.pid not in known]


def has_ended(pid: int) -> bool:
    """Whether it has ended; it may yet have to be reaped, which takes the first process of some machines
    seconds.
    """
    seen = procfs.read_process(pid)
    return seen is None or not seen.alive
