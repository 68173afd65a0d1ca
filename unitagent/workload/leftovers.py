"""What a former agent of this rank may have left running.

An agent that dies without a word (SIGKILL, OOM), and its watchdog with it, leaves its workload behind. Every
process of a workload carries the marker ``UNIT_AGENT`` = incarnation:pid:ticks of its agent in its
environment, so the next agent of the same rank can tell that the agent is gone, and end what it left. A
process that wiped its environment (to show a title) is found as a descendant or group member of one that did
not.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unitagent.workload import proc
from unitagent.workload.environment import MARKER

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_POLL_SECONDS = 0.02


def marker(incarnation: str) -> str:
    """Return the value of ``UNIT_AGENT`` for the workloads of this process."""
    me = proc.read(os.getpid())
    return f"{incarnation}:{os.getpid()}:{me.ticks if me else 0}"


@dataclass(frozen=True, slots=True)
class Former:
    """What was done about a former agent's workload: pids that were ended, and those that would not end."""

    ended: tuple[int, ...]
    left: tuple[int, ...]


def end_former(unit: str, rank: int, timeout: float = 5.0) -> Former:
    """End what a former, dead agent of this rank left running, waiting at most ``timeout`` seconds. Blocks.

    A living agent's processes are never touched, nor anybody in another PID namespace: what cannot be judged
    is spared.
    """
    if not _proc_is_ours():
        return Former((), ())
    found = find_former(unit, rank)
    for process in found:
        proc.kill(process)
    until = time.monotonic() + timeout
    while (left := [process for process in found if _still(process)]) and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
    return Former(
        tuple(process.pid for process in found if process not in left), tuple(process.pid for process in left)
    )


def find_former(unit: str, rank: int) -> list[proc.Process]:
    """Return the living processes of a former, dead agent of this rank. Blocks."""
    processes = proc.table()
    spared = {os.getpid(), *proc.ancestors(processes, os.getpid())}
    marked = [
        process
        for process in processes.values()
        if process.pid not in spared and process.alive and _orphaned(process.pid, unit, rank, processes)
    ]
    kin = _with_kin(marked, processes, spared)
    return [process for process in kin if not _cared_for(process.pid, processes)]


def escaped(processes: Mapping[int, proc.Process], known: Collection[int]) -> list[proc.Process]:
    """Return who bears the mark of this very process, is alive and not ``known``. Blocks.

    For where the kernel hands us no orphans: a daemon of our workload has another parent by now.
    """
    spared = {os.getpid(), *proc.ancestors(processes, os.getpid()), *known}
    mine = [
        process
        for process in processes.values()
        if process.pid not in spared and _environment(process.pid).get(MARKER, "").endswith(marker(""))
    ]
    return _with_kin(mine, processes, spared)


def _with_kin(
    marked: Collection[proc.Process], processes: Mapping[int, proc.Process], spared: Collection[int]
) -> list[proc.Process]:
    """Those that are alive among them, their descendants and the members of their groups."""
    groups = {process.group for process in marked} - {os.getpgrp(), 0}
    kin = {process.pid: process for process in marked}
    for process in marked:
        kin.update((child.pid, child) for child in proc.descendants(processes, process.pid, spared))
    kin.update((pid, process) for pid, process in processes.items() if process.group in groups)
    return [process for pid, process in kin.items() if pid not in spared and process.alive]


def has_agent(pid: int) -> bool:
    """Whether a process belongs to the workload of an agent that is alive. Blocks."""
    return _agent_lives(_environment(pid).get(MARKER, ""), proc.table()) is True


def _proc_is_ours() -> bool:
    """Whether ``/proc`` shows our own PID namespace; else every pid in it means somebody else."""
    return proc.link("/proc/self") == str(os.getpid())


def _orphaned(pid: int, unit: str, rank: int, processes: Mapping[int, proc.Process]) -> bool:
    env = _environment(pid)
    if env.get("UNIT_ID") != unit or env.get("RANK_ID") != str(rank) or not _same_namespaces(pid):
        return False
    return _agent_lives(env.get(MARKER, ""), processes) is False


def _cared_for(pid: int, processes: Mapping[int, proc.Process]) -> bool:
    return _agent_lives(_environment(pid).get(MARKER, ""), processes) is True or not _same_namespaces(pid)


def _agent_lives(mark: str, processes: Mapping[int, proc.Process]) -> bool | None:
    """Whether the agent of a marker is alive; None when it is no marker of ours."""
    words = mark.split(":")
    if len(words) != 3 or not all(word.isdecimal() for word in words[1:]):  # noqa: PLR2004
        return None
    agent = processes.get(int(words[1]))
    return agent is not None and agent.ticks == int(words[2]) and agent.alive


def _environment(pid: int) -> dict[str, str]:
    try:
        text = (proc.PROC / str(pid) / "environ").read_bytes().decode(errors="replace")
    except OSError:  # not ours to read: then not ours to end
        return {}
    pairs = (entry.partition("=") for entry in text.split("\0"))
    return {name: value for name, _, value in pairs}


def _same_namespaces(pid: int) -> bool:
    """Pids and start times mean the same to that process's agent as to us."""
    return all(
        proc.link(f"/proc/{pid}/ns/{kind}") == proc.link(f"/proc/self/ns/{kind}") for kind in ("pid", "time")
    )


def _still(process: proc.Process) -> bool:
    now = proc.read(process.pid)
    return now is not None and now.ticks == process.ticks and now.alive
