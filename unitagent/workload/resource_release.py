"""Resources that may outlive the processes of a workload: ports that it listened on, and GPUs.

Both are released by the last process that has them open. That process need not be ours: an ``sshd`` of the
container may start an engine's workers, or a socket may be passed to another process. So once none of our
processes is left, we check whether the resources were released too.

A held GPU blocks the next workload only if its holder belongs to us: it has our marker, or is related to a
process that has it. Other holders are only logged, since people inspect an incident with tools of their own
(``kubectl exec POD -- nvtop``). Holders that were there before the workload do not matter, nor do GPUs of
other containers: a GPU counts if the workload was seen to use it, or if we are PID 1, because then we only
see this container. This agent's keeper is meant to hold its GPUs.
"""

from __future__ import annotations

import os
import time
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
