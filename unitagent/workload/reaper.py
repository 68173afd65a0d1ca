"""The one place that calls ``waitpid``: it learns every death, and it can prove that nothing is left.

The proof. This process is PID 1 or a subreaper, so a descendant whose parent dies becomes our own child.
Hence as long as any descendant lives, at least one *direct* child of ours does, and ``waitpid(-1)`` saying
ECHILD means: nobody. Some children are not of the workload: *service children* (a store server, a health
command, whatever was our child already when we began). With those alive the proof is that every direct child
is one of them. The list of children can be read without a race, because a dead child stays on it as a zombie
until it is reaped, and only this class reaps.

Therefore nobody else may wait: no ``Popen.wait``, ``poll`` or ``communicate``, no ``asyncio.subprocess``.
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
_AT_ONCE = 64  # deaths in one turn of the loop; a workload whose processes end all the time starves nobody
_LOOK = os.WEXITED | os.WNOHANG | os.WNOWAIT


def become_subreaper() -> bool:
    """Ask the kernel for our orphans; harmless as PID 1, which gets them anyway. False if it refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)) == 0 or os.getpid() == 1


class Reaper:
    """Reaps all children of this process, from the loop that :meth:`install` was called in.

    Attributes:
        services: pids of living service children; they and what they begot are never stopped with the
            workload.
        strangers: how many orphans have been reaped so far.
        on_orphan: told pid, name and end of each of them.
        adopts: whether the kernel hands us orphans; else the proof is about those who have not left us.

    """

    def __init__(self) -> None:
        self.services: set[int] = set()
        self.orphans_reaped = 0
        self.adopts_orphans = True
        self.on_orphan: Callable[[int, str, Exit], None] | None = None
        self._watched: dict[int, Callable[[Exit], None]] = {}
        self._changed = asyncio.Event()
        self._soon: asyncio.Handle | None = None

    def start_reaping(self) -> None:
        """Begin; children that we have already (an entrypoint script's sshd, say) are nobody's workload."""
        self.adopts_orphans = become_subreaper()
        if not self.adopts_orphans:
            _log.warning(
                "the kernel hands this agent no orphans (prctl is refused): daemons of the workload are "
                "known by their variable UNIT_AGENT alone; make unitagent the ENTRYPOINT, or permit prctl "
                "in the seccomp profile"
            )
        signals.handle_signal(signal.SIGCHLD, lambda _: self._schedule_reaping())
        self.services |= procfs.list_child_pids()
        self.reap_children()

    def close(self) -> None:
        """Stop listening for deaths."""
        asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)
        if self._soon is not None:
            self._soon.cancel()

    def watch_child(self, pid: int, on_exit: Callable[[Exit], None], *, service: bool = False) -> None:
        """Tell ``on_exit`` when this child ends.

        Call it in the loop's thread, with no ``await`` since the child was spawned: later is too late.
        A ``service`` child does not count as workload.
        """
        self._watched[pid] = on_exit
        if service:
            self.services.add(pid)

    def reap_children(self) -> bool:
        """Collect who has died, the rest of many in the loop's next turn; True when no child is left."""
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
        return self.reap_children() or procfs.list_child_pids() <= self.services

    async def wait_for_change(self, limit: float) -> None:
        """Wait for a death or :meth:`wake` since this last returned, at most ``limit`` seconds.

        For one caller at a time.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await self._changed.wait()
        self._changed.clear()

    def notify_waiter(self) -> None:
        """Let :meth:`change` return."""
        self._changed.set()

    def _schedule_reaping(self) -> None:
        """Collect once in the next turn, however many have died and say so until then."""
        self._soon = self._soon or asyncio.get_running_loop().call_soon(self._reap_scheduled)

    def _reap_scheduled(self) -> None:
        self._soon = None
        self.reap_children()

    def _reap_child(self, pid: int) -> None:
        on_exit = self._watched.pop(pid, None)
        dead = procfs.read_process(pid) if on_exit is None else None  # its name is gone once it is reaped
        _, status = os.waitpid(pid, 0)
        self.services.discard(pid)
        self.notify_waiter()
        ended = from_wait_status(status)
        if on_exit is not None:
            on_exit(ended)
        else:
            self._reap_orphan(pid, dead.name if dead else "", ended)

    def _reap_orphan(self, pid: int, name: str, ended: Exit) -> None:
        self.orphans_reaped += 1
        _log.debug("reaped process %d (%s) of the workload: it %s", pid, name, ended.describe())
        if self.on_orphan is not None:
            self.on_orphan(pid, name, ended)
