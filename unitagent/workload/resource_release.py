"""What a workload may hold beside its processes: ports that it listened on, and GPUs.

Both go with the last process that has them open. That need not be one of ours: an ``sshd`` of the container
starts an engine's workers, a socket is handed to somebody else. So once no process of ours is left we look
whether they went too.

A GPU that stays held keeps a workload from starting only when whoever holds it is of ours: bears our mark, or
is kin of one that does. Others are told and nothing more, for somebody looks at an incident with tools of his
own (``kubectl exec POD -- nvtop``). A monitor that has been there all along is none of our business, nor is a
GPU of another container: one counts that the workload was seen to use, or any when we are PID 1, because then
all whom we can see are in this container.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from unitagent.system import procfs
from unitagent.workload import leftovers
from unitagent.workload.tcp_listeners import Inode, list_listeners

_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class HeldResources:
    """What did not go away, each as a clause for a person.

    Attributes:
        guests: what others than the workload have of it; worth a word, not worth waiting for.

    """

    ports: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
    held_by_others: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.ports or self.gpus)


class ResourceRelease:
    """What one workload at a time has."""

    def __init__(self, gpus: str = "/dev/nvidia") -> None:
        """Prepare; ``gpus`` is how the paths of the devices begin."""
        self._gpus = gpus
        self._since: int | None = None
        self._block: frozenset[int] = frozenset()
        self._sockets: set[Inode] = set()
        self._devices: set[str] = set()
        self._alone = os.getpid() == 1

    def begin_workload(self, pid: int, ports: Collection[int]) -> None:
        """A workload has been spawned; ``ports`` were free then and are meant for it alone."""
        main = procfs.read_process(pid)
        self._since = main.ticks if main else None
        self._block, self._sockets, self._devices = frozenset(ports), set(), set()

    def record_usage(self, pids: Collection[int]) -> None:
        """Note what these processes of the workload have open now. Blocks: not for the loop."""
        for target in (target for pid in pids for _, target in procfs.list_open_files(pid)):
            if target.startswith("socket:"):
                self._sockets.add(target)
            elif target.startswith(self._gpus):
                self._devices.add(target)

    def wait_until_free(self, limit: float) -> HeldResources:
        """Wait until all is free, at most ``limit`` seconds, and return what is not. Blocks."""
        deadline = time.monotonic() + limit
        while (left := self._find_held()) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        return left

    def _find_held(self) -> HeldResources:
        held = list(find_gpu_holders(self._gpus))
        ours = {one.pid for one in leftovers.find_escaped(procfs.read_process_table(), ())} if held else set()
        return HeldResources(
            tuple(self._find_held_ports()),
            tuple(_describe_holder(one, device) for one, device in held if one.pid in ours),
            tuple(
                f"{_describe_holder(one, device)}, which is none of its own"
                for one, device in held
                if one.pid not in ours and self._is_relevant(one, device)
            ),
        )

    def _find_held_ports(self) -> Iterator[str]:
        if not (self._sockets or self._block):
            return
        for inode, port in list_listeners():
            if inode in self._sockets or port in self._block:
                yield f"port {port} is still listened on by {_describe_owner(inode)}"

    def _is_relevant(self, process: procfs.Process, device: str) -> bool:
        """Whether it has come after the workload, and to the workload's GPU."""
        came_later = self._since is not None and process.ticks >= self._since
        return came_later and (self._alone or device in self._devices)


def _describe_holder(process: procfs.Process, device: str) -> str:
    return f"{device} is still held by process {process.pid} ({process.name})"


def find_gpu_holders(devices: str) -> Iterator[tuple[procfs.Process, str]]:
    """Whom we can see holding which GPU; ``devices`` is how their paths begin, a number follows. Blocks."""
    folder, _, beginning = devices.rpartition("/")
    if not any(Path(folder or "/").glob(f"{beginning}[0-9]*")):
        return
    for process in procfs.read_process_table().values():
        opened = {target for _, target in procfs.list_open_files(process.pid) if target.startswith(devices)}
        for device in sorted(opened):
            if device.removeprefix(devices).isdecimal():  # nvidiactl and its like are everybody's
                yield process, device


def _describe_owner(inode: Inode) -> str:
    for process in procfs.read_process_table().values():
        if any(target == inode for _, target in procfs.list_open_files(process.pid)):
            return f"process {process.pid} ({process.name})"
    return "a process that cannot be seen"
