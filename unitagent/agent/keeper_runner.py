"""Runs the keeper of one instance: starts it, finds out when it is ready, and stops it."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from msgspec import Struct

from unitagent.agent.keeper_readiness import KeeperReadiness
from unitagent.agent.kept_files_watch import KeptFilesWatch
from unitagent.core import actions as act
from unitagent.core import events as ev
from unitagent.core.exits import Exit, ExitCode
from unitagent.errors import UnitAgentError
from unitagent.system import redaction
from unitagent.workload.keeper import KeeperProcess

if TYPE_CHECKING:
    from unitagent.agent.background_tasks import BackgroundTasks
    from unitagent.agent.evidence_trigger import EvidenceTrigger
    from unitagent.agent.launch import Launcher
    from unitagent.agent.loop import Agent
    from unitagent.core.model import Gang
    from unitagent.probes.metrics import Metrics
    from unitagent.workload.file_warmer import FileWarmer

_log = logging.getLogger(__name__)

_CHECK_INTERVAL = 0.2  # seconds
_PATIENCE = 10.0  # seconds after which the log says what a keeper lacks

__all__ = ["KeeperLaunch", "KeeperProcess", "KeeperRunner"]


class KeeperLaunch(Struct, frozen=True):
    """One start of the keeper.

    Attributes:
        ready: how it tells that it is ready.
        files: what it loads, files and folders with absolute paths.

    """

    argv: list[str]
    env: dict[str, str]
    ready: str
    files: list[str]


class KeeperRunner:
    """The keeper of one instance, one at a time.

    Args:
        launcher: completes its command for a gang.
        agent: takes events for the core, and the end of the keeper.
        process: the keeper's processes, none of which was started yet.
        warmer: reads files meanwhile, and stops when the keeper reads them itself.
        evidence: looks at a keeper that failed, before it is stopped.

    """

    def __init__(
        self,
        launcher: Launcher,
        metrics: Metrics,
        agent: Agent,
        process: KeeperProcess,
        *,
        warmer: FileWarmer | None,
        evidence: EvidenceTrigger | None,
    ) -> None:
        self._launcher, self._metrics, self._agent = launcher, metrics, agent
        self._warmer, self._evidence = warmer, evidence
        self._process = process
        process.follow(self._on_exit, self._read_line)
        self._readiness: KeeperReadiness | None = None
        self._awaiting: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._files: KeptFilesWatch | None = None

    def begin_use(self) -> None:
        """A workload starts beside the keeper."""
        if self._files is not None:
            self._files.begin_use()

    async def look_at_files(self) -> None:
        """Learn whether what it has loaded has changed; that follows as an event."""
        if self._files is not None:
            await self._files.look()

    def perform_action(self, action: act.SpawnKeeper | act.StopKeeper, tasks: BackgroundTasks) -> None:
        """Start or stop the keeper; what comes of it follows as events."""
        match action:
            case act.SpawnKeeper():
                self._start(action.gang)
            case act.StopKeeper():
                self._stop(action.grace, tasks)

    async def close(self, limit: float) -> None:
        """Kill what is left of it, which is nothing after an orderly end, and flush its output."""
        self._end_watch()
        if not self._process.is_over:
            await self._process.stop(0.0)
        await self._process.close(limit)

    def _start(self, gang: Gang) -> None:
        if self._warmer is not None:
            self._warmer.stop("the keeper started")
        try:
            launch = self._launcher.prepare_keeper(gang)
            self._readiness = KeeperReadiness(launch.ready, self._launcher.ip)
            if launch.files:
                self._files = KeptFilesWatch(launch.files, self._report_change)
            pid = self._process.spawn(launch.argv, launch.env)
        except (UnitAgentError, ValueError) as error:
            self._end_watch()
            _log.error("the keeper: %s", error)
            code = error.exit_code if isinstance(error, UnitAgentError) else ExitCode.CONFIGURATION
            self._agent.on_keeper_exit(Exit(int(code), None), [f"the keeper: {error}"])
            return
        self._metrics.observe_keeper_start()
        self._awaiting = asyncio.create_task(self._await_readiness(self._readiness))
        words = " ".join(redaction.redact_words(launch.argv))
        _log.info(
            "started the keeper, process %d: %s; it is ready when %s", pid, words, self._readiness.criterion
        )

    def _stop(self, grace: float, tasks: BackgroundTasks) -> None:
        self._end_watch()
        if self._stopping is None:
            self._stopping = tasks.start_task(self._await_stop(grace), self._report_stop_failure)
        else:
            self._process.shorten_grace(grace)
            if self._evidence is not None and grace == 0:
                self._evidence.interrupt_collection()

    async def _await_stop(self, grace: float) -> None:
        if self._evidence is not None:
            state, lines = self._agent.state, self._process.read_tail()
            await self._evidence.collect_before_keeper_stop(state, lines, urgent=grace == 0)
        stuck = await self._process.stop(grace)
        self._stopping = None
        if stuck is None:
            self._agent.enqueue_event(ev.KeeperGone)
        else:
            self._agent.enqueue_event(ev.KeeperStuck, stuck.why)

    def _report_stop_failure(self, error: BaseException) -> None:
        self._stopping = None
        self._agent.enqueue_event(ev.KeeperStuck, f"the keeper could not be stopped: {error!r}")

    def _on_exit(self, ended: Exit, tail: list[str]) -> None:
        self._end_watch()
        self._metrics.observe_keeper_exit(ended.status)
        self._agent.on_keeper_exit(ended, tail)

    def _report_change(self, change: str) -> None:
        _log.warning("%s; the next restart loads them: unitagent restart", change)
        self._agent.enqueue_event(ev.KeeperStale, change)

    # readiness

    def _end_readiness(self) -> None:
        self._readiness = None
        if self._awaiting is not None:
            self._awaiting.cancel()
            self._awaiting = None

    def _end_watch(self) -> None:
        self._end_readiness()
        if self._files is not None:
            self._files.close()
            self._files = None

    async def _await_readiness(self, readiness: KeeperReadiness) -> None:
        began, told = time.monotonic(), ""
        while why := await readiness.explain_not_ready():
            waited = time.monotonic() - began
            if waited >= _PATIENCE and why != told:
                _log.info("the keeper is not ready %.0f s after its start: %s", waited, why)
                told = why
            await asyncio.sleep(_CHECK_INTERVAL)
        self._readiness = None
        _log.info("the keeper is ready after %.1f s", time.monotonic() - began)
        self._agent.enqueue_event(ev.KeeperReady)

    def _read_line(self, line: bytes) -> None:
        if self._readiness is not None:
            self._readiness.read_line(line.decode(errors="replace"))
