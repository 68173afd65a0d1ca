"""What the kernel shows of the workload's processes: the tree, what each waits for, and which file it wants.

The invariant: one process that cannot be read delays no other. What is read first never waits; a command line
lies in the memory of its process, whose lock a hung driver may hold, so each is read in a thread of its own.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from unitagent.system import procfs

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

MOST_PROCESSES = 256
_MOST_THREADS = 32  # of a process
_MOST_FILES = 64  # of a process
_LONGEST_PATH = 512  # bytes
_LONGEST = 64 * 1024  # bytes of a file of ``/proc``
_PYTHON = "python"
_VITAL = ("/dev/", "/sys/", "socket:", "pipe:", "anon_inode:")  # open files of these kinds are only counted
_STATUS = ("VmRSS", "VmHWM", "VmSwap", "Threads", "SigBlk", "voluntary_ctxt_switches")
_OPENS = {257: 1, 2: 0, 437: 1, 56: 1}  # number of a system call -> argument that is the path
_CALLS = {  # system calls with a file as their first argument
    "x86_64": {
        0: "read",
        1: "write",
        17: "pread64",
        18: "pwrite64",
        19: "readv",
        45: "recvfrom",
        47: "recvmsg",
        43: "accept",
        288: "accept4",
        74: "fsync",
        75: "fdatasync",
        73: "flock",
        16: "ioctl",
        42: "connect",
    },
    "aarch64": {
        63: "read",
        64: "write",
        67: "pread64",
        68: "pwrite64",
        65: "readv",
        207: "recvfrom",
        212: "recvmsg",
        202: "accept",
        242: "accept4",
        82: "fsync",
        83: "fdatasync",
        32: "flock",
        29: "ioctl",
        203: "connect",
    },
}
_OPEN_CALLS = {"x86_64": (257, 2, 437), "aarch64": (56, 437)}


@dataclass(slots=True)
class ProcessSnapshot:
    """One process, as far as it could be read.

    Attributes:
        program: the path of its program; empty if it cannot be read.
        is_closed: the kernel lets us see nothing of it but what everybody sees.
        waits: where in the kernel each thread waits, the main one first: its id, state, place and what it
            does there.
        argv: the command line; empty if it could not be read in time.
        environ: ``NAME=value`` entries, never kept; only to know what is secret and where dumps are.

    """

    process: procfs.Process
    program: str = ""
    is_closed: bool = False
    status: dict[str, str] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    waits: list[str] = field(default_factory=list)
    doing: str = ""
    files: list[str] = field(default_factory=list)
    argv: list[str] = field(default_factory=list)
    environ: list[str] = field(default_factory=list)

    @property
    def is_python(self) -> bool:
        """Whether it runs a Python interpreter, or may do so."""
        return self.is_closed or os.path.basename(self.program).startswith(_PYTHON)  # noqa: PTH119 (a link's text)


def read_processes(agent: int, spared: Collection[int], limit: float) -> list[ProcessSnapshot]:
    """Return the descendants of the agent but for its services, within some ``limit`` seconds."""
    living = [one for one in procfs.find_descendants(agent, spared) if one.alive]
    seen = [ProcessSnapshot(one) for one in living[:MOST_PROCESSES]]
    run_threads([partial(_read_at_once, one) for one in seen], limit)
    run_threads([partial(_read_memory, one) for one in seen], limit)
    return seen


def run_threads(works: Iterable[Callable[[], object]], limit: float) -> None:
    """Run each in a thread, and wait for all of them, at most ``limit`` seconds."""
    threads = [threading.Thread(target=_run_quietly, args=(work,), daemon=True) for work in works]
    deadline = time.monotonic() + limit
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def _run_quietly(work: Callable[[], object]) -> None:
    with contextlib.suppress(OSError, ValueError, IndexError):  # the process has ended, or is hidden
        work()


def _read_at_once(seen: ProcessSnapshot) -> None:
    """Read what the kernel itself knows."""
    folder = f"{procfs.PROC}/{seen.process.pid}"
    try:
        seen.program = os.readlink(f"{folder}/exe").removesuffix(" (deleted)")  # noqa: PTH115 (as it stands)
    except OSError as error:
        seen.is_closed = isinstance(error, PermissionError)
    seen.status = _parse_status(_read(f"{folder}/status"))
    seen.cpu_seconds = _parse_cpu(_read(f"{folder}/stat"))
    seen.doing = describe_call(seen.process.pid, _read(f"{folder}/syscall"))
    for thread in sorted(map(int, os.listdir(f"{folder}/task")))[:_MOST_THREADS]:  # noqa: PTH208 (names)
        seen.waits.append(_describe_thread(f"{folder}/task/{thread}", thread))
    seen.files = _list_files(seen.process.pid)


def _read_memory(seen: ProcessSnapshot) -> None:
    """Read what lies in the memory of the process."""
    folder = f"{procfs.PROC}/{seen.process.pid}"
    seen.argv = [word for word in _read(f"{folder}/cmdline").split("\0") if word]
    seen.environ = _read(f"{folder}/environ").split("\0")


def _read(path: str) -> str:
    """Return a file of ``/proc``; empty if it cannot be read."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read(_LONGEST).decode(errors="replace")
    except OSError:
        return ""


def _parse_status(text: str) -> dict[str, str]:
    rows = (line.partition(":") for line in text.splitlines())
    return {name: " ".join(words.split()) for name, _, words in rows if name in _STATUS}


def _parse_cpu(stat: str) -> float:
    fields = stat.rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _describe_thread(folder: str, thread: int) -> str:
    stat = _read(f"{folder}/stat").rpartition(") ")
    name, state = stat[0].partition(" (")[2], stat[2][:1]
    wait, stack = _read(f"{folder}/wchan"), _read(f"{folder}/stack")
    words = [f"{thread} ({name})", f"state {state}", f"in {wait}" if wait not in ("", "0") else ""]
    places = [line.partition("] ")[2] for line in stack.splitlines() if "] " in line]
    return ", ".join(filter(None, [*words, f"kernel stack: {' < '.join(places)}" if places else ""]))


def describe_call(pid: int, text: str) -> str:
    """Describe a line of ``/proc/PID/syscall`` if it is about a file: ``read of /models/weights``."""
    words = text.split()
    if not words or not words[0].isdigit():  # running, or stopped outside of a system call
        return ""
    number, machine = int(words[0]), os.uname().machine
    arguments = [int(word, 16) for word in words[1:7]]
    if number in _OPEN_CALLS.get(machine, ()):
        path = _read_path(pid, arguments[_OPENS[number]])
        return f"open of {path}" if path else "open of a file"
    call = _CALLS.get(machine, {}).get(number)
    target = procfs.read_link(f"{procfs.PROC}/{pid}/fd/{arguments[0]}") if call else ""
    return f"{call} of {target}" if call and target else ""


def _read_path(pid: int, address: int) -> str:
    """Return the path at this address of a process; empty if we may not look."""
    try:
        handle = os.open(f"{procfs.PROC}/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        page = 4096 - address % 4096
        raw = os.pread(handle, min(_LONGEST_PATH, page), address)
    except OSError:
        return ""
    finally:
        os.close(handle)
    return raw.partition(b"\0")[0].decode(errors="replace")


def _list_files(pid: int) -> list[str]:
    """Return paths of real files that are open, and how many of each other kind."""
    kinds: dict[str, int] = {}
    paths: list[str] = []
    for _, target in procfs.list_open_files(pid):
        kind = next((kind for kind in _VITAL if target.startswith(kind)), "")
        if kind and not target.startswith(("/dev/nvidia", "/dev/shm", "/dev/infiniband")):  # noqa: S108
            kinds[kind.strip("/:")] = kinds.get(kind.strip("/:"), 0) + 1
        elif target and len(paths) < _MOST_FILES:
            paths.append(target)
    return [*sorted(set(paths)), *(f"{count} of kind {kind}" for kind, count in sorted(kinds.items()))]
