"""Spawns one workload at a time in a process group of its own, and stops it so that nothing of it is left.

A stop is polite, then thorough: SIGTERM to the group (and, once the main process is gone, to processes that
left the group), a grace period, then SIGKILL to every descendant, repeated until the reaper has its proof
(:mod:`reaper`). A process that survives SIGKILL (state D: stuck in a driver) is reported, and not waited for.

A workload is killed here (:meth:`Workload._kill_all`), on the action ``Stop`` of the core, which follows a
failure, a drain, an order, isolation, fencing or a second signal, and after an internal error of the agent.
``agent.loop`` passes a grace of 0 on ranks whose engine ignores SIGTERM. Two others only act where this one
cannot. :mod:`watchdog`, a process of its own, kills the workload of an agent that hangs, or that was itself
killed. :mod:`leftovers` kills what an agent and its watchdog left behind, when the next agent of the rank
starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from unitagent.core.exits import Exit
from unitagent.core.model import shorten_list
from unitagent.system import procfs, working_directory
from unitagent.system.threads import run_in_thread_or_here
from unitagent.workload import command, leftovers
from unitagent.workload.liveness import TEMPLATE, LivenessMonitor
from unitagent.workload.oom import OomCounter
from unitagent.workload.output import OutputCapture
from unitagent.workload.resource_release import ResourceRelease, SharedMemory
from unitagent.workload.signals import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from unitagent.workload.liveness import DeadProcess
    from unitagent.workload.reaper import Reaper
    from unitagent.workload.signals import InheritedSignals
    from unitagent.workload.usage import ProcessUsage
    from unitagent.workload.warm_start import WarmStarter

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0  # deaths wake us; this is for changes without a signal
_ROUND_SECONDS = 0.05  # between two rounds of SIGKILL
_SAMPLE_SECONDS = 0.5  # the most that sampling the resources may delay a stop


class StopFailure(Struct, frozen=True):
    """Something of the workload that does not go away; ``why`` explains it."""

    why: str


class Workload:
    """The user's command with all its descendants.

    Attributes:
        pid: of the main process, which leads the group; None when it has ended.
        output: what it writes.

    """

    def __init__(
        self,
        reaper: Reaper,
        inherited: InheritedSignals,
        *,
        on_exit: Callable[[Exit, list[str]], None],
        output: OutputCapture | None = None,
        kill_seconds: float = 10.0,
        release_seconds: float = 5.0,
        oom_seconds: float = 10.0,
        gpus: str = "/dev/nvidia",
        warm: WarmStarter | None = None,
    ) -> None:
        """Prepare; nothing is started.

        Args:
            reaper: installed already.
            inherited: signal state to start the workload with.
            on_exit: called with the exit of the main process and the last lines of its stderr; must not
                block.
            output: relays its stdout and stderr, or one of them, and keeps what they had lately; by default
                stderr alone.
            kill_seconds: from the first SIGKILL to giving up on the survivors.
            release_seconds: from the end of the last process to giving up on resources that are still held.
            oom_seconds: time after an OOM kill in which an exit counts as its consequence.
            gpus: how the paths of GPU devices begin.
            warm: starts the command from a process that has imported its engine, where it can.

        """
        self.pid: int | None = None
        self._warm = warm
        self._reaper = reaper
        self._inherited = inherited
        self._on_exit = on_exit
        self._kill_seconds = kill_seconds
        self.output = output if output is not None else OutputCapture()
        self._terminal = Terminal()
        self._oom = OomCounter(aftermath=oom_seconds)
        self._required: tuple[str, ...] = ()
        self._shm = SharedMemory()
        self._liveness = LivenessMonitor(reaper, self._oom, self._shm, self._list_members)
        self._resources = ResourceRelease(gpus)
        self._release_seconds = release_seconds
        self._deadline = math.inf
        self._ending: asyncio.Task[StopFailure | None] | None = None

    @working_directory.in_start_directory()
    def spawn_command(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        required: Collection[str] = (),
        *,
        ports: Collection[int] = (),
        generation: int = 0,
    ) -> int:
        """Start the command and return its pid; it inherits stdin and the initial working directory.

        Args:
            argv: the command.
            env: its whole environment.
            required: prefixes of the names of processes that it cannot run without, such as daemons. They
                need no grace of their own: once the main process is gone, the rest is killed.
            ports: free ports meant for it; they are checked again when it is gone.
            generation: that its output counts to.

        Raises:
            CommandError: the program does not exist (any more) or the kernel refuses to run it.

        """
        if self.pid is not None or self._ending is not None:
            raise RuntimeError("a workload can only be spawned after the previous one is gone")
        path = command.locate_program(argv[0], env)
        self._oom.reset_count()
        self._required = tuple(required)
        self._shm.remember_existing()
        self.pid = self._spawn_process(path, argv, env, generation)
        self._liveness.begin_workload(required, self.pid)
        self._resources.begin_workload(self.pid, ports)
        self._reaper.watch_child(self.pid, self._on_main_exit)
        self._terminal.lend_to(self.pid)
        return self.pid

    @property
    def has_terminal(self) -> bool:
        """Whether the workload has our terminal: then Ctrl-C only reaches the workload."""
        return self._terminal.is_lent

    def send_signal(self, number: int) -> None:
        """Forward a signal to the whole group, as long as the main process lives.

        Until the main process is reaped its group id cannot be reused; later it can.
        """
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    async def stop(self, grace: float) -> StopFailure | None:
        """Stop the whole workload, whether its main process still runs or not.

        Return None once it is proven that nothing is left, or what could not be stopped. A second call joins
        the stop in progress, and the earlier deadline counts. Cancelling the caller does not cancel the stop.
        """
        self._deadline = min(self._deadline, _get_time() + grace)
        if self._ending is None:
            self._ending = asyncio.create_task(self._end_workload(polite=grace > 0))
        self._reaper.notify_waiter()
        return await asyncio.shield(self._ending)

    def force_stop(self) -> None:
        """Skip the rest of the grace period of a stop in progress."""
        if self._ending is not None:
            self._deadline = -math.inf
            self._reaper.notify_waiter()

    async def sample_resources(self) -> None:
        """Note the shared memory and sockets that the workload has now, to recognize them if they stay.

        Each stop begins with this. A crash comes without warning, so an agent may call this every half
        minute.
        """
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(run_in_thread_or_here(self._sample_blocking), _SAMPLE_SECONDS)

    def _sample_blocking(self) -> None:
        pids = [process.pid for process in self._list_members()]
        self._resources.record_usage(pids)
        self._shm.sample_writers(pids)

    async def sample_usage(self) -> list[ProcessUsage]:
        """Return what each process of the workload uses now."""
        from unitagent.workload.usage import sample_usage  # noqa: PLC0415 (few ask for it)

        return await run_in_thread_or_here(lambda: sample_usage(one.pid for one in self._list_members()))

    def list_pids(self) -> list[int]:
        """Return the pids of the workload's processes, as far as a quick look finds them. Blocks."""
        return [one.pid for one in self._list_members()]

    async def find_dead_process(self) -> DeadProcess | None:
        """Return a process of the workload whose death it has not noticed; to be called now and then."""
        return await self._liveness.find_dead_process(lambda: self.pid)

    async def wait_for_death(self, seconds: float) -> None:
        """Wait this long, or until a process has died that the workload needs."""
        await self._liveness.wait_for_death(seconds)

    async def close(self, limit: float = 1.0) -> None:
        """Flush the last output of the workload, waiting at most ``limit`` seconds for a slow reader."""
        await self.output.close(limit)

    def _spawn_process(self, path: str, argv: Sequence[str], env: Mapping[str, str], generation: int) -> int:
        # posix_spawn and not Popen: it can reset just the signals that we changed, without code between fork
        # and exec, and it leaves no object behind that waits for the child.
        pipes = self.output.open_pipes(generation)
        pid = self._warm.start_process(argv, env, pipes) if self._warm is not None else None
        actions = [(os.POSIX_SPAWN_DUP2, pipe, number) for number, pipe in pipes.items()]
        try:
            return pid if pid is not None else self._inherited.spawn_process(path, argv, env, actions)
        finally:
            for pipe in pipes.values():
                os.close(pipe)

    def _on_main_exit(self, ended: Exit) -> None:
        self.pid = None
        if ended.status and self._oom.killed_recently():
            ended = Exit(ended.code, ended.signal, oom=True)
        if ended.code == 0:
            living = [one for one in self._find_living() if one.alive and one.name != TEMPLATE]
            ended = replace(ended, left=len(living))
        self._on_exit(ended, self.output.read_tail())

    async def _end_workload(self, *, polite: bool) -> StopFailure | None:
        try:
            if polite and (self.pid is not None or not await self._is_gone()):
                await self.sample_resources()
            stuck = None if polite and await self._terminate_politely() else await self._kill_until_gone()
            self._terminal.take_back()
            return await self._release_resources() if stuck is None else stuck
        finally:
            self._ending = None
            self._deadline = math.inf

    async def _terminate_politely(self) -> bool:
        """Send SIGTERM and wait until the deadline; return whether all processes have gone."""
        asked = self.pid  # also the id of its group
        self.send_signal(signal.SIGTERM)
        self.send_signal(signal.SIGCONT)  # a stopped process cannot act on SIGTERM
        asked_rest = False
        while not await self._is_gone():
            left = self._deadline - _get_time()
            if left <= 0 or (self.pid is None and self._required):
                return False
            if self.pid is None and not asked_rest:
                asked_rest = True
                await run_in_thread_or_here(lambda: self._terminate_others(asked))
            await self._reaper.wait_for_change(min(left, _LOOK_SECONDS))
        return True

    def _terminate_others(self, asked: int | None) -> None:
        for process in self._find_living():
            if process.group != asked:
                procfs.send_signal(process, signal.SIGTERM)
                procfs.send_signal(process, signal.SIGCONT)

    async def _kill_until_gone(self) -> StopFailure | None:
        """SIGKILL all descendants until nothing is left: new children may appear while we list them."""
        give_up = _get_time() + self._kill_seconds
        while not await self._is_gone():
            if _get_time() >= give_up:
                return _explain_unkillable(await run_in_thread_or_here(self._find_living))
            await run_in_thread_or_here(self._kill_all)
            await self._reaper.wait_for_change(_ROUND_SECONDS)
        return None

    async def _release_resources(self) -> StopFailure | None:
        """Release what outlives processes; log what stays held, and report a GPU, without which nothing can
        start.
        """
        if self._shm.has_leftovers():
            await run_in_thread_or_here(self._shm.remove_leftovers)
        if self._resources.is_free():  # as most are; a thread would take longer to begin than the glance
            return None
        left = await run_in_thread_or_here(lambda: self._resources.wait_until_free(self._release_seconds))
        for held in (*left.ports, *left.held_by_others):
            _log.warning("the workload is gone, but %s", held)
        return StopFailure(f"the workload is gone, but {', '.join(left.gpus)}") if left.gpus else None

    async def _is_gone(self) -> bool:
        """Whether nothing is left: proven, or as far as we can see if the kernel does not hand us orphans."""
        return self._reaper.is_workload_gone() and (
            self._reaper.adopts_orphans or not await run_in_thread_or_here(self._find_living)
        )

    def _kill_all(self) -> None:
        """Kill each process, and groups without foreign processes as a whole: a process that keeps forking is
        gone before its pid can be read.
        """
        table = procfs.read_process_table()
        living = self._find_living(table)
        for process in living:
            procfs.kill_process(process)
        known = {process.pid for process in living}
        others = {
            process.group
            for process in table.values()
            if process.pid not in known and procfs.has_known_origin(table, process.pid)
        }
        for group in {process.group for process in living} - others - {0, os.getpgrp()}:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)

    def _list_members(self) -> list[procfs.Process]:
        """Return the processes of the workload, as far as a quick look finds them."""
        spared = self._reaper.list_services()
        return (
            procfs.find_descendants(os.getpid(), spared)
            if self._reaper.adopts_orphans
            else self._find_living()
        )

    def _find_living(self, table: Mapping[int, procfs.Process] | None = None) -> list[procfs.Process]:
        processes = procfs.read_process_table() if table is None else table
        spared = self._reaper.list_services()
        members = procfs.select_descendants(processes, os.getpid(), spared)
        if not self._reaper.adopts_orphans:
            members += leftovers.find_escaped(processes, spared.union(one.pid for one in members))
        return members


def _explain_unkillable(processes: list[procfs.Process]) -> StopFailure:
    """Describe the processes that survived SIGKILL; state D means stuck in the kernel."""
    names = ", ".join(shorten_list([f"{one.pid} ({one.name}, state {one.state})" for one in processes]))
    return StopFailure(f"SIGKILL did not end {names or 'a process that is not visible here'}")


def _get_time() -> float:
    return asyncio.get_running_loop().time()
