"""``RANK_ID=auto``: which rank is free is judged by beats and my own clock, never by the store's."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.fakestore import FakeServer, FakeStore
from tests.listening import story, until
from tests.records import exchange, record
from unitagent.agent import claim as claiming
from unitagent.agent.claim import Claimed, claim
from unitagent.core.model import Record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SIZE, LEASE = 3, 0.4
SPARE = replace(record(0, "spare", generation=0, size=SIZE), ip="10.0.0.9")


@pytest.fixture(autouse=True)
def _no_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claiming, "ISOLATION_MARGIN", 0.1)
    monkeypatch.setattr(claiming, "_PAUSE", 0.01)


async def keep_beating(server: FakeServer, mine: Record) -> None:
    store = FakeStore(server, mine.rank, mine.incarnation)
    while True:
        await store.exchange(exchange(mine, generation=mine.generation))
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def held(server: FakeServer) -> AsyncIterator[dict[int, asyncio.Task[None]]]:
    """All ranks have a living holder, on a store that is older than a lease."""
    server.state.board.born = server.clock() - 60
    holders = [record(rank, f"i{rank}", generation=4, size=SIZE) for rank in range(SIZE)]
    beating = {mine.rank: asyncio.create_task(keep_beating(server, mine)) for mine in holders}
    await until(lambda: len(server.state.board.records) == SIZE)
    try:
        yield beating
    finally:
        for task in beating.values():
            task.cancel()


def claimed(server: FakeServer, me: Record = SPARE, *, guard: bool = True) -> asyncio.Task[Claimed]:
    store = FakeStore(server, None, me.incarnation)
    return asyncio.create_task(claim(store, me, guard=guard, lease=LEASE, store_timeout=60))


@story
async def test_a_store_whose_clock_steps_ahead_gives_nobody_a_held_rank() -> None:
    ahead = 0.0
    loop = asyncio.get_running_loop()
    server = FakeServer(clock=lambda: loop.time() + ahead)
    async with held(server) as beating:
        ahead = 3600.0
        beating[2].cancel()  # the only one whose beat stands still from now on
        assert (await claimed(server)).me.rank == 2
        assert server.state.board.holders == {0: "i0", 1: "i1", 2: "spare"}


@pytest.mark.parametrize(("guard", "generation"), [(True, 5), (False, 4)])
def test_who_takes_a_rank_says_that_its_predecessors_generation_is_over(guard: bool, generation: int) -> None:
    @story
    async def tell() -> None:
        server = FakeServer()
        async with held(server) as beating:
            beating[1].cancel()
            found = await claimed(server, guard=guard)
        assert found.me == replace(SPARE, rank=1)
        assert found.took == record(1, "i1", generation=4, size=SIZE)
        assert server.state.board.generation == generation

    tell()


@story
async def test_who_comes_back_to_its_address_has_its_rank_at_once() -> None:
    server = FakeServer()
    async with held(server):
        back = replace(SPARE, ip="10.0.0.1", port=9470)
        assert (await claimed(server, back)).me.rank == 1


@story
async def test_a_place_of_a_larger_unit_is_no_place_of_this_one() -> None:
    server = FakeServer()
    async with held(server) as beating:
        gone = record(3, "i3", size=4)
        await FakeStore(server, 3, "i3").exchange(exchange(gone))
        beating[0].cancel()
        assert (await claimed(server, replace(SPARE, ip=gone.ip))).me.rank == 0


@story
async def test_nobody_claims_on_a_store_that_is_younger_than_a_lease() -> None:
    server = FakeServer()
    waits = claimed(server)
    await until(lambda: server.state.board.born is not None)
    server.state.board.born = server.clock() + 3600
    await until(lambda: server.state._counts["spare"] > 5)
    assert not waits.done()
    server.state.board.born = server.clock() - LEASE
    assert (await waits) == Claimed(SPARE)
