"""What the machine knows: control groups and pressure, dumps of NCCL's flight recorder, NCCL's own view."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from glob import escape, glob  # patterns of whole paths
from pathlib import Path
from typing import TYPE_CHECKING

from unitagent.system.memory import find_memory_groups

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_LONGEST = 64 * 1024  # bytes of one file
_GROUP = (
    *("memory.current", "memory.peak", "memory.max", "memory.high", "memory.events", "memory.pressure"),
    *(
        "memory.stat",
        "memory.swap.current",
        "cpu.stat",
        "cpu.pressure",
        "io.pressure",
        "pids.current",
        "pids.max",
    ),
    *("memory.usage_in_bytes", "memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control"),
)
_SYSTEM = (
    "/proc/pressure/cpu",
    "/proc/pressure/memory",
    "/proc/pressure/io",
    "/proc/loadavg",
    "/proc/meminfo",
)
_SIZES = ("TORCH_NCCL_TRACE_BUFFER_SIZE", "TORCH_FR_BUFFER_SIZE")
_PIPES = ("TORCH_NCCL_DEBUG_INFO_PIPE_FILE", "TORCH_FR_DEBUG_INFO_PIPE_FILE")
_FILES = ("TORCH_NCCL_DEBUG_INFO_TEMP_FILE", "TORCH_FR_DUMP_TEMP_FILE")
_MOST_DUMPS = 16
_MOST_OF_A_DUMP = 4 << 20  # bytes
_LOOK = 0.05  # seconds between two looks for a dump
_RAS = "localhost:28028"  # where NCCL's RAS listens by default


def read_pressure() -> str:
    """Return memory, limits and pressure of this container and its machine, as the kernel writes them."""
    parts = []
    for group in find_memory_groups():
        parts += [_read_titled(str(group.folder / name)) for name in _GROUP]
    parts += [_read_titled(path) for path in _SYSTEM]
    with contextlib.suppress(OSError):
        shm = os.statvfs("/dev/shm")  # noqa: S108 (its size is the question)
        size, left = shm.f_blocks * shm.f_frsize, shm.f_bavail * shm.f_frsize
        parts.append(f"# /dev/shm\nsize {size}\nfree {left}\n")
    return "\n".join(filter(None, parts))


def _read_titled(path: str) -> str:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            text = file.read(_LONGEST).decode(errors="replace")
    except OSError:
        return ""
    return f"# {path}\n{text}"


def collect_dumps(environs: Iterable[Mapping[str, str]], limit: float) -> Iterator[tuple[str, bytes]]:
    """Ask NCCL's flight recorder for dumps where the user has set it up; yield name and bytes of each.

    A process writes a dump when it finds a byte in its pipe, or has written one at its own timeout.
    """
    users = [one for one in environs if any(_has_size(one.get(name)) for name in _SIZES)]
    asked = [pipe for one in users for pipe in _list_paths(one, _PIPES, ".pipe")]
    since = time.time()
    answered = [pipe for pipe in dict.fromkeys(asked) if _ask_pipe(pipe)]
    patterns = dict.fromkeys(path for one in users for path in _list_paths(one, _FILES, "") or _guess(one))
    deadline = time.monotonic() + limit
    while answered and time.monotonic() < deadline and not _is_fresh(patterns, since, len(answered)):
        time.sleep(_LOOK)
    paths = dict.fromkeys(found for one in patterns for found in sorted(glob(one)))  # noqa: PTH207
    for path in list(paths)[:_MOST_DUMPS]:
        with contextlib.suppress(OSError), open(path, "rb") as file:  # noqa: PTH123
            yield f"nccl.{Path(path).name}", file.read(_MOST_OF_A_DUMP)


def _has_size(text: str | None) -> bool:
    return text is not None and text.strip() not in ("", "0")


def _list_paths(environ: Mapping[str, str], names: Iterable[str], suffix: str) -> list[str]:
    """Return patterns of the paths that begin with the value of one of these variables, a rank behind it."""
    return [f"{escape(prefix)}[0-9]*{suffix}" for name in names if (prefix := environ.get(name, ""))]


def _guess(environ: Mapping[str, str]) -> list[str]:
    cache = environ.get("XDG_CACHE_HOME") or f"{environ.get('HOME', '')}/.cache"
    prefixes = ("/tmp/nccl_trace_rank_", f"{cache}/torch/comm_lib_trace_rank_")  # noqa: S108 (torch's own)
    return [f"{escape(prefix)}[0-9]*" for prefix in prefixes]


def _ask_pipe(pattern: str) -> bool:
    """Write into all pipes of this pattern that somebody reads; return whether there is one."""
    asked = False
    for path in glob(pattern)[:_MOST_DUMPS]:  # noqa: PTH207
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                asked = os.write(handle, b"1") == 1 or asked
            finally:
                os.close(handle)
    return asked


def _is_fresh(patterns: Iterable[str], since: float, wanted: int) -> bool:
    fresh = 0
    for path in (found for one in patterns for found in glob(one)):  # noqa: PTH207
        with contextlib.suppress(OSError):
            fresh += os.stat(path).st_mtime >= since  # noqa: PTH116
    return fresh >= wanted


def ask_ras(environs: Iterable[Mapping[str, str]], limit: float) -> str:
    """Return what NCCL's RAS says where it listens; empty if it does not."""
    address = next((one["NCCL_RAS_ADDR"] for one in environs if one.get("NCCL_RAS_ADDR")), _RAS)
    host, _, port = address.rpartition(":")
    deadline, raw = time.monotonic() + limit, b""
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=limit) as connection:
            connection.sendall(b"verbose status\n")
            while len(raw) < _LONGEST and (left := deadline - time.monotonic()) > 0:
                connection.settimeout(left)
                if not (piece := connection.recv(_LONGEST)):
                    break
                raw += piece
    except (OSError, ValueError):
        pass
    return raw.decode(errors="replace")
