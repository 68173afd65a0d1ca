"""Removes shared memory that a workload left in ``/dev/shm``.

A file is removed if all of this holds:

1. It was not there when the workload was spawned (name and inode), it is a regular file at the top level, and
   our user owns it.
2. No process has it open or mapped. The kernel knows that for all namespaces, including processes that are
   invisible here: it grants an exclusive lease (``F_SETLEASE``, fcntl(2)) only on a file that no other
   process has open or mapped.
3. A process of our workload was seen to have it open or mapped for writing. The folder may be shared with
   other containers (of a pod, ``--ipc=container:``, ``--ipc=host``), whose processes are not visible here,
   and nothing shows which process made a file. So new files are sampled while they are in use: a file of a
   neighbour is not ours, even if our workload reads it.

If in doubt, a file stays: a leak is better than the loss of somebody else's file.
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

_FOLDER = Path("/dev/shm")  # noqa: S108 - the folder that is watched

_FRESH = 1_000_000_000  # nanoseconds in which two changes of a folder may have the same timestamp
_SAMPLES = 10  # at a new file, before it counts as foreign
_MAX_NAMED = 5  # file names in a message

Inode = int


class SharedMemory:
    """The files that one workload at a time made in ``/dev/shm``."""

    def __init__(self, folder: Path = _FOLDER) -> None:
        self._folder = folder
        self._before: set[tuple[str, Inode]] | None = None
        self._listed = 0  # the folder's date when these were listed; 0 if a later change might not change it
        self._seen: set[Inode] = set()
        self._looks: Counter[Inode] = Counter()
        self._dated = 0
        self._open = True

    def remember_existing(self) -> None:
        """Note the files that exist before a workload starts."""
        if self._before is None or self._is_outdated():
            date = self._read_date()
            self._before = set(self._list_files())
            self._listed = date if time.time_ns() - date >= _FRESH else 0
        self._seen, self._looks = set(), Counter()
        self._open = True

    def has_changed(self) -> bool:
        """Whether :meth:`has_new_files` may have a new answer, by the timestamp of the folder alone."""
        date = self._read_date()
        if not date:
            return False
        before, self._dated = self._dated, date
        again, self._open = self._open or date != before, time.time_ns() - date < _FRESH
        return again

    def has_new_files(self) -> bool:
        """Whether there are new files that the workload may have open. Blocks."""
        new = {
            inode for name, inode in self._list_files() if (name, inode) not in (self._before or ())
        } - self._seen
        self._looks = Counter({inode: self._looks[inode] + 1 for inode in new})
        worth = any(looks <= _SAMPLES for looks in self._looks.values())
        self._open = self._open or worth
        return worth

    def sample_writers(self, pids: Iterable[int]) -> None:
        """Note which files these processes of the workload can write to now. Blocks: call it off the event
        loop.
        """
        for pid in pids:
            self._seen.update(_list_writable(pid, f"{self._folder}/"))

    def has_leftovers(self) -> bool:
        """Whether there are new files for :meth:`remove_leftovers`; as cheap as listing a folder at most."""
        if self._before is None or not self._is_outdated():
            return False
        return any(file not in self._before for file in self._list_files())

    def remove_leftovers(self) -> list[str]:
        """Remove the files that the workload left, once per workload; return their names. Blocks."""
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
            names = ", ".join(others[:_MAX_NAMED])
            _log.info(
                "leaving %d new files in %s that other processes seem to have made: %s",
                len(others),
                self._folder,
                names,
            )
        if unsure:
            names = ", ".join(unsure)
            _log.warning(
                "leaving files in %s, since the kernel does not tell whether they are in use: %s",
                self._folder,
                names,
            )
        if removed:
            _log.info(
                "removed %d files that the workload left in %s: %s", len(removed), self._folder, removed
            )
        return removed

    def _is_outdated(self) -> bool:
        """Whether the folder may have changed since it was listed."""
        return not self._listed or self._read_date() != self._listed

    def _read_date(self) -> int:
        try:
            return os.stat(self._folder).st_mtime_ns  # noqa: PTH116  # called once a second
        except OSError:
            return 0

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
    """Yield inodes below ``folder`` that a process can write to; none if we may not look."""
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
    """Remove a file, unless a process uses it or it is gone already; return whether it was removed.

    Raises:
        OSError: the kernel does not tell whether it is in use (a sandbox kernel, a seccomp profile).

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
    except (BlockingIOError, FileNotFoundError):  # EAGAIN means that a process has it open
        return False
    finally:
        os.close(handle)  # releases the lease as well
    return True
