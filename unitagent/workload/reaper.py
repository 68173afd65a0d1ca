"""The only place that calls ``waitpid``: it learns of every death, and can prove that nothing is left.

The proof. This process is PID 1 or a subreaper, so a descendant whose parent dies becomes our own child. As
long as any descendant lives, at least one *direct* child of ours lives, so ECHILD from ``waitpid(-1)`` means
that no descendant is left. Some children do not belong to the workload: *service children* (a store server, a
watchdog, any child that existed before the agent). With those alive the proof is that every direct child is
one of them. The list of children can be read without a race, because a dead child stays on it as a zombie
until it is reaped, and only this class reaps.

Therefore no other code may wait for a child: no ``Popen.wait``, ``poll`` or ``communicate``, no
``asyncio.subprocess``.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
from typing import TYPE_CHECKING

from unitagent.core.exits import Exit, from_wait_status
from unitagent.system import procfs
from unitagent.workload import signals

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)

_PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>
_AT_ONCE = (
    64  # deaths per turn of the loop, so that a workload whose processes end all the time cannot starve it
)
_LOOK = os.WEXITED | os.WNOHANG | os.WNOWAIT


def become_subreaper() -> bool:
    """Ask the kernel to hand us orphans (PID 1 gets them anyway); return whether it does."""
    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)) == 0 or os.getpid() == 1


class Reaper:
    """Reaps all children of this process, in the event loop in which :meth:`start_reaping` was called.

    Attributes:
        services: pids of living service children; they and their descendants are never stopped with the
            workload.
        forking: those of them whose forks are services as well, and our children before they are announced:
            the gates of warm starts. Such a fork is recognized by the process group that it shares with its
            gate.
        kept: those of them that belong to the keeper (:mod:`keeper`), which the watchdog does not spare.
        kept_by: whether a child that nobody here has started was left behind by the keeper.
        orphans_reaped: how many orphans have been reaped so far.
        orphan_listeners: called with pid, name and exit of each orphan.
        adopts_orphans: whether the kernel hands us orphans; else the proof covers only those that are still
            ours.

    """

    def __init__(self) -> None:
        self.services: set[int] = set()
        self.forking: set[int] = set()
        self.kept: set[int] = set()
        self.kept_by: Callable[[procfs.Process], bool] | None = None
        self.orphans_reaped = 0
        self.adopts_orphans = True
        self.orphan_listeners: list[Callable[[int, str, Exit], None]] = []
        self._watched: dict[int, Callable[[Exit], None]] = {}
        self._changed = asyncio.Event()
        self._soon: asyncio.Handle | None = None

    def start_reaping(self) -> None:
        """Start reaping; children that exist already (such as an entrypoint's sshd) are not part of the
        workload.
        """
        self.adopts_orphans = become_subreaper()
        if not self.adopts_orphans:
            _log.warning(
                "the kernel does not hand orphans to this agent (prctl is refused): daemons of the workload "
                "are known only by their variable UNIT_AGENT; make unitagent the ENTRYPOINT, or allow prctl "
                "in the seccomp profile"
            )
        signals.handle_signal(signal.SIGCHLD, lambda _: self._schedule_reaping())
        self.services |= procfs.list_child_pids()
        self.reap_children()

    def close(self) -> None:
        """Stop reaping. No signal is handled in this loop afterwards, so call this last."""
        asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)
        # A loop closes this socket before it gives it up: CPython prints an error for a signal in between.
        signal.set_wakeup_fd(-1)
        if self._soon is not None:
            self._soon.cancel()

    def watch_child(
        self, pid: int, on_exit: Callable[[Exit], None], *, service: bool = False, forks: bool = False
    ) -> None:
        """Call ``on_exit`` when this child ends.

        Must be called in the loop's thread, with no ``await`` since the child was spawned. A ``service``
        child does not count as workload; if it ``forks``, what it forks for us does not count either.
        """
        self._watched[pid] = on_exit
        if service:
            self.services.add(pid)
        if forks:
            self.forking.add(pid)

    def keep_child(self, pid: int) -> None:
        """Count this child as a service that belongs to the keeper."""
        self.services.add(pid)
        self.kept.add(pid)

    def list_services(self) -> frozenset[int]:
        """Return the pids of all service children, with those that the keeper has left behind since, and
        forks that were not announced yet. May be called in a thread.
        """
        unannounced = set()
        adopts = self.forking or self.kept_by is not None
        for pid in procfs.list_child_pids() - self.services if adopts else ():
            child = procfs.read_process(pid)
            if child is not None and child.group in self.forking:
                unannounced.add(pid)  # of this moment only: once it has a job, it is the workload
            elif child is not None and self.kept_by is not None and self.kept_by(child):
                self.keep_child(pid)
                if procfs.read_process(pid) is None:  # it was reaped meanwhile; its pid may be another's soon
                    self._forget_child(pid)
        return frozenset(self.services | unannounced)

    def _forget_child(self, pid: int) -> None:
        self.services.discard(pid)
        self.forking.discard(pid)
        self.kept.discard(pid)

    def list_kept_children(self) -> frozenset[int]:
        """Return the pids of the keeper's processes that are our children."""
        self.list_services()
        return frozenset(self.kept)

    def reap_children(self) -> bool:
        """Reap dead children, some per turn of the loop; return True if no child is left."""
        try:
            for _ in range(_AT_ONCE):
                dead = os.waitid(os.P_ALL, 0, _LOOK)
                if dead is None:
                    return False
                self._reap_child(dead.si_pid)
        except ChildProcessError:
            return True
        self._schedule_reaping()
        return False

    def is_workload_gone(self) -> bool:
        """Whether it is proven that no process of the workload is left (see the module's docstring)."""
        return self.reap_children() or procfs.list_child_pids() <= self.list_services()

    async def wait_for_change(self, limit: float) -> None:
        """Wait for a death or :meth:`notify_waiter` since this last returned, at most ``limit`` seconds.

        For one caller at a time.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await self._changed.wait()
        self._changed.clear()

    def notify_waiter(self) -> None:
        """Make :meth:`wait_for_change` return."""
        self._changed.set()

    def _schedule_reaping(self) -> None:
        """Reap once in the next turn of the loop, however many signals arrive until then."""
        self._soon = self._soon or asyncio.get_running_loop().call_soon(self._reap_scheduled)

    def _reap_scheduled(self) -> None:
        self._soon = None
        self.reap_children()

    def _reap_child(self, pid: int) -> None:
        on_exit = self._watched.pop(pid, None)
        dead = procfs.read_process(pid) if on_exit is None else None  # the name is gone once it is reaped
        kept = pid in self.kept or (dead is not None and self.kept_by is not None and self.kept_by(dead))
        _, status = os.waitpid(pid, 0)
        self._forget_child(pid)
        self.notify_waiter()
        ended = from_wait_status(status)
        if on_exit is not None:
            on_exit(ended)
        elif not kept:  # what the keeper leaves behind concerns nobody but its stop
            self._reap_orphan(pid, dead.name if dead else "", ended)

    def _reap_orphan(self, pid: int, name: str, ended: Exit) -> None:
        self.orphans_reaped += 1
        _log.debug("reaped process %d (%s) of the workload: it %s", pid, name, ended.describe_exit())
        for listener in self.orphan_listeners:
            listener(pid, name, ended)
