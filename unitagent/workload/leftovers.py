"""Processes that a former agent of this rank left running.

An agent that is killed together with its watchdog (SIGKILL, OOM) leaves its workload behind. Every process of
a workload carries the marker ``UNIT_AGENT`` = incarnation:pid:ticks of its agent in its environment, so the
next agent of the same rank can tell that the agent is gone, and kill what it left. A process that overwrote
its environment (to show a title) is found as a descendant or group member of one that did not.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from msgspec import Struct

from unitagent.system import procfs
from unitagent.workload.environment import MARKER

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_POLL_SECONDS = 0.02


_KEPT = ".keeper:"  # behind the incarnation, in the marker of a keeper


def make_marker(incarnation: str) -> str:
    """Return the value of ``UNIT_AGENT`` for the workloads of this process."""
    me = procfs.read_process(os.getpid())
    return f"{incarnation}:{os.getpid()}:{me.ticks if me else 0}"


def make_keeper_marker(marker: str) -> str:
    """Return the value for the keeper of the agent whose workloads have this one; empty stays empty."""
    return marker.replace(":", _KEPT, 1)


def is_kept(pid: int) -> bool:
    """Whether this process carries the marker of this agent's keeper. Blocks."""
    mark = _read_environment(pid).get(MARKER, "")
    return _KEPT in mark and mark.endswith(make_marker(""))


def find_kept(processes: Mapping[int, procfs.Process]) -> list[procfs.Process]:
    """Return living processes with the marker of this agent's keeper, and their relatives. Blocks.

    Needed if the kernel does not hand us orphans, as :func:`find_escaped` is.
    """
    spared = {os.getpid(), *procfs.find_ancestor_pids(processes, os.getpid())}
    kept = [one for one in processes.values() if one.pid not in spared and is_kept(one.pid)]
    return _add_relatives(kept, processes, spared)


class KillResult(Struct, frozen=True):
    """The result for a former agent's workload: pids that were killed, and pids that survive SIGKILL."""

    ended: tuple[int, ...]
    left: tuple[int, ...]


def kill_leftovers(unit: str, rank: int, timeout: float = 5.0) -> KillResult:
    """Kill what a dead agent of this rank left running, waiting at most ``timeout`` seconds. Blocks.

    Processes of a living agent, and those in another PID namespace, are never touched; if in
    doubt, a process is spared.
    """
    if not _proc_is_ours():
        return KillResult((), ())
    leftovers = find_leftovers(unit, rank)
    for process in leftovers:
        procfs.kill_process(process)
    until = time.monotonic() + timeout
    while (
        left := [process for process in leftovers if _is_still_alive(process)]
    ) and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
    return KillResult(
        tuple(process.pid for process in leftovers if process not in left),
        tuple(process.pid for process in left),
    )


def find_leftovers(unit: str, rank: int) -> list[procfs.Process]:
    """Return the living processes of a dead agent of this rank. Blocks."""
    processes = procfs.read_process_table()
    spared = {os.getpid(), *procfs.find_ancestor_pids(processes, os.getpid())}
    marked = [
        process
        for process in processes.values()
        if process.pid not in spared and process.alive and _is_orphaned(process.pid, unit, rank, processes)
    ]
    kin = _add_relatives(marked, processes, spared)
    return [process for process in kin if not _has_living_agent(process.pid, processes)]


def find_escaped(processes: Mapping[int, procfs.Process], known: Collection[int]) -> list[procfs.Process]:
    """Return living processes with the marker of this agent's workloads that are not ``known``. Blocks.

    Needed if the kernel does not hand us orphans: then a daemon of our workload has another parent.
    """
    spared = {os.getpid(), *procfs.find_ancestor_pids(processes, os.getpid()), *known}
    mine = [
        process
        for process in processes.values()
        if process.pid not in spared and _is_of_workload(process.pid)
    ]
    return _add_relatives(mine, processes, spared)


def _is_of_workload(pid: int) -> bool:
    mark = _read_environment(pid).get(MARKER, "")
    return mark.endswith(make_marker("")) and _KEPT not in mark


def _add_relatives(
    marked: Collection[procfs.Process], processes: Mapping[int, procfs.Process], spared: Collection[int]
) -> list[procfs.Process]:
    """Return these processes, their descendants and their process groups, as far as they live."""
    groups = {process.group for process in marked} - {os.getpgrp(), 0}
    kin = {process.pid: process for process in marked}
    for process in marked:
        kin.update((child.pid, child) for child in procfs.select_descendants(processes, process.pid, spared))
    kin.update((pid, process) for pid, process in processes.items() if process.group in groups)
    return [process for pid, process in kin.items() if pid not in spared and process.alive]


def has_agent(pid: int) -> bool:
    """Whether a process belongs to the workload of an agent that is alive. Blocks."""
    return _is_agent_alive(_read_environment(pid).get(MARKER, ""), procfs.read_process_table()) is True


def _proc_is_ours() -> bool:
    """Whether ``/proc`` shows our own PID namespace; else every pid in it means another process."""
    return procfs.read_link("/proc/self") == str(os.getpid())


def _is_orphaned(pid: int, unit: str, rank: int, processes: Mapping[int, procfs.Process]) -> bool:
    env = _read_environment(pid)
    if env.get("UNIT_ID") != unit or env.get("RANK_ID") != str(rank) or not _shares_namespaces(pid):
        return False
    return _is_agent_alive(env.get(MARKER, ""), processes) is False


def _has_living_agent(pid: int, processes: Mapping[int, procfs.Process]) -> bool:
    return _is_agent_alive(
        _read_environment(pid).get(MARKER, ""), processes
    ) is True or not _shares_namespaces(pid)


def _is_agent_alive(mark: str, processes: Mapping[int, procfs.Process]) -> bool | None:
    """Whether the agent of a marker is alive; None if it is not one of our markers."""
    words = mark.split(":")
    if len(words) != 3 or not all(word.isdecimal() for word in words[1:]):  # noqa: PLR2004
        return None
    agent = processes.get(int(words[1]))
    return agent is not None and agent.ticks == int(words[2]) and agent.alive


def _read_environment(pid: int) -> dict[str, str]:
    try:
        text = (procfs.PROC / str(pid) / "environ").read_bytes().decode(errors="replace")
    except OSError:  # not ours to read, so not ours to kill
        return {}
    pairs = (entry.partition("=") for entry in text.split("\0"))
    return {name: value for name, _, value in pairs}


def _shares_namespaces(pid: int) -> bool:
    """Whether pids and start times mean the same to that process as to us."""
    return all(
        procfs.read_link(f"/proc/{pid}/ns/{kind}") == procfs.read_link(f"/proc/self/ns/{kind}")
        for kind in ("pid", "time")
    )


def _is_still_alive(process: procfs.Process) -> bool:
    now = procfs.read_process(process.pid)
    return now is not None and now.ticks == process.ticks and now.alive
