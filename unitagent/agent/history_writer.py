"""Writes what happens to this instance into the store: the Unit's history, and the output of a failed
workload.

The invariants: nothing waits for it. Events that the store does not accept are kept, up to a bound, and
written later; while nothing happens nothing is written, and an idle connection is closed. The stored output
belongs to the stored failure: which rank failed first is known only once the store has said so, so nothing is
written before, and ranks that merely followed write nothing. Likely secrets in the output are masked, because
everyone who can read the store or the status can read it.

An embedded store ends with rank 0's container, and the history of the failure with it. So the first few other
ranks keep a copy (:class:`HistoryKeeper`) and write it again into the empty store that the next rank 0
brings. What is kept is bounded; what happened to the Unit is not crowded out by the states of its many ranks.
An event given back twice is one event, because incarnation and number identify it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from msgspec.structs import replace

from unitagent.core.actions import Action
from unitagent.core.history import EventKind, HistoryEvent, derive_events
from unitagent.core.model import Failure
from unitagent.core.state import State
from unitagent.errors import StoreError
from unitagent.store.protocol import Store, WorkloadOutput
from unitagent.system import redaction

if TYPE_CHECKING:
    from unitagent.store.history import HistoryPage

_log = logging.getLogger(__name__)

_MAX_QUEUED = 1000  # events kept while the store does not accept them
_AT_ONCE = 100  # events in one write
_GATHER = 0.1  # seconds in which events are gathered for one write
_CROWD = 500  # instances per second that write when all have news
_LINGER = 5.0  # seconds before an idle connection is closed
_MIN_RETRY, _MAX_RETRY = 0.5, 60.0  # seconds before a write is retried, unless there is news
_FAREWELL = 0.5  # seconds to write the last events


class HistoryStore(Protocol):
    """Where events are stored."""

    async def add_events(self, events: Sequence[HistoryEvent], clock: Callable[[], float]) -> None:
        """Store these events; ``clock`` is the clock of their timestamps."""

    async def read_latest(self, count: int) -> HistoryPage:
        """Read the last events, as many as ``count``."""

    async def close(self) -> None:
        """Close the connection; the next write opens it again."""


class HistoryWriter:
    """Writes the history of one agent."""

    def __init__(self, store: HistoryStore, state: State, keeper: HistoryKeeper | None = None) -> None:
        """Prepare; ``keeper`` keeps a copy of the whole history."""
        self._store = store
        self._keeper = keeper
        self._linger = _LINGER * (state.config.rank if keeper else 1)  # two keepers do not write at once
        self._epoch = state.config.epoch
        self._gather = _GATHER, _GATHER + state.config.size / _CROWD
        self._failure: Failure | None = None if state.recovery.failure_stored else state.recovery.failure
        self._queue: deque[HistoryEvent] = deque()
        self._count = 0
        self._dropped = 0
        self._news = asyncio.Event()
        self._ending = asyncio.Event()
        self._is_reachable = True
        self._is_broken = False

    def observe_step(self, before: State, after: State, actions: Sequence[Action]) -> list[HistoryEvent]:
        """Queue the events of one step of the agent, and return them."""
        if self._is_broken:
            return []
        try:
            self._failure, events = derive_events(self._failure, before, after, actions)
        except Exception as error:  # noqa: BLE001  # an error here must not stop the agent
            self._is_broken = True
            _log.error("internal error: the Unit's history ends here: %r", error)
            return []
        for event in events:
            self.add_event(event)
        if self._keeper is not None and before.store.records.get(0) is not after.store.records.get(0):
            self._news.set()  # rank 0 may have written something about the Unit
        return events

    def add_event(self, event: HistoryEvent) -> None:
        """Queue an event; the writer numbers it."""
        self._queue.append(replace(event, number=self._count))
        self._count += 1
        if len(self._queue) > _MAX_QUEUED:
            self._queue.popleft()
            self._dropped += 1
        self._news.set()

    async def read_latest(self, count: int) -> Sequence[HistoryEvent]:
        """Return the last events that the store has; none while it is away."""
        try:
            return (await self._store.read_latest(count)).events
        except StoreError:
            return ()

    def recall_events(self) -> list[HistoryEvent]:
        """Return what this agent knows without the store, oldest first: its copy, and what is not written."""
        kept = self._keeper.events if self._keeper is not None else []
        return sorted([*kept, *self._queue], key=lambda event: event.at)

    @contextlib.asynccontextmanager
    async def write_in_background(self) -> AsyncIterator[None]:
        """Write for the duration of the block; at its end, write the rest within a moment."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            self._ending.set()
            self._news.set()
            await asyncio.wait([task], timeout=_FAREWELL)
            task.cancel()
            await asyncio.wait([task])
            await self._store.close()

    async def _run(self) -> None:
        pause = _MIN_RETRY
        while self._queue or not self._ending.is_set():
            if not self._queue:
                await self._wait_for_news()
                continue
            await self._pause_unless_ending(random.uniform(*self._gather))  # noqa: S311  # spreads the load
            self._news.clear()
            if await self._write_batch():
                pause = _MIN_RETRY
            elif self._ending.is_set():
                return
            else:
                await self._has_news_within(pause)
                pause = min(2 * pause, _MAX_RETRY)
        await self._update_copy()  # the store may be the next rank 0's, and this the last that knows

    async def _wait_for_news(self) -> None:
        """Wait for news; when there is none for a while, update the copy and close the connection."""
        self._news.clear()
        if not await self._has_news_within(self._linger):
            await self._update_copy()
            await self._store.close()
            await self._news.wait()

    async def _update_copy(self) -> None:
        if self._keeper is None:
            return
        try:
            count = await self._keeper.update_copy()
        except StoreError as error:
            self._log_failure(error)
        else:
            _log.debug("keeps a copy of %d entries of the Unit's history", len(self._keeper.events))
            if count:
                _log.info("gave %d entries of the Unit's history back to a store that had lost them", count)

    async def _has_news_within(self, within: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._news.wait()
        return self._news.is_set()

    async def _pause_unless_ending(self, seconds: float) -> None:
        """Wait, unless the agent is ending."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ending.wait()

    async def _write_batch(self) -> bool:
        """Write the oldest events; return whether the store accepted them."""
        batch, dropped = list(islice(self._queue, _AT_ONCE)), self._dropped
        last = batch[-1].number
        if dropped:
            batch.insert(0, _make_gap(batch[0], dropped))
        try:
            await self._store.add_events(batch, lambda: time.monotonic() + self._epoch)
        except StoreError as error:
            self._log_failure(error)
            return False
        while self._queue and self._queue[0].number <= last:
            self._queue.popleft()
        self._dropped -= dropped
        self._is_reachable = True
        return True

    def _log_failure(self, error: StoreError) -> None:
        """Log one failure per outage, and none while the agent is ending."""
        if self._is_reachable and not self._ending.is_set():
            _log.warning("cannot write the Unit's history for now: %s", error)
        self._is_reachable = False


def _make_gap(following: HistoryEvent, dropped: int) -> HistoryEvent:
    """The entry that replaces dropped events; it has the number of the last of them."""
    entries = "1 entry" if dropped == 1 else f"{dropped} entries"
    detail = f"{entries} of rank {following.rank} missing here: the store did not accept them in time"
    return replace(following, number=following.number - 1, kind=EventKind.GAP, state=None, detail=detail)


class FailureOutput:
    """The last lines of the workload or the keeper that was the first to end in a generation, until the store
    has its failure.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._generation = 0
        self._lines: list[str] = []

    def remember_tail(self, generation: int, lines: list[str]) -> None:
        """Remember the last lines of what has ended in this generation; what ends later is a consequence."""
        if generation != self._generation:
            self._generation, self._lines = generation, lines

    def take_output(self, state: State) -> WorkloadOutput | None:
        """Return the lines, once, when the store has recorded their failure as the first one."""
        failure, lines = state.recovery.failure, self._lines
        if failure is None or not lines or not state.recovery.failure_stored:
            return None
        if (failure.generation, failure.rank) != (self._generation, state.config.rank):
            return None
        self._lines = []
        return WorkloadOutput(
            generation=failure.generation, rank=failure.rank, lines=tuple(map(redaction.redact_text, lines))
        )

    async def store_output(self, output: WorkloadOutput) -> None:
        """Write the lines into the store; what it does not take is offered again with the next step."""
        try:
            await self._store.put_output(output.generation, output.rank, output.lines)
        except StoreError as error:
            _log.debug("the workload's last lines could not be stored: %s", error)
            if self._generation == output.generation:
                self._lines = list(output.lines)


KEEPERS = range(1, 4)  # the ranks that keep a copy
_MOST_EVENTS = 500  # of each of the two kinds
_READ_AT_ONCE = 100  # events in one write
_OF_ONE_RANK = frozenset({EventKind.STATE, EventKind.GENERATION, EventKind.JOINED, EventKind.QUIT})


class ReadableHistory(Protocol):
    """Where the history is stored."""

    async def add_events(self, events: Sequence[HistoryEvent], clock: Callable[[], float]) -> None:
        """Store these events; ``clock`` is the clock of their timestamps."""

    async def read(self, after: bytes = b"") -> HistoryPage:
        """Read what follows a page's last event; from the beginning without one."""

    async def holds_entry(self, entry: bytes) -> bool:
        """Whether a page's last event is still there."""


class HistoryKeeper:
    """The copy of one agent; times are of its own clock, seconds since the epoch."""

    def __init__(self, history: ReadableHistory, epoch: float) -> None:
        self._history = history
        self._epoch = epoch
        self._last = b""
        self._of_unit: dict[tuple[str, int], HistoryEvent] = {}
        self._of_ranks: dict[tuple[str, int], HistoryEvent] = {}

    @property
    def events(self) -> list[HistoryEvent]:
        """What is kept, oldest first."""
        return sorted((*self._of_unit.values(), *self._of_ranks.values()), key=lambda event: event.at)

    async def update_copy(self) -> int:
        """Read what is new, and give back what the store has lost; return how many events that were.

        Raises:
            StoreError: the store does not take part; the next update goes on from there.

        """
        if not self._last or await self._history.holds_entry(self._last):
            await self._read_new_events()
            return 0
        former, known, self._last = self._last, self.events, b""
        try:
            found = await self._read_new_events()
            lost = [event for event in known if _identify_event(event) not in found]
            for begin in range(0, len(lost), _READ_AT_ONCE):
                await self._history.add_events(lost[begin : begin + _READ_AT_ONCE], self._read_clock)
            await self._read_new_events()  # the next loss shows in the last of them
        except BaseException:
            self._last = former  # which the store does not hold, so the next update begins again
            raise
        return len(lost)

    async def _read_new_events(self) -> set[tuple[str, int]]:
        """Keep the events from the last one on, and return which they are."""
        found = set()
        ahead: float | None = None  # by which our clock is ahead of the store's
        while (page := await self._history.read(self._last)).last != self._last:
            ahead = self._read_clock() - page.now if ahead is None else ahead
            for event in page.events:
                self._keep_event(replace(event, at=event.at + ahead))
                found.add(_identify_event(event))
            self._last = page.last
        return found

    def _keep_event(self, event: HistoryEvent) -> None:
        kept = self._of_ranks if event.kind in _OF_ONE_RANK else self._of_unit
        kept.setdefault(_identify_event(event), event)
        if len(kept) > _MOST_EVENTS:
            del kept[next(iter(kept))]

    def _read_clock(self) -> float:
        return time.monotonic() + self._epoch


def _identify_event(event: HistoryEvent) -> tuple[str, int]:
    return event.incarnation, event.number
