"""What each start of the engine on this instance was made of, as the lines of its output tell.

The invariants: a line costs a few searches for fixed text while the engine starts, and nothing afterwards.
Memory is bounded, whatever the engine writes. An engine whose lines are not known has no phases.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

from unitagent.agent.background_tasks import BackgroundTasks, ignore_failure
from unitagent.core.engine_start import (
    OTHER,
    PHASES,
    StartMarks,
    add_part,
    describe_start,
    end_phase,
    list_phases,
    measure_phases,
    name_phase,
)
from unitagent.core.history import EventKind, HistoryEvent, make_engine_event
from unitagent.core.probe_answers import is_ready
from unitagent.core.state import describe_rank
from unitagent.system.log import FIELDS

if TYPE_CHECKING:
    from unitagent.core.state import State
    from unitagent.frameworks.interface import PhaseLine

_log = logging.getLogger(__name__)

_ALWAYS_LOOKED_AT, _LOOKED_AT = 100, 10  # last events, and for each rank, that may tell of an earlier start

Listen = Callable[[Callable[[bytes], None] | None], None]


class History(Protocol):
    """The Unit's history."""

    def add_event(self, event: HistoryEvent) -> None:
        """Queue an event."""

    async def read_latest(self, count: int) -> Sequence[HistoryEvent]:
        """Return the last events; none while the store is away."""


class PhaseReader:
    """Reads the phases of one start from the lines of its output."""

    def __init__(self, lines: Sequence[PhaseLine], clock: Callable[[], float]) -> None:
        self._marks = StartMarks(begun=clock())
        self._is_tentative = False
        self._clock = clock
        self._lines = [(line, re.compile(line.seconds)) for line in lines]
        self._texts = tuple(line.text for line in lines)
        self._phases = [phase for phase in PHASES if any(_ends_phase(line, phase) for line in lines)]

    def read_lines(self, data: bytes) -> None:
        """Take whole lines, which have just come."""
        if not any(map(data.__contains__, self._texts)):  # the whole cost of almost all lines
            return
        now = self._clock()
        for line in data.split(b"\n"):
            for known, seconds in self._lines:
                if known.text in line:
                    self._note_line(known, seconds.search(line) if known.seconds else None, now)

    def measure_phases(self, now: float | None = None) -> dict[str, float]:
        """Return the seconds of the phases that have ended; with ``now``, the end of the start, of all."""
        return measure_phases(self._marks, now)

    @property
    def has_phases(self) -> bool:
        """Whether a line has been known."""
        return bool(self._marks.ends)

    @property
    def phase(self) -> str | None:
        """The phase that the start is in; None once the server has started."""
        place = PHASES.index(self._marks.last_ended) - self._is_tentative if self.has_phases else -1
        return next((phase for phase in self._phases if PHASES.index(phase) > place), None)

    def _note_line(self, known: PhaseLine, found: re.Match[bytes] | None, now: float) -> None:
        seconds, before = None if found is None else float(found[1]), self._marks
        if known.within:
            self._marks = before if seconds is None else add_part(before, known.phase, seconds)
            return
        self._marks = end_phase(before, known.phase, now, seconds)
        if self._marks.ends is not before.ends:
            self._is_tentative = known.tentative


def _ends_phase(line: PhaseLine, phase: str) -> bool:
    return line.phase == phase and not line.within


class _Start(Struct, frozen=True):
    """A start that has ended: its generation, and the seconds of its phases."""

    generation: int
    phases: dict[str, float]


class EngineStarts:
    """Follows the starts of one instance; ``listen`` passes the lines of its workload to a listener."""

    def __init__(
        self,
        history: History,
        tasks: BackgroundTasks,
        listen: Listen,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._history = history
        self._tasks = tasks
        self._listen = listen
        self._reader: PhaseReader | None = None  # of the start in progress
        self._generation = 0
        self._done: _Start | None = None
        self._last: Mapping[str, float] | None = None  # the phases of the start before that one
        self._has_looked = False

    def follow_start(self, lines: Sequence[PhaseLine], generation: int) -> None:
        """Follow the start of a workload that has just been spawned; nothing where no lines are known."""
        self._generation = generation
        self._reader = PhaseReader(lines, self._clock) if lines else None
        self._listen(self._reader.read_lines if self._reader else None)

    def observe_step(self, state: State) -> None:
        """End the start once the Unit is ready, or its generation is over."""
        reader = self._reader
        if reader is None:
            return
        is_over = state.me.generation != self._generation
        if is_over or (is_ready(state) and _is_told_ready(state, reader)):
            self._reader = None
            self._listen(None)
            if not is_over and reader.has_phases:
                self._end_start(state, reader.measure_phases(state.now))

    def report_status(self, rank: int) -> dict[str, Any] | None:
        """The start in progress as far as its lines have told it, or else the last one; None before that."""
        reader, done = self._reader, self._done
        if reader is not None and reader.has_phases:
            phases, phase = reader.measure_phases(), reader.phase or OTHER
            last = None if done is None else done.phases
            where = f"now in {name_phase(phase)}" if reader.phase else "its server has started"
            message = f"rank {rank}'s engine starts, {where}: {list_phases(phases)}"
            return _format_status(self._generation, phases, last, message, phase)
        if done is None:
            return None
        message = f"rank {rank}'s engine {describe_start(done.phases, self._last)}"
        return _format_status(done.generation, done.phases, self._last, message)

    def _end_start(self, state: State, phases: dict[str, float]) -> None:
        self._last = self._last if self._done is None else self._done.phases
        self._done = _Start(self._generation, phases)
        if self._last is not None or self._has_looked or state.config.rank != 0:
            self._report_start(state, phases)
        else:
            self._has_looked = True
            self._tasks.start_task(self._find_last_start(state, phases), ignore_failure)

    async def _find_last_start(self, state: State, phases: dict[str, float]) -> None:
        """Look for the last start that an earlier agent of this rank has reported, then report this one."""
        count = _ALWAYS_LOOKED_AT + _LOOKED_AT * state.config.size
        events = await self._history.read_latest(count)
        told = [event.phases for event in events if event.kind is EventKind.ENGINE and event.phases]
        if told and self._last is None:
            self._last = {phase: told[-1][phase] for phase in (*PHASES, OTHER) if phase in told[-1]}
        self._report_start(state, phases)

    def _report_start(self, state: State, phases: dict[str, float]) -> None:
        detail = f"{describe_rank(state, state.config.rank)}'s engine {describe_start(phases, self._last)}"
        _log.info("%s", detail, extra={FIELDS: {"event": EventKind.ENGINE.value}})
        if state.config.rank == 0:
            self._history.add_event(make_engine_event(state, detail, phases))


def _format_status(
    generation: int,
    phases: Mapping[str, float],
    last: Mapping[str, float] | None,
    message: str,
    phase: str | None = None,
) -> dict[str, Any]:
    return {
        "generation": generation,
        "phase": phase,
        "phases": phases,
        "total": round(sum(phases.values()), 3) if phase is None else None,
        "last": last,
        "message": message,
    }


def _is_told_ready(state: State, reader: PhaseReader) -> bool:
    """Whether being ready means that the engine serves: rank 0 may lack a health check."""
    return state.config.rank != 0 or state.config.health or reader.phase is None
