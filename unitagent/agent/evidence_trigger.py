"""When this rank collects evidence: after its generation has failed, and before its processes are ended.

The invariants: a stop waits for it no longer than ``UNIT_EVIDENCE_SECONDS``, and not at all if others may
already take this rank's place, if the stop is urgent, or if it was this agent or its Unit that was asked to
stop. A crash, which everybody sees, delays nobody: the rank that crashed collects later, what is left then.
Until something fails this only remembers the agent's last decisions; the rest is imported when it is needed.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from unitagent.core.actions import Action, Exchange
from unitagent.core.events import Event, Exchanged, Tick
from unitagent.core.model import Reason
from unitagent.core.state import State

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from unitagent.agent.evidence_collection import EvidenceCollection
    from unitagent.workload.lifecycle import Workload

_log = logging.getLogger(__name__)

MOST_DECISIONS = 200
_LATER = 2.0  # seconds after a crash: by then a quick restart is over
_HANGS = frozenset({Reason.STALLED, Reason.UNHEALTHY, Reason.STARTUP_TIMEOUT, Reason.REQUESTED})
_CRASHES = frozenset({Reason.EXIT, Reason.SIGNAL, Reason.OOM})


class Moment(Enum):
    """When evidence is collected."""

    NEVER = "never"
    BEFORE_STOP = "before the stop"
    LATER = "later"  # nothing is left that a stop could destroy


def choose_moment(state: State, generation: int | None = None) -> Moment:
    """Choose when to collect evidence about the generation that is being stopped, by default mine."""
    end, failure = state.shutdown, state.recovery.failure
    urgent = state.fenced or state.workload.isolated or end.force_stop
    wanted = end.draining or end.stop_requested
    if urgent or wanted or failure is None or failure.generation != (generation or state.me.generation):
        return Moment.NEVER
    if failure.reason in _HANGS:
        return Moment.BEFORE_STOP
    crashed = failure.reason in _CRASHES and failure.rank == state.config.rank
    return Moment.LATER if crashed and not end.leaving else Moment.NEVER


Step = tuple[float, int, str, Event | str, tuple[Action, ...]]  # when, where, what happened, what followed


class StopContext(Struct, frozen=True):
    """What the agent hands over when a workload is stopped.

    Attributes:
        state: at that moment.
        steps: the last decisions.
        output: what the workload, or the keeper, has written lately.
        generation: that is being stopped.
        of_keeper: it is the keeper that is stopped; no workload was started in its generation.

    """

    state: State
    steps: list[Step]
    output: bytes
    generation: int
    of_keeper: bool = False


class DecisionLog:
    """The agent's last decisions, without the heartbeats between them."""

    def __init__(self) -> None:
        self._steps: deque[Step] = deque(maxlen=MOST_DECISIONS)

    def remember_step(self, state: State, event: Event, actions: Sequence[Action]) -> None:
        """Remember one step; a tick or an answer of the store counts only if something followed from it."""
        followed = tuple(one for one in actions if not isinstance(one, Exchange))
        routine = isinstance(event, Tick | Exchanged)
        if routine and not followed:
            return
        shown = type(event).__name__ if routine else event  # an answer of the store is as large as the Unit
        self._steps.append((event.now, state.me.generation, state.me.state.value, shown, followed))

    def list_steps(self) -> list[Step]:
        """Return them as they are, oldest first."""
        return list(self._steps)


class EvidenceTrigger:
    """Collects the evidence of one rank at the right moment.

    Args:
        seconds: that a stop may wait.
        make_collection: makes what collects, when it is needed for the first time.

    """

    def __init__(self, seconds: float, make_collection: Callable[[], EvidenceCollection]) -> None:
        self.decisions = DecisionLog()
        self._seconds = seconds
        self._make_collection = make_collection
        self._collection: EvidenceCollection | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._interrupted = asyncio.Event()
        self._is_ending = False

    async def collect_before_stop(self, state: State, workload: Workload) -> None:
        """Collect what the coming stop would destroy; raises nothing, and ends in time."""
        if not self._is_ending and (moment := choose_moment(state)) is not Moment.NEVER:
            steps, output = self.decisions.list_steps(), workload.output.read_generation()
            await self._collect(StopContext(state, steps, output, state.me.generation), moment)

    async def collect_before_keeper_stop(self, state: State, lines: Sequence[str], *, urgent: bool) -> None:
        """Collect the same about a keeper whose generation has failed; ``lines``: the last of its output;
        ``urgent``: its stop waits for nothing.
        """
        gang = state.keeper.gang
        if self._is_ending or gang is None:
            return
        moment = choose_moment(state, gang.generation)
        if moment is Moment.LATER or (moment is Moment.BEFORE_STOP and not urgent):
            steps, output = self.decisions.list_steps(), "\n".join(lines).encode()
            await self._collect(StopContext(state, steps, output, gang.generation, of_keeper=True), moment)

    async def _collect(self, left: StopContext, moment: Moment) -> None:
        if moment is Moment.LATER:
            self._timer = asyncio.get_running_loop().call_later(_LATER, self._collect_evidence_of, left)
            return
        self._interrupted.clear()
        try:
            await self._get_collection().collect_alive(left, self._seconds, self._interrupted)
        except Exception as error:  # noqa: BLE001 (whatever fails here, the workload is stopped)
            _log_failure(left, error)

    def interrupt_collection(self) -> None:
        """Let the stop that is under way wait no longer."""
        self._interrupted.set()

    def end_collection(self) -> None:
        """Collect nothing more: this agent was asked to stop."""
        self._is_ending = True
        self.interrupt_collection()

    async def close(self) -> None:
        """Give up what is under way."""
        self.end_collection()
        if self._timer is not None:
            self._timer.cancel()
        if self._collection is not None:
            await self._collection.close()

    def _collect_evidence_of(self, left: StopContext) -> None:
        if self._is_ending:
            return
        try:
            self._get_collection().collect_remains(left, self._seconds)
        except Exception as error:  # noqa: BLE001 (whatever fails here, the agent goes on)
            _log_failure(left, error)

    def _get_collection(self) -> EvidenceCollection:
        self._collection = self._collection or self._make_collection()
        return self._collection


def _log_failure(left: StopContext, error: Exception) -> None:
    _log.warning("no evidence of generation %d: %r", left.generation, error)


class EvidenceFiles:
    """What this rank has collected, on its disk; a reader imports what it needs."""

    def __init__(self, configured: str | None, unit: str, rank: int) -> None:
        self._configured, self._unit, self._rank = configured, unit, rank

    def list_collections(self) -> list[dict[str, Any]]:
        """Return all collections, oldest first. Blocks."""
        from unitagent.evidence.folder import list_collections, read_report  # noqa: PLC0415

        mine = self._locate_folder()
        return [{**one.describe(), "report": read_report(mine, one.name)} for one in list_collections(mine)]

    def read_piece(self, collection: str, file: str, offset: int) -> bytes | None:
        """Return a piece of a file; None if there is no such file. Blocks."""
        from unitagent.evidence.folder import read_piece  # noqa: PLC0415

        return read_piece(self._locate_folder(), collection, file, offset)

    def _locate_folder(self) -> Path:
        from unitagent.evidence.folder import choose_root, locate_folder  # noqa: PLC0415

        return locate_folder(choose_root(self._configured, os.environ)[0], self._unit, self._rank)
