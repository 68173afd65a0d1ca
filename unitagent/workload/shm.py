"""Shared memory that a workload left in ``/dev/shm``: found by comparing, removed when nobody has it.

A file is removed when all of this holds:

1. It was not there when the workload was spawned (name and inode), it is a plain file at the top level, and
   it is owned by our user.
2. Nobody has it open or mapped. The kernel answers that for all namespaces, also for processes that we cannot
   see: it grants an exclusive lease (``F_SETLEASE``, fcntl(2)) only on a file that nobody else has open or
   mapped.
3. It is our workload's. Either a process of the workload was seen to have it open, or nobody else can have
   made it: we are PID 1, and the container does not share the host's IPC namespace (there other Units' files
   live).

The third rule is why a closed file of another Unit on the same machine is safe. What stays is only leaked,
never wrong.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from unitagent.workload import proc

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_log = logging.getLogger(__name__)

_FOLDER = Path("/dev/shm")  # noqa: S108 - the very place that is watched

_HOST_IPC = "ipc:[4026531839]"  # the kernel's first IPC namespace has this number (PROC_IPC_INIT_INO)

Inode = int


class SharedMemory:
    """What one workload at a time made in ``/dev/shm``.

    Attributes:
        exclusive: nobody but our workload can have made a new file there; else only files seen in use count.

    """

    def __init__(self, folder: Path = _FOLDER, *, exclusive: bool | None = None) -> None:
        self._folder = folder
        self.exclusive = _alone_here() if exclusive is None else exclusive
        self._before: set[tuple[str, Inode]] | None = None
        self._seen: set[Inode] = set()

    def remember(self) -> None:
        """Note what is there before a workload starts."""
        self._before = set(self._files())
        self._seen = set()

    def sample(self, pids: Iterable[int]) -> None:
        """Note which files these processes of the workload have open or mapped. Blocks: not for the loop."""
        for pid in pids:
            self._seen.update(_held(pid, f"{self._folder}/"))

    def clean(self) -> list[str]:
        """Remove what the workload left and return the names; once per workload. Blocks: not for the loop."""
        if self._before is None:
            return []
        left = [file for file in self._files() if file not in self._before and self._ours(file[1])]
        removed, unsure = [], []
        for name, inode in left:
            try:
                if _remove_if_free(self._folder / name, inode):
                    removed.append(name)
            except OSError:
                unsure.append(name)
        self._before = None
        if unsure:
            told = ", ".join(unsure)
            _log.warning("stays in %s, for the kernel does not tell who has it: %s", self._folder, told)
        if removed:
            _log.info(
                "removed %d files that the workload left in %s: %s", len(removed), self._folder, removed
            )
        return removed

    def _ours(self, inode: Inode) -> bool:
        return self.exclusive or inode in self._seen

    def _files(self) -> Iterator[tuple[str, Inode]]:
        try:
            entries = list(os.scandir(self._folder))
        except OSError:
            return
        for entry in entries:
            with contextlib.suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
                    yield entry.name, status.st_ino


def _alone_here() -> bool:
    return os.getpid() == 1 and proc.link("/proc/self/ns/ipc") not in ("", _HOST_IPC)


def _held(pid: int, folder: str) -> Iterator[Inode]:
    """Inodes below ``folder`` that a process has open or mapped; nothing when it may not be looked at."""
    for link, target in proc.open_files(pid):
        if target.startswith(folder):
            with contextlib.suppress(OSError):
                yield Path(link).stat().st_ino
    with contextlib.suppress(OSError), Path(f"/proc/{pid}/maps").open(errors="replace") as maps:
        for line in maps:
            # address, permissions, offset, device, inode, and a path if there is a file
            *_, inode, path = [*line.split(None, 5), ""][:6]
            if path.startswith(folder):
                yield int(inode)


def _remove_if_free(path: Path, inode: Inode) -> bool:
    """Remove it, unless somebody has it or it is gone already.

    Raises:
        OSError: whether somebody has it cannot be told: a sandbox kernel, say, or a seccomp profile.

    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        if os.fstat(handle).st_ino != inode:
            return False
        path.unlink()
    except (BlockingIOError, FileNotFoundError):  # EAGAIN is how the kernel says that somebody has it
        return False
    finally:
        os.close(handle)  # gives the lease back as well
    return True
