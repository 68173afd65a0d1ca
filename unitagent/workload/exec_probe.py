"""A short command beside the workload, such as an ``exec`` check: run, and asked only whether it exits 0.

The invariant: it belongs to the workload. Its processes are in no stop's way, since they are killed when
nobody waits for them any more, and a workload counts as gone only when they are gone too. Its output is
dropped: what a check prints may be as secret as anything else of the workload.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unitagent import folder
from unitagent.errors import CommandError
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
    """A command that may be run again and again."""

    reaper: Reaper
    inherited: InheritedSignals
    argv: Sequence[str]
    env: Mapping[str, str]

    async def run(self, timeout: float) -> str:  # noqa: ASYNC109 (the shape of a check)
        """Run it for at most ``timeout`` seconds; returns nothing when it exits 0, else one line why not.

        Cancelled, or out of time, it is killed with its whole group.
        """
        try:
            pid, ended = self._spawn()
        except (CommandError, OSError, ValueError) as error:
            return f"{self.argv[0]} cannot be run: {error}"
        try:
            async with asyncio.timeout(timeout):
                how = await asyncio.shield(ended)
        except TimeoutError:
            return f"{self.argv[0]} did not end within {timeout:g} s"
        finally:
            if not ended.done():  # once it is reaped, the number of its group may be somebody else's
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
        return "" if how.status == 0 else f"{self.argv[0]} {how.describe()}"

    @folder.returned()
    def _spawn(self) -> tuple[int, asyncio.Future[Exit]]:
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
