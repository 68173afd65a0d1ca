"""Processes as ``/proc`` shows them: a table of all visible processes, and their relations.

Pids are reused, so a process is its pid *and* its start time, and :func:`send_signal` checks both.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

PROC = Path("/proc")
_MAX_LINE = 4096  # bytes; a line of ``/proc/PID/stat`` is a name of 64 and 50 numbers


@dataclass(frozen=True, slots=True)
class Process:
    """One line of ``/proc/PID/stat`` (proc(5)).

    Attributes:
        state: one letter; ``Z`` zombie, ``D`` cannot be interrupted, even by SIGKILL.
        ticks: start time in clock ticks since boot.

    """

    pid: int
    name: str
    state: str
    parent: int
    group: int
    ticks: int

    @property
    def alive(self) -> bool:
        """Whether it still runs; a zombie only waits to be reaped by its parent."""
        return self.state not in "ZX"


def read_process(pid: int) -> Process | None:
    """Return the process, or None if it does not exist (any more)."""
    try:
        text = read_line(f"{PROC}/{pid}/stat").decode(errors="replace")
    except OSError:
        return None
    # The name may contain anything, brackets included: the fields begin after the last one.
    head, _, tail = text.rpartition(") ")
    fields = tail.split()
    return Process(pid, head.partition(" (")[2], fields[0], int(fields[1]), int(fields[2]), int(fields[19]))


def read_line(path: str) -> bytes:
    """Read a short file of the kernel with three system calls; a file object needs ten.

    Raises:
        OSError: it is gone, or not ours to read.

    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(handle, _MAX_LINE)
    finally:
        os.close(handle)


def _read_all(path: str) -> bytes:
    """Read a file of ``/proc`` that is rarely long: all pieces but the last are full."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = piece = os.read(handle, _MAX_LINE)
        while len(piece) > _MAX_LINE // 2:
            data += (piece := os.read(handle, _MAX_LINE))
        return data
    finally:
        os.close(handle)


def list_pids() -> Iterator[int]:
    """Yield every visible pid."""
    return (int(name) for name in os.listdir(PROC) if name.isdecimal())  # noqa: PTH208  # see line


def read_link(path: str) -> str:
    """Return the target of a link of ``/proc``; empty if it is gone or unreadable."""
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""


def list_open_files(pid: int) -> Iterator[tuple[str, str]]:
    """Yield link and target of every open file of a process; none if we may not look."""
    with contextlib.suppress(OSError), os.scandir(PROC / str(pid) / "fd") as entries:
        for entry in entries:
            yield entry.path, read_link(entry.path)


def read_process_table() -> dict[int, Process]:
    """Return all visible processes by pid. Takes milliseconds: call it off the event loop."""
    processes = map(read_process, list_pids())
    return {process.pid: process for process in processes if process is not None}


def select_descendants(
    processes: Mapping[int, Process], root: int, spared: Collection[int] = ()
) -> list[Process]:
    """Return the descendants of ``root`` in the table, except ``spared`` ones and theirs."""
    children: dict[int, list[Process]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process)
    descendants: list[Process] = []
    queue = [root]
    while queue:
        born = [child for child in children.get(queue.pop(), ()) if child.pid not in spared]
        descendants += born
        queue += [child.pid for child in born]
    return descendants


def find_descendants(root: int, spared: Collection[int] = ()) -> list[Process]:
    """Return the descendants of ``root``, searched from parent to child: foreign processes cost nothing.

    A process that is created or loses its parent meanwhile may be missed: good for periodic checks, but not a
    proof. If the kernel does not list children (CONFIG_PROC_CHILDREN), all of ``/proc`` is read.
    """
    if not _kernel_lists_children():
        return select_descendants(read_process_table(), root, spared)
    descendants: list[Process] = []
    queue = [root]
    while queue:
        born = (read_process(pid) for pid in _list_children(queue.pop()) if pid not in spared)
        here = [process for process in born if process is not None]
        descendants += here
        queue += [process.pid for process in here]
    return descendants


def _list_children(pid: int) -> list[int]:
    """Return the pids of the children of each thread of this process; none if it is gone."""
    children: list[int] = []
    folder = f"{PROC}/{pid}/task"
    with contextlib.suppress(OSError):
        for thread in os.listdir(folder):  # noqa: PTH208  # see line
            with contextlib.suppress(OSError):
                children += map(int, _read_all(f"{folder}/{thread}/children").split())
    return children


@functools.cache
def _kernel_lists_children() -> bool:
    return Path(f"{PROC}/self/task/{os.getpid()}/children").exists()


def find_ancestor_pids(processes: Mapping[int, Process], pid: int) -> set[int]:
    """Return the pids of the parent, its parent and so on, as far as visible."""
    pids: set[int] = set()
    while (process := processes.get(pid)) is not None and process.parent not in pids:
        pids.add(pid := process.parent)
    return pids


def has_known_origin(processes: Mapping[int, Process], pid: int) -> bool:
    """Whether the table has all ancestors up to the root. While processes come and go the table may miss a
    parent, and then the owner of its children is unknown.
    """
    return find_ancestor_pids(processes, pid) <= {0, *processes}


def list_child_pids() -> frozenset[int]:
    """Return the pids of our own children, including zombies.

    Exact as long as none is reaped meanwhile: a child leaves the list only by being reaped. The kernel lists
    them per thread; if it was built without that (CONFIG_PROC_CHILDREN), all of ``/proc`` is read.
    """
    try:
        threads = os.listdir(f"{PROC}/self/task")  # noqa: PTH208  # called several times in a restart
        lists = [read_line(f"{PROC}/self/task/{thread}/children") for thread in threads]
    except OSError:
        lists = []
    if lists:
        return frozenset(int(pid) for text in lists for pid in text.split())
    me = os.getpid()
    return frozenset(process.pid for process in read_process_table().values() if process.parent == me)


def open_pidfd(pid: int) -> int | None:
    """Return a descriptor of this process, to be closed; None if there is none.

    Then the process is gone, the kernel refuses, or this Python was built for kernels without pidfd.
    """
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def kill_process(process: Process) -> None:
    """Send SIGKILL to exactly this process."""
    send_signal(process, signal.SIGKILL)


def send_signal(process: Process, number: int) -> None:
    """Send a signal to exactly this process, never to one that has reused its pid."""
    handle = open_pidfd(process.pid)
    try:
        now = read_process(process.pid)
        if now is not None and now.ticks == process.ticks:
            _deliver_signal(process.pid, handle, number)
    finally:
        if handle is not None:
            os.close(handle)


def _deliver_signal(pid: int, handle: int | None, number: int) -> None:
    """Send by the descriptor if possible; else rely on the check just before."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if handle is None or not _send_by_pidfd(handle, number):
            os.kill(pid, number)


def _send_by_pidfd(handle: int, number: int) -> bool:
    try:
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        raise
    except (AttributeError, OSError):
        return False
    return True
