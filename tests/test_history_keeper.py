"""A copy of the Unit's history, for a store that comes back without it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from tests.listening import story, until
from tests.records import moment, record
from tests.servers import running
from tests.test_history_writer import START, change
from unitagent.agent import history_writer
from unitagent.agent.history_writer import HistoryKeeper, HistoryWriter
from unitagent.core.history import EventKind, HistoryEvent
from unitagent.core.state import initial_state
from unitagent.errors import StoreError
from unitagent.store.history import HistoryPage, UnitHistory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

EPOCH = 1000.0
STORE_AHEAD = 500.0  # seconds by which the store's clock is ahead of ours


class Stream:
    """A history in memory that can be lost; each entry's name is one of this life."""

    def __init__(self) -> None:
        self.entries: list[HistoryEvent] = []
        self.life = 0
        self.reads = 0
        self.refuses_after = 10**9  # entries

    def lose(self) -> None:
        self.entries, self.life = [], self.life + 1

    async def add_events(self, events: Sequence[HistoryEvent], clock: Callable[[], float]) -> None:
        now = clock()
        for event in events:
            if len(self.entries) >= self.refuses_after:
                raise StoreError("away")
            self.entries.append(replace(event, at=self.now() - (now - event.at)))

    async def read(self, after: bytes = b"") -> HistoryPage:
        self.reads += 1
        begin = int(after.split(b"-")[1]) if after else 0
        events = tuple(self.entries[begin : begin + 7])
        last = b"%d-%d" % (self.life, begin + len(events)) if events else after
        return HistoryPage(events, last, self.now())

    async def holds_entry(self, entry: bytes) -> bool:
        return entry.startswith(b"%d-" % self.life) and int(entry.split(b"-")[1]) <= len(self.entries)

    async def read_latest(self, count: int) -> HistoryPage:
        return HistoryPage(tuple(self.entries[-count:]), b"", self.now())

    async def close(self) -> None: ...

    def now(self) -> float:
        return time.monotonic() + EPOCH + STORE_AHEAD


def write(stream: Stream, *events: HistoryEvent) -> None:
    now = stream.now()
    stream.entries += [replace(event, at=now - event.at) for event in events]


def told(stream: Stream) -> list[tuple[int, int]]:
    return [(one.rank, one.number) for one in stream.entries]


@story
async def test_what_a_store_has_lost_is_given_back_once() -> None:
    stream = Stream()
    keeper = HistoryKeeper(stream, EPOCH)
    write(stream, *(moment(0, number, at=100 - number) for number in range(20)))
    assert await keeper.update_copy() == 0
    before = list(stream.entries)
    stream.lose()
    write(stream, moment(3, 0))  # another rank was sooner
    assert await keeper.update_copy() == 20
    assert told(stream) == [(3, 0), *((0, number) for number in range(20))]
    assert [round(one.at, 1) for one in stream.entries[1:]] == [round(one.at, 1) for one in before]
    assert await keeper.update_copy() == 0
    assert len(stream.entries) == 21


@story
async def test_two_keepers_give_back_each_event_once() -> None:
    stream = Stream()
    first, second = HistoryKeeper(stream, EPOCH), HistoryKeeper(stream, EPOCH)
    write(stream, *(moment(0, number) for number in range(3)))
    await first.update_copy()
    write(stream, moment(2, 0))
    await second.update_copy()
    stream.lose()
    assert await first.update_copy() == 3
    assert await second.update_copy() == 1
    assert sorted(told(stream)) == [(0, 0), (0, 1), (0, 2), (2, 0)]


@story
async def test_a_store_that_goes_away_meanwhile_gets_the_rest_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_writer, "_READ_AT_ONCE", 2)
    stream = Stream()
    keeper = HistoryKeeper(stream, EPOCH)
    write(stream, *(moment(0, number) for number in range(6)))
    await keeper.update_copy()
    stream.lose()
    stream.refuses_after = 3
    with pytest.raises(StoreError):
        await keeper.update_copy()
    stream.refuses_after = 10**9
    assert await keeper.update_copy() == 3
    assert told(stream) == [(0, number) for number in range(6)]


@story
async def test_the_copy_is_bounded_and_states_do_not_crowd_out_failures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(history_writer, "_MOST_EVENTS", 10)
    stream = Stream()
    keeper = HistoryKeeper(stream, EPOCH)
    write(stream, moment(0, 0, at=50.0, kind=EventKind.FAILURE))
    write(stream, *(moment(1, number) for number in range(100)))
    await keeper.update_copy()
    assert [(one.rank, one.number) for one in keeper.events] == [
        (0, 0),
        *((1, number) for number in range(90, 100)),
    ]


def keeping(stream: Stream) -> HistoryWriter:
    me = replace(START.config, rank=1, size=2)
    state = initial_state(me, record(1, "a", size=2), 5.0)
    return HistoryWriter(stream, state, HistoryKeeper(stream, EPOCH))


@story
async def test_it_is_read_when_something_has_happened_and_never_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_writer, "_LINGER", 0.05)
    stream = Stream()
    writer = keeping(stream)
    writer._linger = 0.05
    async with writer.write_in_background():
        change(writer)
        await until(lambda: stream.reads > 0)
        await asyncio.sleep(0.3)  # nothing to wait for: it must not read on
        reads = stream.reads
        for _ in range(100):
            writer.observe_step(START, replace(START, now=START.now + 1), ())
        await asyncio.sleep(0.3)
        assert stream.reads == reads
        led = START.with_store(records={0: record(0, "z")})
        writer.observe_step(START, led, ())
        await until(lambda: stream.reads > reads)


@story
async def test_the_last_act_of_an_agent_gives_back_too() -> None:
    """Without guard all others leave when rank 0 was rebuilt."""
    stream = Stream()
    writer = keeping(stream)
    assert writer._keeper is not None
    write(stream, *(moment(0, number) for number in range(3)))
    await writer._keeper.update_copy()
    stream.lose()
    async with writer.write_in_background():
        change(writer)
    assert {(0, number) for number in range(3)} <= set(told(stream))


def test_a_real_server_that_comes_back_empty(tmp_path: Path) -> None:
    with running(tmp_path) as server:

        @story
        async def tell() -> None:
            history = UnitHistory("u", server.url, timeout=5)
            keeper = HistoryKeeper(history, EPOCH)
            await history.add_events([moment(number=number) for number in range(1200)], lambda: 0)
            await keeper.update_copy()
            assert await keeper.update_copy() == 0
            server.command("FLUSHALL")
            assert await keeper.update_copy() == history_writer._MOST_EVENTS
            server.command("SET", "unitagent:{u}:history", "x")
            assert await keeper.update_copy() == history_writer._MOST_EVENTS
            assert [one.number for one in (await history.read()).events] == list(range(700, 1200))
            await history.close()

        tell()
