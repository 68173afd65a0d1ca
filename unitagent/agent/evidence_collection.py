"""Runs the collector as a child of the agent, lists what it found in the store, and compares the ranks.

The invariants: the agent's loop never waits for a disk, for ``/proc`` or for a program; the collector does,
and the agent stops waiting for it at the deadline. The collector is no part of the workload, so one that
hangs delays neither a stop nor the proof that nothing is left; it is never killed, since its programs would
become orphans that count as workload: it ends them itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

import unitagent
from unitagent.core.history import make_evidence_event
from unitagent.core.model import Reason
from unitagent.errors import StoreError
from unitagent.evidence import folder
from unitagent.evidence.comparison import compare_ranks
from unitagent.evidence.reports import RankEvidence, read_reports
from unitagent.store.evidence_index import LONGEST_ENTRY
from unitagent.system.memory_files import open_memory_file
from unitagent.system.safe_output import escape_line

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from unitagent.agent.evidence_trigger import Step, StopContext
    from unitagent.core.exits import Exit
    from unitagent.core.history import HistoryEvent
    from unitagent.core.model import Failure
    from unitagent.core.state import State
    from unitagent.store.evidence_index import EvidenceIndex
    from unitagent.workload.reaper import Reaper

_log = logging.getLogger(__name__)

# Last on the path: the folder of this package may hold others that are named like a part of the library.
_START = "import sys; sys.path.append(sys.argv[1]); from unitagent.evidence.collector import main; main()"
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "LD_LIBRARY_PATH_ORIG")
_SPAWN_SECONDS = 0.2  # of the time that is given, for the start of the collector and its last report
_PIECE = 64 * 1024
_MOST_REPORTED = 1 << 20  # bytes
_FAREWELL = 0.5  # seconds that the agent's end waits for what is under way
_MOST_COLLECTORS = 2  # that hang; then nothing more is collected
_MARGIN = 2.0  # seconds that rank 0 waits for the others' entries beyond the time that they have
_SETTLE_SECONDS = 0.5  # that a rank waits for slower ones, beyond the time that it took itself
_PAUSES = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0)  # between two looks for them; the last one repeats
_MOST_LINES = 2000  # of the workload's output
_LONGEST_STEP = 1000  # characters


class EvidenceCollection:
    """Collects for one rank, again and again.

    Args:
        index: where other ranks and people find it.
        reaper: of the collector.
        root: the folder of all evidence, and whether it is the default one.
        me: the Unit and the rank in whose name it is kept.
        tell: queues an event of the Unit's history.

    """

    def __init__(
        self,
        index: EvidenceIndex,
        reaper: Reaper,
        root: tuple[str, bool],
        me: tuple[str, int],
        tell: Callable[[HistoryEvent], None],
    ) -> None:
        self._index = index
        self._tell = tell
        self._reaper = reaper
        self._private = root[1]
        self._folder = folder.locate_folder(root[0], *me)
        self._living: dict[int, CollectorReports] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._parting: asyncio.Task[None] | None = None

    async def collect_alive(self, left: StopContext, seconds: float, interrupted: asyncio.Event) -> None:
        """Look at the living workload within ``seconds``, or until ``interrupted``; what was seen is written,
        listed and compared after that.
        """
        began, state = time.monotonic(), left.state
        reports = self._start_collector(left, seconds, live=True)
        if reports is None:
            return
        await _wait_for_either(reports.seen, interrupted, seconds)
        self._start_task(self._publish_evidence(state, reports, seconds, compares=True))
        took = time.monotonic() - began
        if interrupted.is_set():
            reports.stop()
        elif took < seconds:
            await self._wait_for_others(state, interrupted, min(seconds - took, took + _SETTLE_SECONDS))
        waited = time.monotonic() - began
        _log.info("the stop waited %.2f s for evidence of generation %d", waited, left.generation)

    async def _wait_for_others(self, state: State, interrupted: asyncio.Event, seconds: float) -> None:
        """Wait until all ranks have looked: a rank that stops earlier changes what the others see."""
        failure = state.recovery.failure
        if failure is None or failure.stops <= 1:
            return
        counting = self._start_task(self._count_ranks(failure))
        stopped = asyncio.create_task(interrupted.wait())
        await asyncio.wait((counting, stopped), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in (counting, stopped):
            task.cancel()

    async def _count_ranks(self, failure: Failure) -> None:
        pauses = list(_PAUSES)
        with contextlib.suppress(StoreError):
            while True:
                if await self._index.count_entries(failure.generation) >= failure.stops:
                    return
                await asyncio.sleep(pauses.pop(0) if len(pauses) > 1 else pauses[0])

    def collect_remains(self, left: StopContext, seconds: float) -> None:
        """Collect what is left of a workload that is gone, in the background."""
        if (reports := self._start_collector(left, seconds, live=False)) is not None:
            self._start_task(self._publish_evidence(left.state, reports, seconds, compares=False))

    async def close(self) -> None:
        """Give what is under way a moment, then tell collectors to end."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_FAREWELL)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for reports in self._living.values():
            reports.stop()
        await self._index.close()

    def _start_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_end)
        return task

    def _on_task_end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not self._tasks:
            self._parting = asyncio.create_task(self._index.close())  # until the next failure
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("the evidence is not complete: %r", error)

    # the collector

    def _start_collector(self, left: StopContext, seconds: float, *, live: bool) -> CollectorReports | None:
        """Start a collector; None if those before it still hang."""
        if len(self._living) >= _MOST_COLLECTORS:
            _log.warning("no evidence is collected: earlier collectors still hang")
            return None
        request = {
            "agent": os.getpid(),
            "spared": sorted(self._reaper.services - (self._reaper.kept if left.of_keeper else frozenset())),
            "folder": str(self._folder),
            "private": self._private,
            "generation": left.generation,
            "seconds": max(seconds - _SPAWN_SECONDS, seconds / 2),
            "live": live,
            "texts": {
                "output.txt": _split_lines(left.output),
                "decisions.txt": [format_step(step, left.state.config.epoch) for step in left.steps],
            },
        }
        reports = CollectorReports()
        try:
            reports.pid = self._spawn_collector(
                json.dumps(request).encode(errors="replace"), reports.write_fd
            )
        except BaseException:
            reports.close()
            raise
        finally:
            os.close(reports.write_fd)
        self._living[reports.pid] = reports
        self._reaper.watch_child(reports.pid, lambda ended: self._on_exit(ended, reports), service=True)
        return reports

    def _spawn_collector(self, request: bytes, write_fd: int) -> int:
        stdin = open_memory_file("unit-evidence", request)
        root = str(Path(unitagent.__file__).parent.parent)
        try:
            return os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", "-c", _START, root, "unitagent-evidence"],
                {name: os.environ[name] for name in _PASSED_ON if name in os.environ},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, stdin, 0),
                    (os.POSIX_SPAWN_DUP2, write_fd, 1),
                    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                ],
                setpgroup=0,
                setsigmask=(),
                setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
            )
        finally:
            os.close(stdin)

    def _on_exit(self, ended: Exit, reports: CollectorReports) -> None:
        self._living.pop(reports.pid, None)
        reports.pid = 0
        if ended.status:
            _log.warning("the collector of evidence %s", ended.describe_exit())
        reports.end()

    # the index

    async def _publish_evidence(
        self, state: State, reports: CollectorReports, seconds: float, *, compares: bool
    ) -> None:
        """List what was seen, and again what was written; the rank that failed explains why, rank 0 who is
        different.
        """
        failure = state.recovery.failure
        try:
            if failure is None:
                return
            if reports.seen.is_set():
                with contextlib.suppress(StoreError):  # nobody is told, but all is written
                    await self._list_evidence(make_entry(state, failure, reports.raw))
            if compares and state.config.rank == 0 and failure.stops > 1:
                self._start_task(self._compare_all(state, failure, seconds))
            await _wait_for_either(reports.done, reports.done, seconds)
            mine = make_entry(state, failure, reports.raw)
            if mine.trouble:
                _log.info("evidence: %s", escape_line(mine.trouble))
            await self._list_evidence(mine)
            if mine.cause and failure.rank == mine.rank:
                await self._explain_failure(state, failure, ": ", escape_line(mine.cause))
        except StoreError as error:
            _log.debug("the evidence is not listed in the store: %s", error)
        finally:
            reports.close()

    async def _list_evidence(self, mine: RankEvidence) -> None:
        await self._index.put_entry(mine.generation, mine.rank, encode_entry(mine))

    async def _compare_all(self, state: State, failure: Failure, seconds: float) -> None:
        """Wait for the others' entries, and say who is different."""
        deadline, pauses = time.monotonic() + seconds + _MARGIN, list(_PAUSES)
        found: dict[int, RankEvidence] = {}
        with contextlib.suppress(StoreError):
            while len(found) < failure.stops and time.monotonic() < deadline:
                await asyncio.sleep(pauses.pop(0) if len(pauses) > 1 else pauses[0])
                found = decode_entries(await self._index.read_entries(failure.generation))
            places = {rank: one.list_places() for rank, one in found.items()}
            if verdict := escape_line(compare_ranks(places)):
                await self._explain_failure(state, failure, "; ", verdict)

    async def _explain_failure(self, state: State, failure: Failure, joint: str, clause: str) -> None:
        """Say what was found out, and add it to the failure that everybody sees; an order explains itself."""
        _log.warning("evidence of generation %d: %s", failure.generation, clause)
        self._tell(make_evidence_event(state, failure, time.monotonic() + state.config.epoch, clause))
        if failure.reason is not Reason.REQUESTED:
            await self._index.explain_failure(failure.generation, f"{joint}{clause}")


class CollectorReports:
    """The pipe through which one collector reports.

    Attributes:
        write_fd: the end that it writes to; the caller closes our copy of it.
        pid: of the collector, until it is reaped.
        seen: it has looked at everything, or has ended.
        done: it has written everything, or has ended.
        raw: what it has reported.

    """

    def __init__(self) -> None:
        self.pid = 0
        self.raw = b""
        self.seen, self.done = asyncio.Event(), asyncio.Event()
        self._read_fd, self.write_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        asyncio.get_running_loop().add_reader(self._read_fd, self._read)

    def stop(self) -> None:
        """Tell a collector that has not been reaped to end."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def end(self) -> None:
        """Wait for nothing more."""
        self.seen.set()
        self.done.set()

    def close(self) -> None:
        """Read what is left, then stop; a collector that is late is told to end."""
        self._read()
        if not self.done.is_set():
            self.stop()
        self._close_pipe()

    def _read(self) -> None:
        try:
            piece = os.read(self._read_fd, _PIECE) if self._read_fd >= 0 else b""
        except BlockingIOError:
            return
        self.raw += piece
        if not piece or len(self.raw) > _MOST_REPORTED:
            self._close_pipe()
            self.end()
            return
        if b'{"seen"' in self.raw:
            self.seen.set()
        if b'{"done"' in self.raw:
            self.end()

    def _close_pipe(self) -> None:
        if self._read_fd >= 0:
            asyncio.get_running_loop().remove_reader(self._read_fd)
            os.close(self._read_fd)
            self._read_fd = -1


async def _wait_for_either(done: asyncio.Event, interrupted: asyncio.Event, seconds: float) -> None:
    waits = [asyncio.ensure_future(one.wait()) for one in (done, interrupted)]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waits:
            one.cancel()


def make_entry(state: State, failure: Failure, raw: bytes) -> RankEvidence:
    """Make the entry of the index from what a collector has reported so far."""
    return RankEvidence(
        generation=failure.generation,
        rank=state.config.rank,
        incarnation=state.config.incarnation,
        at=time.time(),
        reason=failure.reason.value,
        **read_reports(raw),
    )


def encode_entry(evidence: RankEvidence) -> bytes:
    """Encode an entry of the index, with as many places as it can hold."""
    while len(raw := msgspec.json.encode(evidence)) > LONGEST_ENTRY and evidence.places:
        evidence = replace(evidence, places=evidence.places[:-1])
    return raw


def decode_entries(entries: Mapping[int, bytes]) -> dict[int, RankEvidence]:
    """Decode the entries of a generation; what cannot be read is left out."""
    found = {}
    for rank, raw in sorted(entries.items()):
        with contextlib.suppress(msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            found[rank] = msgspec.json.decode(raw, type=RankEvidence)
    return found


def _split_lines(output: bytes) -> list[str]:
    lines = output.decode(errors="replace").removesuffix("\n").split("\n")
    return lines[-_MOST_LINES:] if output else []


def format_step(step: Step, epoch: float) -> str:
    """Format one decision of the agent as a line."""
    now, generation, state, event, actions = step
    at = time.strftime("%H:%M:%S", time.gmtime(now + epoch)) + f"{(now + epoch) % 1:.3f}"[1:]
    words = " ".join(map(repr, actions)) or "nothing"
    shown = event if isinstance(event, str) else repr(event)
    return f"{at} generation {generation}, {state}: {shown} -> {words}"[:_LONGEST_STEP]
