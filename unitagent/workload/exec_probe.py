"""An ``exec`` check: a short command next to the workload that passes if it exits with 0.

The invariant: it belongs to the workload. Its processes never delay a stop, since they are killed once
nothing waits for them, and a workload counts as gone only when they are gone too. Its output is dropped,
because it may be as secret as any output of the workload.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unitagent.errors import CommandError
from unitagent.system import working_directory
from unitagent.workload import command

if TYPE_CHECKING:
    from unitagent.core.exits import Exit
    from unitagent.workload.reaper import Reaper
    from unitagent.workload.signals import InheritedSignals

_NULL = (
    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
    (os.POSIX_SPAWN_DUP2, 1, 2),
)


@dataclass(frozen=True, slots=True)
class ExecProbe:
    """A check by a command, to be run repeatedly."""

    reaper: Reaper
    inherited: InheritedSignals
    argv: Sequence[str]
    env: Mapping[str, str]

    async def run(self, timeout: float) -> str:  # noqa: ASYNC109 (the shape of a check)
        """Run the command for at most ``timeout`` seconds; return an empty string if it exits with 0, else a
        reason.

        When cancelled or out of time, it is killed with its whole process group.
        """
        try:
            pid, ended = self._spawn_probe()
        except (CommandError, OSError, ValueError) as error:
            return f"cannot run {self.argv[0]}: {error}"
        try:
            async with asyncio.timeout(timeout):
                how = await asyncio.shield(ended)
        except TimeoutError:
            return f"{self.argv[0]} did not end within {timeout:g} s"
        finally:
            if not ended.done():  # once it is reaped, its group id may belong to another process
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
        return "" if how.status == 0 else f"{self.argv[0]} {how.describe_exit()}"

    @working_directory.in_start_directory()
    def _spawn_probe(self) -> tuple[int, asyncio.Future[Exit]]:
        ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        pid = os.posix_spawn(
            command.locate_program(self.argv[0], self.env),
            list(self.argv),
            dict(self.env),
            file_actions=_NULL,
            setpgroup=0,
            setsigmask=self.inherited.mask,
            setsigdef=self.inherited.defaults,
        )
        self.reaper.watch_child(pid, ended.set_result)
        return pid, ended
