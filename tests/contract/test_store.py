"""What every store does. The fake and real servers run the same sentences."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from msgspec.structs import replace

from tests.listening import Heard, story, until
from tests.records import exchange, failed, record
from unitagent.core.model import Beat, Charge, InstanceState, Order, OrderKind

if TYPE_CHECKING:
    from tests.contract.conftest import Board


@story
async def test_an_empty_store_knows_nothing(board: Board) -> None:
    reply = await board.store(0, "a").exchange(exchange())
    assert (reply.holder, reply.generation, reply.records, reply.beats) == ("", 0, {}, {})
    assert reply.failure is None
    assert reply.order is None
    assert 0 <= reply.unit_age < 5


@story
async def test_a_record_takes_a_free_rank_and_everybody_reads_it(board: Board) -> None:
    mine, other = board.store(0, "a"), board.store(1, "b")
    reply = await mine.exchange(exchange(record(0, "a")))
    assert reply.holder == "a"
    assert reply.records == {0: record(0, "a")}
    seen = await other.exchange(exchange())
    assert seen.holder == ""
    assert seen.records == {0: record(0, "a")}


@story
async def test_a_held_rank_is_not_overwritten_by_a_newcomer(board: Board) -> None:
    old, new = board.store(0, "old"), board.store(0, "new")
    await old.exchange(exchange(record(0, "old")))
    reply = await new.exchange(exchange(record(0, "new")))
    assert reply.holder == "old"
    assert reply.records == {0: record(0, "old")}
    assert reply.beats[0].incarnation == "old"


@story
async def test_a_held_rank_is_taken_from_exactly_the_incarnation_that_is_named(board: Board) -> None:
    old, new = board.store(0, "old"), board.store(0, "new")
    await old.exchange(exchange(record(0, "old")))
    assert (await new.exchange(exchange(record(0, "new"), take="another"))).holder == "old"
    taken = await new.exchange(exchange(record(0, "new"), take="old", seen=1))
    assert taken.holder == "new"
    assert taken.records == {0: record(0, "new")}
    told = await old.exchange(exchange(record(0, "old")))
    assert told.holder == "new"
    assert told.records == {0: record(0, "new")}


@story
async def test_a_held_rank_is_not_taken_from_a_holder_that_has_beaten_since_it_was_seen(board: Board) -> None:
    """Who decides to take a rank may stand still before its word arrives, and the holder come back."""
    old, new = board.store(0, "old"), board.store(0, "new")
    await old.exchange(exchange(record(0, "old")))
    seen = (await new.exchange(exchange())).beats[0].count
    await old.exchange(exchange(record(0, "old")))
    refused = await new.exchange(exchange(record(0, "new"), take="old", seen=seen))
    assert refused.holder == "old"
    seen = refused.beats[0].count
    assert (await new.exchange(exchange(record(0, "new"), take="old", seen=seen))).holder == "new"


@story
async def test_a_generation_that_no_restarts_lead_to_is_replaced_by_the_agents(board: Board) -> None:
    store = board.store(0, "a")
    lie = failed(2**53 - 1)
    assert (await store.exchange(exchange(generation=2**53 - 1, failure=lie))).generation == 2**53 - 1
    reply = await store.exchange(exchange(generation=7, failure=failed(6)))
    assert (reply.generation, reply.failure) == (7, failed(6))


@story
async def test_who_only_looks_leaves_no_trace(board: Board) -> None:
    mine, looker = board.store(0, "a"), board.store(1, "b")
    await looker.exchange(exchange(judge=(0, 1)))
    await looker.exchange(exchange())
    reply = await mine.exchange(exchange(record(0, "a"), judge=(0, 1)))
    assert set(reply.records) == {0}
    assert set(reply.beats) == {0}


@story
async def test_without_a_rank_an_exchange_only_looks_until_the_rank_is_set(board: Board) -> None:
    store = board.store(None, "a")
    reply = await store.exchange(exchange(record(2, "a")))
    assert (reply.holder, reply.records) == ("", {})
    store.set_rank(2)
    reply = await store.exchange(exchange(record(2, "a")))
    assert (reply.holder, set(reply.records)) == ("a", {2})


@story
async def test_two_newcomers_for_one_rank_give_one_holder(board: Board) -> None:
    stores = [board.store(0, name) for name in "abcdef"]
    asked = [store.exchange(exchange(record(0, name))) for store, name in zip(stores, "abcdef", strict=True)]
    assert len({reply.holder for reply in await asyncio.gather(*asked)}) == 1


@story
async def test_a_beat_changes_with_every_exchange_of_its_holder(board: Board) -> None:
    mine, judge = board.store(0, "a"), board.store(1, "b")
    seen = []
    for _ in range(3):
        await mine.exchange(exchange(record(0, "a")))
        seen.append((await judge.exchange(exchange(judge=(0,)))).beats[0])
    assert seen == [Beat("a", 1), Beat("a", 2), Beat("a", 3)]
    assert (await judge.exchange(exchange(judge=(0,)))).beats[0] == Beat("a", 3)


@story
async def test_beats_come_of_the_ranks_asked_for_and_of_my_own(board: Board) -> None:
    for rank in range(4):
        await board.store(rank, f"i{rank}").exchange(exchange(record(rank, f"i{rank}")))
    store = board.store(3, "i3")
    assert set((await store.exchange(exchange(judge=(0, 1)))).beats) == {0, 1, 3}
    assert set((await store.exchange(exchange())).beats) == {3}


@story
async def test_the_generation_never_goes_back(board: Board) -> None:
    store = board.store(0, "a")
    assert (await store.exchange(exchange(generation=7))).generation == 7
    assert (await store.exchange(exchange(generation=3))).generation == 7
    assert (await store.exchange(exchange(generation=8))).generation == 8


@story
async def test_the_first_failure_of_a_generation_is_kept(board: Board) -> None:
    store = board.store(0, "a")
    first, second = failed(3, 1, "first"), failed(3, 2, "second")
    assert (await store.exchange(exchange(failure=first))).failure == first
    assert (await store.exchange(exchange(failure=second))).failure == first
    assert (await store.exchange(exchange(failure=failed(2)))).failure == first
    assert (await store.exchange(exchange(failure=failed(4)))).failure == failed(4)
    assert (await board.store(1, "b").exchange(exchange())).failure == failed(4)


@story
async def test_a_failure_of_generation_zero_is_kept_too(board: Board) -> None:
    assert (await board.store(0, "a").exchange(exchange(failure=failed(0)))).failure == failed(0)


@story
async def test_what_changes_is_seen_and_what_does_not_stays_known(board: Board) -> None:
    stores = [board.store(rank, f"i{rank}") for rank in range(3)]
    for rank, store in enumerate(stores):
        await store.exchange(exchange(record(rank, f"i{rank}")))
    watcher = board.store(3, "i3")
    assert set((await watcher.exchange(exchange())).records) == {0, 1, 2}
    changed = replace(record(1, "i1"), state=InstanceState.IDLE, generation=2)
    await stores[1].exchange(exchange(changed))
    reply = await watcher.exchange(exchange())
    assert reply.records == {0: record(0, "i0"), 1: changed, 2: record(2, "i2")}


@story
async def test_a_reply_is_not_changed_by_a_later_one(board: Board) -> None:
    store = board.store(0, "a")
    first = await store.exchange(exchange(record(0, "a")))
    await store.exchange(exchange(record(0, "a", generation=5)))
    assert first.records[0].generation == 1


@story
async def test_a_wiped_store_is_filled_again_by_the_next_exchange_of_everybody(board: Board) -> None:
    stores = [board.store(rank, f"i{rank}") for rank in range(2)]
    requests = [exchange(record(rank, f"i{rank}"), generation=5) for rank in range(2)]
    for store, request in zip(stores, requests, strict=True):
        await store.exchange(request)
    board.wipe()
    alone = await stores[1].exchange(requests[1])
    assert (set(alone.records), alone.holder, alone.generation) == ({1}, "i1", 5)
    assert alone.unit_age < 5
    assert alone.beats == {1: Beat("i1", 2)}
    assert set((await stores[0].exchange(requests[0])).records) == {0, 1}
    assert set((await stores[1].exchange(requests[1])).records) == {0, 1}


@story
async def test_the_age_grows_from_the_first_look(board: Board) -> None:
    store = board.store(0, "a")
    first = (await store.exchange(exchange())).unit_age
    await asyncio.sleep(0.02)
    assert first < (await store.exchange(exchange())).unit_age < first + 10


@story
async def test_a_push_reaches_all_others_and_not_its_sender(board: Board) -> None:
    async with Heard(board.store(0, "a")) as mine, Heard(board.store(1, "b")) as others:
        store = board.store(0, "a")
        await store.exchange(exchange(record(0, "a"), notify=True))
        await until(lambda: others.count == 1)
        await store.exchange(exchange(record(0, "a")))
        await board.store(1, "b").exchange(exchange(notify=True))
        await until(lambda: mine.count == 1)
        assert others.count == 1


@story
async def test_an_order_is_read_and_pushes(board: Board) -> None:
    wish = Order(kind=OrderKind.RESTART, generation=0, reason="new weights")
    async with Heard(board.store(0, "a")) as mine:
        kept = await board.store().put_order(wish)
        await until(lambda: mine.count == 1)
    assert replace(kept, number=0) == wish
    assert (await board.store(0, "a").exchange(exchange())).order == kept
    later = await board.store().put_order(Order(kind=OrderKind.DRAIN, generation=0))
    assert later.kind is OrderKind.DRAIN
    assert (await board.store(0, "a").exchange(exchange())).order == later
    assert (await board.store().read()).order == later


@story
async def test_an_order_is_of_the_highest_generation_whatever_the_operator_knew(board: Board) -> None:
    store, operator = board.store(0, "a"), board.store()
    for known, claimed in ((0, 3), (7, 2), (7, 9), (8, 8)):
        await store.exchange(exchange(generation=known))
        kept = await operator.put_order(Order(kind=OrderKind.RESTART, generation=claimed))
        assert kept.generation == known
        assert (await store.exchange(exchange(generation=known))).order == kept
    later = await store.exchange(exchange(generation=9))
    assert later.order == kept  # it stays with the generation that it was given in
    assert later.generation == 9


@story
async def test_the_numbers_of_orders_grow_whatever_the_operator_says(board: Board) -> None:
    wishes = [Order(kind=OrderKind.DRAIN, generation=0, number=number) for number in (0, 5, 2**52, 1, 0)]
    numbers = [(await board.store().put_order(wish)).number for wish in wishes]
    assert sorted(set(numbers)) == numbers
    assert 0 < numbers[-1] < 2**52


@story
async def test_orders_of_one_moment_are_numbered_apart(board: Board) -> None:
    wish = Order(kind=OrderKind.RESTART, generation=0)
    kept = await asyncio.gather(*(board.store().put_order(wish) for _ in range(8)))
    assert len({order.number for order in kept}) == 8
    last = (await board.store(0, "a").exchange(exchange())).order
    assert last == max(kept, key=lambda order: order.number)


@story
async def test_an_order_to_a_store_that_lost_its_memory_is_later_than_all_before(board: Board) -> None:
    wish = Order(kind=OrderKind.RESTART, generation=0)
    before = await board.store().put_order(wish)
    board.wipe()
    await asyncio.sleep(0.002)
    assert (await board.store().put_order(wish)).number > before.number


@story
async def test_a_record_comes_back_whole(board: Board) -> None:
    whole = replace(
        record(0, "a"),
        tenure=2**53 - 1,
        edition=7,
        netns="00ff",
        gang="3:29500:0f1e",
        charges=(Charge(generation=2, at=1.5), Charge(generation=3, at=1795917503.123456)),
    )
    await board.store(0, "a").exchange(exchange(whole))
    assert (await board.store(1, "b").exchange(exchange())).records == {0: whole}


@story
async def test_the_clock_of_the_store_is_told_in_milliseconds(board: Board) -> None:
    first = (await board.store(0, "a").exchange(exchange())).now
    await asyncio.sleep(0.05)
    assert 45 <= (await board.store(1, "b").exchange(exchange())).now - first < 10_000
    assert first > 0


@story
async def test_a_beat_grows_old_until_the_next(board: Board) -> None:
    mine, judge = board.store(0, "a"), board.store(1, "b")
    await mine.exchange(exchange(record(0, "a")))
    await asyncio.sleep(0.1)
    old = (await judge.exchange(exchange(judge=(0,)))).beats[0].age
    assert 0.09 <= old < 10
    await mine.exchange(exchange(record(0, "a")))
    assert (await judge.exchange(exchange(judge=(0,)))).beats[0].age < old


@story
async def test_an_operator_reads_the_whole_unit_and_changes_nothing(board: Board) -> None:
    operator = board.store()
    empty = await operator.read()
    assert (empty.records, empty.age, empty.generation) == ({}, None, 0)
    store = board.store(1, "b")
    await store.exchange(exchange(record(1, "b"), generation=6, failure=failed(5)))
    read = await operator.read()
    assert read.records == {1: record(1, "b")}
    assert (read.generation, read.failure, read.order) == (6, failed(5), None)
    assert set(read.ages) == {1}
    assert 0 <= read.ages[1] < 5
    assert read.age is not None
    assert (await store.exchange(exchange())).beats == {1: Beat("b", 1)}


@story
async def test_output_is_kept_for_the_last_generations(board: Board) -> None:
    store = board.store(1, "b")
    assert await store.read_output(1) is None
    for generation in range(1, 7):
        await store.put_output(generation, 1, [f"g{generation} line {n}" for n in range(30)])
    output = await board.store().read_output(6)
    assert output is not None
    assert (output.generation, output.rank) == (6, 1)
    assert output.lines == tuple(f"g6 line {n}" for n in range(10, 30))
    assert [await store.read_output(generation) is None for generation in range(1, 7)] == [
        *(True, True, False, False, False, False)
    ]


@story
async def test_after_close_a_store_can_be_used_again(board: Board) -> None:
    store = board.store(0, "a")
    await store.exchange(exchange(record(0, "a")))
    await store.close()
    await store.close()
    assert (await store.exchange(exchange())).records == {0: record(0, "a")}
