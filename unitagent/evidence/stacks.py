"""Stacks of Python processes, taken by py-spy where it is installed.

The invariant: the processes are only read, never paused, so one that is stopped or stuck is read like any
other, and a reader that is killed leaves nothing behind. Values of variables are never read.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass

_MOST_FRAMES = 100  # of a thread
_LONGEST = 4 << 20  # bytes of an answer that are read
_LONGEST_FAILURE = 1000  # characters
_REFUSALS = ("permission denied", "operation not permitted")
_SYS_PTRACE = 19  # the number of this capability


@dataclass(frozen=True, slots=True)
class Frame:
    """One call, by function, file and line."""

    function: str
    file: str
    short: str
    line: int

    def __str__(self) -> str:
        return f"{self.function} ({self.short}:{self.line})"


@dataclass(frozen=True, slots=True)
class ThreadStack:
    """The calls of one thread, the innermost first.

    Attributes:
        is_main: it is the first thread of its process.
        is_active: it was running, and did not wait.

    """

    pid: int
    thread: int
    name: str
    is_main: bool
    is_active: bool
    frames: tuple[Frame, ...]


def find_tool() -> str | None:
    """Return the path of py-spy: next to this Python, or on PATH; None if it is not installed."""
    beside = os.path.join(os.path.dirname(sys.executable), "py-spy")  # noqa: PTH118, PTH120 (of a venv, unresolved)
    return beside if os.access(beside, os.X_OK) else shutil.which("py-spy")


def build_command(tool: str, pid: int) -> list[str]:
    """Return the command that prints the stacks of a process as JSON."""
    return [tool, "dump", "--nonblocking", "--full-filenames", "--json", "--pid", str(pid)]


def parse_stacks(raw: bytes) -> list[ThreadStack]:
    """Read what py-spy printed; nothing of what cannot be read."""
    try:
        threads = json.loads(raw[:_LONGEST])
        return [_parse_thread(one) for one in threads]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return []


def _parse_thread(raw: dict[str, object]) -> ThreadStack:
    frames = raw["frames"]
    if not isinstance(frames, list):
        raise TypeError
    pid, thread = int(str(raw["pid"])), int(str(raw.get("os_thread_id") or 0))
    return ThreadStack(
        pid,
        thread,
        str(raw.get("thread_name") or ""),
        pid == thread,
        bool(raw.get("active")),
        tuple(_parse_frame(one) for one in frames[:_MOST_FRAMES]),
    )


def _parse_frame(raw: dict[str, object]) -> Frame:
    file = str(raw["filename"])
    short = "/".join(file.split("/")[-2:]) if "site-packages" in file else file.rsplit("/", 1)[-1]
    return Frame(str(raw["name"]), file, short, int(str(raw.get("line") or 0)))


def describe_failure(raw: bytes) -> str:
    """Return in one line what py-spy printed instead of stacks."""
    words = raw.decode(errors="replace").partition("Stack backtrace")[0]
    return " ".join(words.split())[:_LONGEST_FAILURE] or "no answer in time"


def explain_failure(pid: int, why: str) -> str:
    """Return why the stacks of a process could not be read, and what to do if the container may not."""
    if not any(words in why.lower() for words in _REFUSALS):
        return f"py-spy, process {pid}: {why}"
    remedy = _find_remedy(_read("/proc/self/status"), _read("/proc/sys/kernel/yama/ptrace_scope"))
    return f"py-spy may not read process {pid}, so there are no Python stacks: {remedy}"


def _find_remedy(status: str, scope: str) -> str:
    """Return what makes the kernel allow it, from our ``/proc/self/status`` and Yama's scope."""
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    if int(fields.get("CapEff", "0"), 16) >> _SYS_PTRACE & 1:
        return "allow process_vm_readv and ptrace in the container's seccomp profile"
    is_root = fields.get("Uid", "0").split()[0] == "0"  # the capability is without effect for others
    who, user = ("give the container", "") if is_root else ("run the container as root with", " --user 0")
    host = "set kernel.yama.ptrace_scope=0 on the host, or " if scope.strip() not in ("", "0") else ""
    return (
        f"{host}{who} the capability SYS_PTRACE (docker run{user} --cap-add SYS_PTRACE; in Kubernetes "
        "securityContext)"
    )


def _read(path: str) -> str:
    """Return a file of ``/proc``; empty if it is not there."""
    try:
        with open(path) as file:  # noqa: PTH123
            return file.read()
    except OSError:
        return ""


def format_stacks(stacks: list[ThreadStack]) -> str:
    """Format the stacks of one process for people, the main thread first."""
    lines = []
    for one in sorted(stacks, key=lambda stack: (not stack.is_main, stack.thread)):
        state = "active" if one.is_active else "idle"
        lines.append(f"  thread {one.thread} ({state}) {one.name}".rstrip())
        lines += [f"    {frame.function} ({frame.file}:{frame.line})" for frame in one.frames]
    return "\n".join(lines)
