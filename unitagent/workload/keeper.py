"""The keeper's processes: a process group beside the workload, which outlives its generations.

For the workload's proof of death they are services (:mod:`reaper`): neither stopped with it nor waited for.
That holds for what a keeper leaves behind as well, once its parent is dead and the kernel has handed it to
us: it is known by its process group, or by the keeper's marker in its environment. A process that has neither
is no service, so the next stop of the workload ends it.

The watchdog does not spare a keeper: it must not outlive an agent that hangs, since another instance may take
the rank and start a keeper of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
from typing import TYPE_CHECKING

from unitagent.core.model import shorten_list
from unitagent.system import procfs, working_directory
from unitagent.system.output_streams import STDERR
from unitagent.system.threads import run_in_thread_or_here
from unitagent.workload import command, leftovers
from unitagent.workload.lifecycle import StopFailure
from unitagent.workload.output import OutputRelay

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from unitagent.core.exits import Exit
    from unitagent.workload.reaper import Reaper
    from unitagent.workload.signals import InheritedSignals

_log = logging.getLogger(__name__)

PREFIX = b"keeper: "
_ROUND_SECONDS = 0.05  # between two looks at what is left
_LONGEST_LINE = 16 * 1024  # bytes that wait for the end of their line


class KeeperOutput(OutputRelay):
    """Relays a keeper's stdout and stderr to ours, each line behind ``keeper:``.

    Attributes:
        on_line: called with each line; must not block.

    """

    def __init__(self) -> None:
        super().__init__(STDERR)
        self.on_line: Callable[[bytes], None] = lambda _: None
        self._partial = b""

    def _pass_on(self, data: bytes) -> None:
        *lines, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) > _LONGEST_LINE:
            lines, self._partial = [*lines, self._partial], b""
        self._write_lines(lines)

    def _close_pipe(self) -> None:
        if self._partial:
            lines, self._partial = [self._partial], b""
            self._write_lines(lines)
        super()._close_pipe()

    def _write_lines(self, lines: Sequence[bytes]) -> None:
        if lines:
            super()._pass_on(b"".join(PREFIX + line + b"\n" for line in lines))
        for line in lines:
            self.on_line(line)


class KeeperProcess:
    """One keeper at a time.

    Attributes:
        pid: of the main process, which leads the group; None when it has ended.

    """

    def __init__(
        self,
        reaper: Reaper,
        inherited: InheritedSignals,
        *,
        kill_seconds: float = 10.0,
    ) -> None:
        """Prepare; nothing is started.

        Args:
            reaper: installed already.
            inherited: signal state to start the keeper with.
            kill_seconds: from the first SIGKILL to giving up on the survivors.

        """
        self.pid: int | None = None
        self._reaper = reaper
        self._inherited = inherited
        self._kill_seconds = kill_seconds
        self._on_exit: Callable[[Exit, list[str]], None] = lambda *_: None
        self._output = KeeperOutput()
        self._group = 0
        self._deadline = math.inf
        self._changed = asyncio.Event()
        reaper.kept_by = self.owns_child

    def follow(self, on_exit: Callable[[Exit, list[str]], None], on_line: Callable[[bytes], None]) -> None:
        """Call ``on_exit`` with the exit of the main process and its last lines, and ``on_line`` with each;
        neither may block.
        """
        self._on_exit, self._output.on_line = on_exit, on_line

    @working_directory.in_start_directory()
    def spawn(self, argv: Sequence[str], env: Mapping[str, str]) -> int:
        """Start the keeper in a process group of its own, with nothing on stdin, and return its pid.

        Raises:
            CommandError: the program does not exist (any more) or the kernel refuses to run it.

        """
        path = command.locate_program(argv[0], env)
        pipe = self._output.open_pipe()
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, pipe, 1),
            (os.POSIX_SPAWN_DUP2, pipe, 2),
        ]
        try:
            pid = self._inherited.spawn_process(path, argv, env, actions)
        finally:
            os.close(pipe)
        self.pid = self._group = pid
        self._deadline = math.inf
        self._reaper.keep_child(pid)
        self._reaper.watch_child(pid, self._on_main_exit, service=True)
        return pid

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is left, or none was started."""
        return not self._group

    def read_tail(self) -> list[str]:
        """Return the last lines of its output."""
        return self._output.read_tail()

    def owns_child(self, child: procfs.Process) -> bool:
        """Whether a child of ours, perhaps a zombie, is one that the keeper left behind."""
        return bool(self._group) and (child.group == self._group or leftovers.is_kept(child.pid))

    async def stop(self, grace: float) -> StopFailure | None:
        """Stop all of it: SIGTERM, then SIGKILL after the grace. A second call may shorten the grace.

        Return None once nothing is left, or what could not be stopped.
        """
        self.shorten_grace(grace)
        self._signal_group(signal.SIGTERM)
        self._signal_group(signal.SIGCONT)
        asked = self._group
        while family := await run_in_thread_or_here(self._find_family):
            left = self._deadline - _get_time()
            if left <= -self._kill_seconds:
                return _explain_unkillable(family)
            if left <= 0 or (self.pid is None and asked):
                for process in family:
                    procfs.kill_process(process)
            await self._wait_for_change(min(_ROUND_SECONDS, max(left, 0.01)))
        self._output.close()
        self._group = 0
        return None

    def shorten_grace(self, grace: float) -> None:
        """Let a stop in progress, or the next one, wait no longer than this before SIGKILL."""
        self._deadline = min(self._deadline, _get_time() + grace)
        self._changed.set()

    async def close(self, limit: float) -> None:
        """Kill what it left behind that no mark tells from a workload, of which nothing is left by now. Flush
        its last output, waiting at most ``limit`` seconds for a slow reader.
        """
        for process in procfs.find_descendants(os.getpid(), self._reaper.list_services()):
            procfs.kill_process(process)
        self._output.close()
        await self._output.flush(limit)

    def _on_main_exit(self, ended: Exit) -> None:
        self.pid = None
        self._changed.set()
        self._on_exit(ended, self.read_tail())

    def _signal_group(self, number: int) -> None:
        if self.pid is not None:  # until it is reaped its group id cannot be reused
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def _find_family(self) -> list[procfs.Process]:
        """Return its living processes: the main one, what it left behind, and their descendants. Blocks."""
        table = procfs.read_process_table()
        mine = self._reaper.list_kept_children()
        family = {pid: table[pid] for pid in mine if pid in table}
        for pid in mine:
            family |= {one.pid: one for one in procfs.select_descendants(table, pid, frozenset())}
        if not self._reaper.adopts_orphans:
            family |= {one.pid: one for one in leftovers.find_kept(table)}
        return [one for one in family.values() if one.alive]

    async def _wait_for_change(self, limit: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await self._changed.wait()
        self._changed.clear()


def _explain_unkillable(processes: Sequence[procfs.Process]) -> StopFailure:
    names = ", ".join(shorten_list([f"{one.pid} ({one.name}, state {one.state})" for one in processes]))
    return StopFailure(f"SIGKILL did not end {names} of the keeper")


def _get_time() -> float:
    return asyncio.get_running_loop().time()
