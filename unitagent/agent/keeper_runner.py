"""Runs the keeper of one instance: starts it, finds out when it is ready, and stops it."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from unitagent.core import actions as act
from unitagent.core import events as ev
from unitagent.core.exits import Exit, ExitCode
from unitagent.errors import UnitAgentError
from unitagent.probes.http_client import FetchError, FetchRequest, fetch_url
from unitagent.setting_parsers import redact_url
from unitagent.system import redaction
from unitagent.system.addresses import explain_unreachable
from unitagent.system.working_directory import resolve_user_path
from unitagent.workload.keeper import KeeperProcess

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from unitagent.agent.background_tasks import BackgroundTasks
    from unitagent.agent.launch import Launcher
    from unitagent.core.model import Gang
    from unitagent.probes.metrics import Metrics
    from unitagent.workload.file_warmer import FileWarmer

_log = logging.getLogger(__name__)

_CHECK_INTERVAL = 0.2  # seconds
_CHECK_TIMEOUT = 5.0  # seconds
_OK = range(200, 300)
_PAGE = 64 * 1024  # bytes

__all__ = ["KeeperLaunch", "KeeperProcess", "KeeperRunner"]

Check = Callable[[], "Coroutine[Any, Any, bool]"]


class KeeperLaunch(Struct, frozen=True):
    """One start of the keeper: its command, its environment, and how it tells that it is ready."""

    argv: list[str]
    env: dict[str, str]
    ready: str


class KeeperRunner:
    """The keeper of one instance, one at a time.

    Args:
        launcher: completes its command for a gang.
        enqueue: takes an event for the core.
        process: the keeper's processes, none of which was started yet.
        warmer: reads files meanwhile, and stops when the keeper reads them itself.

    """

    def __init__(
        self,
        launcher: Launcher,
        metrics: Metrics,
        enqueue: Callable[..., None],
        process: KeeperProcess,
        warmer: FileWarmer | None = None,
    ) -> None:
        self._launcher, self._metrics, self._enqueue = launcher, metrics, enqueue
        self._warmer = warmer
        self._process = process
        process.follow(self._on_exit, self._read_line)
        self._readiness: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._awaited: re.Pattern[str] | None = None
        self._seen = asyncio.Event()

    def perform_action(self, action: act.SpawnKeeper | act.StopKeeper, tasks: BackgroundTasks) -> None:
        """Start or stop the keeper; what comes of it follows as events."""
        match action:
            case act.SpawnKeeper():
                self._start(action.gang)
            case act.StopKeeper():
                self._stop(action.grace, tasks)

    async def close(self, limit: float) -> None:
        """Kill what is left of it, which is nothing after an orderly end, and flush its output."""
        self._end_readiness()
        if not self._process.is_over:
            await self._process.stop(0.0)
        await self._process.close(limit)

    def _start(self, gang: Gang) -> None:
        if self._warmer is not None:
            self._warmer.stop("the keeper started")
        try:
            launch = self._launcher.prepare_keeper(gang)
            check = self._make_check(launch.ready)
            pid = self._process.spawn(launch.argv, launch.env)
        except (UnitAgentError, ValueError) as error:
            _log.error("the keeper: %s", error)
            code = error.exit_code if isinstance(error, UnitAgentError) else ExitCode.CONFIGURATION
            self._enqueue(ev.KeeperExited, Exit(int(code), None))
            return
        self._metrics.observe_keeper_start()
        self._readiness = asyncio.create_task(self._await_readiness(check))
        words = " ".join(redaction.redact_words(launch.argv))
        _log.info(
            "started the keeper, process %d: %s; it is ready when %s", pid, words, _describe(launch.ready)
        )

    def _stop(self, grace: float, tasks: BackgroundTasks) -> None:
        self._end_readiness()
        if self._stopping is None:
            self._stopping = tasks.start_task(self._await_stop(grace), self._report_stop_failure)
        else:
            self._process.shorten_grace(grace)

    async def _await_stop(self, grace: float) -> None:
        stuck = await self._process.stop(grace)
        self._stopping = None
        if stuck is None:
            self._enqueue(ev.KeeperGone)
        else:
            self._enqueue(ev.KeeperStuck, stuck.why)

    def _report_stop_failure(self, error: BaseException) -> None:
        self._stopping = None
        self._enqueue(ev.KeeperStuck, f"the keeper could not be stopped: {error!r}")

    def _on_exit(self, ended: Exit) -> None:
        self._end_readiness()
        self._metrics.observe_keeper_exit(ended.status)
        self._enqueue(ev.KeeperExited, ended)

    # readiness

    def _end_readiness(self) -> None:
        if self._readiness is not None:
            self._readiness.cancel()
            self._readiness = None

    async def _await_readiness(self, check: Check) -> None:
        began = time.monotonic()
        while not await check():  # noqa: ASYNC110 (it is another process that changes)
            await asyncio.sleep(_CHECK_INTERVAL)
        _log.info("the keeper is ready after %.1f s", time.monotonic() - began)
        self._enqueue(ev.KeeperReady)

    def _read_line(self, line: str) -> None:
        if self._awaited is not None and self._awaited.search(line):
            self._seen.set()

    def _make_check(self, ready: str) -> Check:
        kind, _, rest = ready.partition(":")
        self._awaited = re.compile(rest) if kind == "log" else None
        self._seen.clear()
        if kind == "log":
            return self._has_logged
        if kind == "tcp":
            return lambda: self._accepts(int(rest))
        if kind == "file":
            path = resolve_user_path(rest)
            before = _identify_file(path)
            return lambda: _has_appeared(path, before)
        return lambda: _answers(ready)

    async def _has_logged(self) -> bool:
        return await self._seen.wait()

    async def _accepts(self, port: int) -> bool:
        """Whether the port accepts connections on the loopback address, or on this instance's."""
        for host in ("127.0.0.1", self._launcher.ip):
            if not await explain_unreachable(host, port, within=_CHECK_TIMEOUT):
                return True
        return False


def _identify_file(path: str | Path) -> tuple[int, int] | None:
    """Identify a file, so that the one that an earlier keeper left is told from a new one. Blocks."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


async def _has_appeared(path: str | Path, before: tuple[int, int] | None) -> bool:
    return await asyncio.to_thread(_identify_file, path) not in (None, before)


async def _answers(url: str) -> bool:
    try:
        page = await fetch_url(FetchRequest(url=url, timeout=_CHECK_TIMEOUT, limit=_PAGE, verified=False))
    except FetchError:
        return False
    return page.code in _OK


def _describe(ready: str) -> str:
    kind, _, rest = ready.partition(":")
    told = {
        "log": f"a line of its output matches {rest}",
        "tcp": f"port {rest} accepts connections",
        "file": f"{rest} is there",
    }
    return told.get(kind, f"GET {redact_url(ready)} answers 200")
