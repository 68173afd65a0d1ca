"""``UNIT_HOOK``: a command of the user's that is run when something happens to the Unit, with the event as
JSON on its stdin.

The invariant: it is never in the way. Nothing waits for it but the agent's own end, and that for a moment;
a few run at once, each for a limited time, and what comes faster is dropped with a notice. It is not part of
the workload: neither a stop nor the proof that nothing is left concerns it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
from collections import deque
from typing import TYPE_CHECKING, Any

from unitagent.core.exits import ExitCode
from unitagent.core.history import EventKind, HistoryEvent, describe_event
from unitagent.system import working_directory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from unitagent.core.exits import Exit
    from unitagent.core.state import State
    from unitagent.workload.reaper import Reaper
    from unitagent.workload.signals import InheritedSignals

_log = logging.getLogger(__name__)

LONGEST = 30.0  # seconds that one run may take
FAREWELL = 2.0  # seconds that the agent's end waits for those that still run
_AT_ONCE = 4
_WAITING = 16  # events; more are dropped
_REPORTED = {EventKind.FAILURE, EventKind.RESTART, EventKind.READY}
_HIDDEN = ("UNIT_SECRET", "UNIT_REDIS_URL")  # it gets no more than the workload does


class HookRunner:
    """Runs the command for each event that this agent reports."""

    def __init__(
        self, command: str, reaper: Reaper, inherited: InheritedSignals, environ: Mapping[str, str]
    ) -> None:
        self._command = command
        self._reaper = reaper
        self._inherited = inherited
        self._env = {name: text for name, text in environ.items() if not name.startswith(_HIDDEN)}
        self._waiting: deque[bytes] = deque()
        self._running: dict[int, asyncio.TimerHandle] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    def observe_events(self, state: State, events: Sequence[HistoryEvent]) -> None:
        """Run the command for what has happened in one step of the agent."""
        for fields in select_events(state, events):
            if len(self._waiting) >= _WAITING:
                _log.warning(
                    "UNIT_HOOK: the commands take too long; this event is dropped: %s", fields["detail"]
                )
                continue
            self._waiting.append(json.dumps(fields).encode() + b"\n")
            self._idle.clear()
        self._start_waiting()

    async def close(self) -> None:
        """Give what still runs a moment, then kill it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL):
                await self._idle.wait()
        self._waiting.clear()
        for pid in list(self._running):
            self._kill_run(pid)

    def _start_waiting(self) -> None:
        while self._waiting and len(self._running) < _AT_ONCE:
            self._start_run(self._waiting.popleft())
        if not self._waiting and not self._running:
            self._idle.set()

    def _start_run(self, event: bytes) -> None:
        try:
            pid = self._spawn_run(event)
        except OSError as error:
            _log.warning("UNIT_HOOK cannot be run: %s", error.strerror)
            return
        self._running[pid] = asyncio.get_running_loop().call_later(LONGEST, self._end_late, pid)
        self._reaper.watch_child(pid, lambda ended: self._on_exit(pid, ended), service=True)

    @working_directory.in_start_directory()
    def _spawn_run(self, event: bytes) -> int:
        ear, write_fd = os.pipe()
        try:
            os.set_blocking(write_fd, False)
            os.write(write_fd, event)  # shorter than what a pipe holds
            return os.posix_spawn(
                "/bin/sh",
                ["/bin/sh", "-c", self._command],
                self._env,
                file_actions=[(os.POSIX_SPAWN_DUP2, ear, 0), (os.POSIX_SPAWN_DUP2, 2, 1)],
                setpgroup=0,
                setsigmask=self._inherited.mask,
                setsigdef=self._inherited.defaults,
            )
        finally:
            os.close(ear)
            os.close(write_fd)

    def _end_late(self, pid: int) -> None:
        _log.warning("UNIT_HOOK did not end within %g s and is killed", LONGEST)
        self._kill_run(pid)

    def _kill_run(self, pid: int) -> None:
        """Kill a run that has not been reaped yet, with what it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)

    def _on_exit(self, pid: int, ended: Exit) -> None:
        self._running.pop(pid).cancel()
        self._kill_run(pid)  # what it left in the background would count as a part of the workload
        if ended.status:
            _log.warning("UNIT_HOOK %s", ended.describe_exit())
        self._start_waiting()


def select_events(state: State, events: Sequence[HistoryEvent]) -> Iterator[dict[str, Any]]:
    """Select the events for a hook, in the words of ``unitagent events --json`` and of JSON logs.

    Each concerns the whole Unit and comes from one agent: rank 0, or for a failure the one whose report the
    store kept. Rank 0's end is named by what it means: ``drained``, or ``failed`` for a spent budget.
    """
    for event in events:
        kind = event.kind.value if event.kind in _REPORTED else _find_end(state, event)
        if kind:
            failure = state.recovery.failure if event.kind in (EventKind.FAILURE, EventKind.RESTART) else None
            yield {
                **describe_event(event),
                "kind": kind,
                "unit": state.config.unit,
                "reason": failure.reason.value if failure else None,
                "failed_rank": failure.rank if failure and not failure.requested else None,
                "exit_code": failure.exit_code if failure else None,
            }


def _find_end(state: State, event: HistoryEvent) -> str:
    leaving = state.shutdown.leaving
    if event.kind is not EventKind.QUIT or state.config.rank != 0 or leaving is None:
        return ""
    if leaving.code == ExitCode.BUDGET:
        return "failed"
    asked = leaving.code == ExitCode.DONE and state.shutdown.stop_requested
    return "drained" if asked else ""
