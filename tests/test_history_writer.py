"""An agent's history on its way to the store: nothing waits for it, and nothing is lost without a word."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from tests.listening import story, until
from tests.records import record
from tests.servers import running
from unitagent.agent import history_writer
from unitagent.agent.history_writer import HistoryWriter
from unitagent.core.config import CoreConfig
from unitagent.core.history import EventKind, HistoryEvent
from unitagent.core.model import InstanceState
from unitagent.core.state import State, initial_state, update_record
from unitagent.errors import StoreError
from unitagent.store.history import HistoryPage, UnitHistory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

EPOCH = 1000.0
START = initial_state(
    CoreConfig(unit="u", rank=0, size=1, incarnation="a", epoch=EPOCH), record(0, "a", size=1), 5.0
)


class Shelf:
    """Keeps moments; ``trouble`` and ``hangs`` are an outage in both its ways."""

    def __init__(self) -> None:
        self.batches: list[list[HistoryEvent]] = []
        self.tries = 0
        self.closed = 0
        self.trouble = ""
        self.hangs = False
        self.clock: Callable[[], float] = lambda: 0.0

    async def add_events(self, moments: Sequence[HistoryEvent], clock: Callable[[], float]) -> None:
        self.tries += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.trouble:
            raise StoreError(self.trouble)
        self.clock = clock
        self.batches.append(list(moments))

    async def read_latest(self, count: int) -> HistoryPage:
        if self.trouble:
            raise StoreError(self.trouble)
        return HistoryPage(tuple(one for batch in self.batches for one in batch)[-count:], b"", 0.0)

    async def close(self) -> None:
        self.closed += 1

    @property
    def numbers(self) -> list[int]:
        return [one.number for batch in self.batches for one in batch]


def change(recorder: HistoryWriter, times: int = 1) -> None:
    """Something to tell, so many times."""
    states = InstanceState.RUNNING, InstanceState.HEALTHY
    for number in range(times):
        before, after = (update_record(START, state=states[(number + turn) % 2]) for turn in (0, 1))
        recorder.observe_step(before, after, ())


@story
async def test_what_happens_together_is_one_write() -> None:
    shelf = Shelf()
    recorder = HistoryWriter(shelf, START)
    async with recorder.write_in_background():
        change(recorder, 3)
        await until(lambda: bool(shelf.batches))
        assert (shelf.numbers, len(shelf.batches)) == ([0, 1, 2], 1)
    told = shelf.batches[0][0]
    assert (told.at, told.incarnation, told.kind) == (1005.0, "a", EventKind.STATE)
    assert abs(shelf.clock() - (time.monotonic() + EPOCH)) < 60


@story
async def test_steps_that_change_nothing_write_nothing_and_hold_no_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(history_writer, "_LINGER", 0.05)
    shelf = Shelf()
    recorder = HistoryWriter(shelf, START)
    async with recorder.write_in_background():
        await until(lambda: shelf.closed == 1)
        for _ in range(1000):
            recorder.observe_step(START, replace(START, now=START.now + 1), ())
        await asyncio.sleep(3 * history_writer._GATHER)  # nothing to wait for: it must not happen
        assert (shelf.tries, shelf.closed) == (0, 1)
        change(recorder)
        await until(lambda: bool(shelf.batches))


@story
async def test_what_is_not_written_yet_is_known() -> None:
    shelf = Shelf()
    shelf.trouble = "away"
    recorder = HistoryWriter(shelf, START)
    assert recorder.recall_events() == []
    async with recorder.write_in_background():
        change(recorder, 2)
        await until(lambda: shelf.tries > 0)
        assert [one.number for one in recorder.recall_events()] == [0, 1]
        shelf.trouble = ""
        change(recorder)
        await until(lambda: shelf.numbers == [0, 1, 2])
        await until(lambda: recorder.recall_events() == [])


@story
async def test_what_an_outage_held_back_is_told_afterwards(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(history_writer, "_MIN_RETRY", 0.01)
    shelf = Shelf()
    shelf.trouble = "the store at x cannot be reached"
    recorder = HistoryWriter(shelf, START)
    async with recorder.write_in_background():
        change(recorder, 2)
        await until(lambda: shelf.tries > 2)
        change(recorder, 1)
        shelf.trouble = ""
        await until(lambda: shelf.numbers == [0, 1, 2])
    said = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert said == ["cannot write the Unit's history for now: the store at x cannot be reached"]


@story
async def test_news_end_a_long_pause_between_two_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_writer, "_MIN_RETRY", 1000.0)
    shelf = Shelf()
    shelf.trouble = "away"
    recorder = HistoryWriter(shelf, START)
    async with recorder.write_in_background():
        change(recorder)
        await until(lambda: shelf.tries == 1)
        shelf.trouble = ""
        change(recorder)
        await until(lambda: shelf.numbers == [0, 1])


@story
async def test_more_than_can_be_kept_is_one_entry_about_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_writer, "_MAX_QUEUED", 5)
    shelf = Shelf()
    shelf.trouble = "away"
    recorder = HistoryWriter(shelf, START)
    async with recorder.write_in_background():
        change(recorder, 8)
        shelf.trouble = ""
        await until(lambda: bool(shelf.batches))
    gap, *rest = shelf.batches[0]
    assert (gap.kind, gap.number, gap.state) == (EventKind.GAP, 2, None)
    assert gap.detail == "3 entries of rank 0 missing here: the store did not accept them in time"
    assert [one.number for one in rest] == [3, 4, 5, 6, 7]
    assert len(shelf.batches) == 1


@story
async def test_a_great_many_are_told_in_several_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_writer, "_AT_ONCE", 4)
    shelf = Shelf()
    recorder = HistoryWriter(shelf, START)
    async with recorder.write_in_background():
        change(recorder, 10)
    assert [len(batch) for batch in shelf.batches] == [4, 4, 2]
    assert shelf.numbers == list(range(10))


@story
async def test_the_last_moments_are_told_at_the_end_without_waiting_for_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(history_writer, "_GATHER", 1000.0)
    shelf = Shelf()
    recorder = HistoryWriter(shelf, START)
    async with recorder.write_in_background():
        change(recorder)
    assert (shelf.numbers, shelf.closed) == ([0], 1)


@pytest.mark.parametrize("hangs", [False, True])
def test_an_end_waits_for_no_store(*, hangs: bool) -> None:
    @story
    async def tell() -> None:
        shelf = Shelf()
        shelf.trouble, shelf.hangs = "away", hangs
        recorder = HistoryWriter(shelf, START)
        began = time.monotonic()
        async with recorder.write_in_background():
            change(recorder)
            await until(lambda: shelf.tries > 0)
        assert time.monotonic() - began < 5
        assert shelf.closed == 1

    tell()


@story
async def test_a_store_that_hangs_does_not_block_what_is_observed() -> None:
    shelf = Shelf()
    shelf.hangs = True
    recorder = HistoryWriter(shelf, START)
    async with recorder.write_in_background():
        change(recorder)
        await until(lambda: shelf.tries == 1)
        change(recorder, 5000)
        assert shelf.tries == 1


def test_a_defect_in_here_is_said_once_and_is_not_the_agent_s(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: State) -> None:
        raise RuntimeError("defect")

    monkeypatch.setattr(history_writer, "derive_events", broken)
    recorder = HistoryWriter(Shelf(), START)
    change(recorder, 2)
    assert [one.getMessage() for one in caplog.records] == [
        "internal error: the Unit's history ends here: RuntimeError('defect')"
    ]


def test_a_user_without_the_permissions_is_told_once_and_then_it_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(history_writer, "_MIN_RETRY", 0.01)
    rights = ("~unitagent:*", "&unitagent:*", "+@all", "-xadd")

    @story
    async def tell() -> None:
        with running(tmp_path) as server:
            server.command("ACL", "SETUSER", "small", "on", ">pw", *rights)
            history = UnitHistory("u", f"redis://small:pw@127.0.0.1:{server.port}", timeout=5)
            recorder = HistoryWriter(history, START)
            async with recorder.write_in_background():
                change(recorder, 2)
                await until(lambda: bool(caplog.records))
                server.command("ACL", "SETUSER", "small", "+xadd")
                await until(lambda: server.command("XLEN", "unitagent:{u}:history") == b":2\r\n")

    tell()
    (said,) = [one.getMessage() for one in caplog.records]
    assert "does not permit this user all that is needed; give the user of UNIT_REDIS_URL" in said
