"""Shared memory that a workload left in ``/dev/shm``: found by comparing, removed when nobody has it.

A file is removed when all of this holds:

1. It was not there when the workload was spawned (name and inode), it is a plain file at the top level, and
   it is owned by our user.
2. Nobody has it open or mapped. The kernel answers that for all namespaces, also for processes that we cannot
   see: it grants an exclusive lease (``F_SETLEASE``, fcntl(2)) only on a file that nobody else has open or
   mapped.
3. A process of our workload was seen to have it open for writing, or mapped so. A folder may be shared with
   other containers (those of a pod, ``--ipc=container:``, ``--ipc=host``), whose processes nobody here sees,
   and nothing tells who made a file. So what is new is looked at while it is in use: what a neighbour made is
   not ours, nor is it when our workload reads it.

What stays is only leaked, never wrong.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import stat
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from unitagent.system import procfs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_log = logging.getLogger(__name__)

_FOLDER = Path("/dev/shm")  # noqa: S108 - the very place that is watched

_FRESH = 1_000_000_000  # nanoseconds in which a folder may change twice and have one date
_LOOKS = 10  # at a new file, before it counts as somebody else's
_NAMED = 5  # of them, at most

Inode = int


class SharedMemory:
    """What one workload at a time made in ``/dev/shm``."""

    def __init__(self, folder: Path = _FOLDER) -> None:
        self._folder = folder
        self._before: set[tuple[str, Inode]] | None = None
        self._seen: set[Inode] = set()
        self._looks: Counter[Inode] = Counter()
        self._dated = 0
        self._open = True

    def remember_existing(self) -> None:
        """Note what is there before a workload starts."""
        self._before = set(self._list_files())
        self._seen, self._looks = set(), Counter()
        self._open = True

    def has_changed(self) -> bool:
        """Whether it is worth asking if it has :meth:`grown`, by the folder's date alone."""
        try:
            date = os.stat(self._folder).st_mtime_ns  # noqa: PTH116  # asked by every agent, again and again
        except OSError:
            return False
        before, self._dated = self._dated, date
        again, self._open = self._open or date != before, time.time_ns() - date < _FRESH
        return again

    def has_new_files(self) -> bool:
        """Whether there are new files that it is worth looking for at the workload. Blocks."""
        new = {
            inode for name, inode in self._list_files() if (name, inode) not in (self._before or ())
        } - self._seen
        self._looks = Counter({inode: self._looks[inode] + 1 for inode in new})
        worth = any(looks <= _LOOKS for looks in self._looks.values())
        self._open = self._open or worth
        return worth

    def sample_writers(self, pids: Iterable[int]) -> None:
        """Note which files these processes of the workload can write to now. Blocks: not for the loop."""
        for pid in pids:
            self._seen.update(_list_writable(pid, f"{self._folder}/"))

    def remove_leftovers(self) -> list[str]:
        """Remove what the workload left and return the names; once per workload. Blocks: not for the loop."""
        if self._before is None:
            return []
        new = [file for file in self._list_files() if file not in self._before]
        removed, unsure = [], []
        for name, inode in new:
            try:
                if inode in self._seen and _remove_if_free(self._folder / name, inode):
                    removed.append(name)
            except OSError:
                unsure.append(name)
        self._before = None
        if others := [name for name, inode in new if inode not in self._seen]:
            told = ", ".join(others[:_NAMED])
            _log.info(
                "%d new files stay in %s, which others made as it seems: %s", len(others), self._folder, told
            )
        if unsure:
            told = ", ".join(unsure)
            _log.warning("stays in %s, for the kernel does not tell who has it: %s", self._folder, told)
        if removed:
            _log.info(
                "removed %d files that the workload left in %s: %s", len(removed), self._folder, removed
            )
        return removed

    def _list_files(self) -> Iterator[tuple[str, Inode]]:
        try:
            entries = list(os.scandir(self._folder))
        except OSError:
            return
        for entry in entries:
            with contextlib.suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
                    yield entry.name, status.st_ino


def _list_writable(pid: int, folder: str) -> Iterator[Inode]:
    """Inodes below ``folder`` that a process can write to; nothing when it may not be looked at."""
    for link, target in procfs.list_open_files(pid):
        if target.startswith(folder):
            with contextlib.suppress(OSError):
                # the link's own permissions say how it was opened
                if Path(link).lstat().st_mode & stat.S_IWUSR:
                    yield Path(link).stat().st_ino
    with contextlib.suppress(OSError), Path(f"/proc/{pid}/maps").open(errors="replace") as maps:
        for line in maps:
            # address, permissions, offset, device, inode, and a path if there is a file
            _, permissions, _, _, inode, path, *_ = [*line.split(None, 5), ""]
            if path.startswith(folder) and "w" in permissions and "s" in permissions:
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
