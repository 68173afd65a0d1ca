"""Keeps a copy of the Unit's history, and gives it back to a store that has lost it.

An embedded store ends with rank 0's container, and the history of the failure with it. So the first few other
ranks read what is written, and write it again into the empty store that the next rank 0 brings.

The invariants: nothing waits for it, and while nothing happens nothing is read. What is kept is bounded; what
happened to the Unit is not crowded out by the states of its many ranks. An event given back twice is one
event, because incarnation and number identify it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from msgspec.structs import replace

from unitagent.core.history import EventKind, HistoryEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from unitagent.store.history import HistoryPage

KEEPERS = range(1, 4)  # the ranks that keep a copy
_MOST_EVENTS = 500  # of each of the two kinds
_AT_ONCE = 100  # events in one write
_OF_ONE_RANK = frozenset({EventKind.STATE, EventKind.GENERATION, EventKind.JOINED, EventKind.QUIT})


class ReadableHistory(Protocol):
    """Where the history is stored."""

    async def add(self, events: Sequence[HistoryEvent], clock: Callable[[], float]) -> None:
        """Store these events; ``clock`` is the clock of their timestamps."""

    async def read(self, after: bytes = b"") -> HistoryPage:
        """Read what follows a page's last event; from the beginning without one."""

    async def holds(self, entry: bytes) -> bool:
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

    async def update(self) -> int:
        """Read what is new, and give back what the store has lost; return how many events that were.

        Raises:
            StoreError: the store does not take part; the next update goes on from there.

        """
        if not self._last or await self._history.holds(self._last):
            await self._read_new_events()
            return 0
        former, known, self._last = self._last, self.events, b""
        try:
            found = await self._read_new_events()
            lost = [event for event in known if _identify(event) not in found]
            for begin in range(0, len(lost), _AT_ONCE):
                await self._history.add(lost[begin : begin + _AT_ONCE], self._read_clock)
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
                found.add(_identify(event))
            self._last = page.last
        return found

    def _keep_event(self, event: HistoryEvent) -> None:
        kept = self._of_ranks if event.kind in _OF_ONE_RANK else self._of_unit
        kept.setdefault(_identify(event), event)
        if len(kept) > _MOST_EVENTS:
            del kept[next(iter(kept))]

    def _read_clock(self) -> float:
        return time.monotonic() + self._epoch


def _identify(event: HistoryEvent) -> tuple[str, int]:
    return event.incarnation, event.number
