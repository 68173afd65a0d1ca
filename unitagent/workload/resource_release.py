"""Resources that may outlive the processes of a workload: ports that it listened on, GPUs, and shared memory.

Ports and GPUs are released by the last process that has them open. That process need not be ours: an ``sshd``
of the container may start an engine's workers, or a socket may be passed to another process. So once none of
our processes is left, we check whether the resources were released too.

A held GPU blocks the next workload only if its holder belongs to us: it has our marker, or is related to a
process that has it. Other holders are only logged, since people inspect an incident with tools of their own
(``kubectl exec POD -- nvtop``). Holders that were there before the workload do not matter, nor do GPUs of
other containers: a GPU counts if the workload was seen to use it, or if we are PID 1, because then we only
see this container. This agent's keeper is meant to hold its GPUs.

A file in ``/dev/shm`` is removed if all of this holds (:class:`SharedMemory`):

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
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from msgspec import Struct

from unitagent.system import procfs
from unitagent.system.tcp_sockets import TcpSocket, list_listeners, query_listeners
from unitagent.workload import leftovers

_POLL_SECONDS = 0.1


class HeldResources(Struct, frozen=True):
    """What was not released, as clauses for a message.

    Attributes:
        held_by_others: resources held by foreign processes; logged, but not waited for.

    """

    ports: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
    held_by_others: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.ports or self.gpus)


class ResourceRelease:
    """Waits until the resources of one workload at a time are released."""

    def __init__(self, gpus: str = "/dev/nvidia") -> None:
        """Prepare; ``gpus`` is the prefix of the paths of GPU devices."""
        self._gpus = gpus
        self._since: int | None = None
        self._block: frozenset[int] = frozenset()
        self._sockets: set[str] = set()
        self._devices: set[str] = set()
        self._alone = os.getpid() == 1

    def begin_workload(self, pid: int, ports: Collection[int]) -> None:
        """Begin with a workload just spawned; ``ports`` were free then and are meant for it alone."""
        main = procfs.read_process(pid)
        self._since = main.ticks if main else None
        self._block, self._sockets, self._devices = frozenset(ports), set(), set()

    def record_usage(self, pids: Collection[int]) -> None:
        """Note what these processes of the workload have open now. Blocks: call it off the event loop."""
        for target in (target for pid in pids for _, target in procfs.list_open_files(pid)):
            if target.startswith("socket:"):
                self._sockets.add(target)
            elif target.startswith(self._gpus):
                self._devices.add(target)

    def is_free(self) -> bool:
        """Whether a glance that never blocks shows that nothing is held: there is no GPU, and among the
        listeners that the kernel lists there is none of the workload's.
        """
        if has_gpus(self._gpus):
            return False
        try:
            return not self._wants_ports() or not any(self._find_own_listeners(query_listeners()))
        except OSError:
            return False

    def wait_until_free(self, limit: float) -> HeldResources:
        """Wait until everything is released, at most ``limit`` seconds; return what is not. Blocks."""
        deadline = time.monotonic() + limit
        while (left := self._find_held()) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        return left

    def _find_held(self) -> HeldResources:
        held = [
            (one, device) for one, device in find_gpu_holders(self._gpus) if not leftovers.is_kept(one.pid)
        ]
        ours = {one.pid for one in leftovers.find_escaped(procfs.read_process_table(), ())} if held else set()
        return HeldResources(
            tuple(self._find_held_ports()),
            tuple(_describe_holder(one, device) for one, device in held if one.pid in ours),
            tuple(
                f"{_describe_holder(one, device)}, which does not belong to it"
                for one, device in held
                if one.pid not in ours and self._is_relevant(one, device)
            ),
        )

    def _find_held_ports(self) -> Iterator[str]:
        if not self._wants_ports():
            return
        for listener in self._find_own_listeners(list_listeners()):
            yield f"port {listener.port} is still in use by {_describe_owner(listener.link)}"

    def _wants_ports(self) -> bool:
        return bool(self._sockets or self._block)

    def _find_own_listeners(self, listeners: Iterable[TcpSocket]) -> Iterator[TcpSocket]:
        return (one for one in listeners if one.link in self._sockets or one.port in self._block)

    def _is_relevant(self, process: procfs.Process, device: str) -> bool:
        """Whether it started after the workload, and uses a GPU of the workload."""
        came_later = self._since is not None and process.ticks >= self._since
        return came_later and (self._alone or device in self._devices)


def _describe_holder(process: procfs.Process, device: str) -> str:
    return f"{device} is still held by process {process.pid} ({process.name})"


def has_gpus(devices: str) -> bool:
    """Whether this machine has GPUs; ``devices`` is the prefix of their paths."""
    folder, _, beginning = devices.rpartition("/")
    return any(Path(folder or "/").glob(f"{beginning}[0-9]*"))


def find_gpu_holders(devices: str) -> Iterator[tuple[procfs.Process, str]]:
    """Yield visible processes and the GPU that each holds; ``devices`` is the prefix of the paths. Blocks."""
    if not has_gpus(devices):
        return
    for process in procfs.read_process_table().values():
        opened = {target for _, target in procfs.list_open_files(process.pid) if target.startswith(devices)}
        for device in sorted(opened):
            if device.removeprefix(devices).isdecimal():  # nvidiactl and the like are shared by all
                yield process, device


def _describe_owner(link: str) -> str:
    for process in procfs.read_process_table().values():
        if any(target == link for _, target in procfs.list_open_files(process.pid)):
            return f"process {process.pid} ({process.name})"
    return "a process that is not visible here"


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
