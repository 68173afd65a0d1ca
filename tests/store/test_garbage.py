"""Whatever somebody writes under our keys: said once, ignored or removed, never a crash."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import to_builtins
from msgspec.structs import replace

from tests.listening import story
from tests.records import exchange, failed, record
from unitagent.core.model import Charge, Gang, Order, OrderKind
from unitagent.core.restart_budget import MOST_CHARGES
from unitagent.store import codec
from unitagent.store.errors import HOUR, MOST_WARNINGS, LimitedWarnings
from unitagent.system.limits import MAX_UNIT_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers import Server
    from unitagent.store.redis_store import RedisStore

    Open = Callable[..., RedisStore]

BOARD, CHANGES = "unitagent:{u}:board", "unitagent:{u}:changes"
MINE = exchange(record(0, "a"), generation=3)


@pytest.mark.parametrize("key", [BOARD, CHANGES])
@pytest.mark.parametrize(
    "words", [("SET", b"x"), ("LPUSH", b"x"), ("SADD", b"x"), ("XADD", b"*", b"f", b"v")]
)
def test_a_key_of_another_type_is_removed_and_said_once(
    server: Server, open_store: Open, warned: list[str], key: str, words: tuple[str | bytes, ...]
) -> None:
    @story
    async def tell() -> None:
        store = open_store()
        await store.exchange(MINE)
        for _ in range(2):
            server.command("DEL", key)
            server.command(words[0], key, *words[1:])
            reply = await store.exchange(MINE)
            assert (reply.holder, set(reply.records), reply.generation) == ("a", {0}, 3)
            assert reply.unit_age < 1  # it counts as a new board

    tell()
    assert len(warned) == 1
    assert key in warned[0]


@story
async def test_a_record_that_cannot_be_read_is_ignored_and_its_holder_keeps_the_rank(
    server: Server, open_store: Open, warned: list[str]
) -> None:
    other, store = open_store(1, "b"), open_store()
    await other.exchange(exchange(record(1, "b")))
    await store.exchange(MINE)
    server.command("HSET", BOARD, "r1", b"\xff{", "version", 2**52)
    server.command("ZADD", CHANGES, 2**52, "1")
    for _ in range(3):
        assert set((await store.exchange(MINE)).records) == {0}
    newcomer = open_store(1, "c")
    assert (await newcomer.exchange(exchange(record(1, "c")))).holder == "b"
    assert set((await other.exchange(exchange(record(1, "b")))).records) == {0, 1}
    assert "record of rank 1" in warned[0]


@pytest.mark.parametrize("name", ["nan", "b", "deadbeefdeadbeef", "a 1 1", "", b"\xff"])
def test_a_name_in_the_place_of_a_holder_fences_nobody(
    server: Server, open_store: Open, name: str | bytes
) -> None:
    """Whatever it looks like: who holds a rank has beaten there."""

    @story
    async def tell() -> None:
        store = open_store()
        await store.exchange(MINE)
        server.command("HSET", BOARD, "h0", name)
        assert (await store.exchange(MINE)).holder == "a"
        server.command("HSET", BOARD, "h1", name)
        assert (await open_store(1, "c").exchange(exchange(record(1, "c")))).holder == "c"

    tell()


@story
async def test_values_of_nonsense_in_every_field_do_no_harm(
    server: Server, open_store: Open, warned: list[str]
) -> None:
    fields = (
        "born",
        "generation",
        "version",
        "failure",
        "order",
        "h0",
        "b0",
        "r0",
        "h1",
        "b1",
        "r1",
        "rx",
        "b-1",
    )
    for value in (
        b"",
        b"nan",
        b"-5",
        b"1e999",
        b"9" * 40,
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{}",
        b"7 {}",
        b"x" * 100_000,
    ):
        store = open_store()
        await store.exchange(MINE)
        for field in fields:
            server.command("HSET", BOARD, field, value)
        for member in ("1", "x", b"\xff", "-1", "1025", "00"):
            server.command("ZADD", CHANGES, 2**53, member)
        request = exchange(
            record(0, "a", generation=4), take="", generation=4, failure=failed(3), judge=(0, 1)
        )
        reply = await store.exchange(request)
        assert set(reply.records) <= {0}
        assert reply.generation >= 4
        assert reply.unit_age >= 0
        snapshot = await store.read()
        assert set(snapshot.records) <= {0}
        server.command("FLUSHALL")
    assert warned


@story
async def test_values_of_a_size_that_we_never_write_are_not_even_sent(
    server: Server, open_store: Open, warned: list[str]
) -> None:
    huge = replace(record(1, "b"), hostname="x" * 1_000_000)
    await open_store(1, "b").exchange(exchange(huge))
    assert set((await open_store().exchange(MINE)).records) == {0}
    assert set((await open_store(1, "b").exchange(exchange(record(1, "b")))).records) == {0, 1}
    assert warned == []


@story
async def test_a_flood_of_garbage_does_not_fill_the_log(
    server: Server, open_store: Open, warned: list[str]
) -> None:
    server.command("ZADD", CHANGES, *(word for rank in range(1, 1024) for word in (1, rank)))
    server.command("HSET", BOARD, *(word for rank in range(1, 1024) for word in (f"r{rank}", "garbage")))
    for _ in range(2):
        assert set((await open_store().exchange(MINE)).records) == {0}
    assert 0 < len(warned) <= 200


@story
async def test_an_unreadable_failure_is_replaced_by_one_of_a_later_generation(
    server: Server, open_store: Open
) -> None:
    store = open_store()
    server.command("HSET", BOARD, "failure", b"garbage")
    assert (await store.exchange(exchange(failure=failed(1)))).failure == failed(1)
    server.command("HSET", BOARD, "failure", b"5 garbage")
    assert (await store.exchange(exchange())).failure is None
    assert (await store.exchange(exchange(failure=failed(6)))).failure == failed(6)


@story
async def test_a_deleted_list_of_changes_is_filled_again(server: Server, open_store: Open) -> None:
    store = open_store()
    await store.exchange(MINE)
    server.command("DEL", CHANGES)
    await store.exchange(MINE)
    assert set((await open_store(1, "b").exchange(exchange())).records) == {0}


@story
async def test_output_of_another_type_is_an_error_in_words_or_nothing(
    server: Server, open_store: Open
) -> None:
    store = open_store()
    server.command("SET", "unitagent:{u}:output:1", b"\x00garbage")
    assert await store.read_output(1) is None
    server.command("DEL", "unitagent:{u}:output:1")
    server.command("LPUSH", "unitagent:{u}:output:1", b"x")
    await store.put_output(1, 0, ["line"])
    assert (await store.read_output(1)) is not None


@story
async def test_text_that_is_no_unicode_is_written_readably(open_store: Open) -> None:
    store = open_store()
    order = Order(kind=OrderKind.RESTART, generation=1, reason="bad \udc80 byte")
    kept = await store.put_order(order)
    assert kept.reason == "bad ? byte"
    assert (await store.exchange(MINE)).order == kept
    await store.put_output(2, 0, ["\udcff" * 10_000] * 100)
    output = await store.read_output(2)
    assert output is not None
    assert (len(output.lines), len(output.lines[0])) == (20, 400)


@pytest.mark.parametrize(
    "change",
    [
        {"rank": 1},
        {"rank": -1},
        {"size": 0},
        {"size": 1025},
        {"incarnation": ""},
        {"port": 70000},
        {"generation": -1},
        {"generation": 2**60},
        {"state": "sleeping"},
        {"generation": True},
        {"ip": None},
        {"tenure": -1},
        {"tenure": 2**53},
        {"tenure": 1.5},
        {"begun": -1},
        {"begun": 2**53},
        {"edition": -1},
        {"edition": 2**53},
        {"netns": 7},
        {"charges": None},
        {"charges": ["x"]},
        {"charges": [{"generation": 1}]},
        {"charges": [{"generation": -1, "at": 0.0}]},
        {"charges": [{"generation": 2**53, "at": 0.0}]},
        {"charges": [{"generation": 1, "at": "yesterday"}]},
        {"charges": [{"generation": 1, "at": None}]},
    ],
)
def test_a_record_out_of_its_ranges_is_no_record(change: dict[str, object]) -> None:
    good = to_builtins(record(0, "a"))
    assert codec.decode_record(json.dumps(good).encode(), 0) == record(0, "a")
    assert codec.decode_record(json.dumps(good | change).encode(), 0) in {"", *change}


WISH = json.dumps(to_builtins(Order(kind=OrderKind.RESTART, generation=1))).encode()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        WISH,
        b"7 " + WISH,
        b"x 5 " + WISH,
        b"7 x " + WISH,
        b"-7 5 " + WISH,
        b"7 -5 " + WISH,
        b"7  5 " + WISH,
        b"7 5 {",
        b"7 5 " + WISH + b"x",
        b"%d 5 " % 10**20 + WISH,
        b"7 %d " % 10**20 + WISH,
    ],
)
def test_an_order_without_its_generation_and_number_is_none(raw: bytes) -> None:
    whole = codec.decode_order(b"7 5 " + WISH)
    assert whole == Order(kind=OrderKind.RESTART, generation=7, number=5)
    assert codec.decode_order(raw) is None


@pytest.mark.parametrize("garbage", [b"x", b"7 " + WISH, b"7 nan " + WISH, b"7 5 {", b"\xff", b"-1 -1 {}"])
def test_garbage_in_the_place_of_an_order_is_replaced_by_the_next(
    server: Server, open_store: Open, garbage: bytes
) -> None:
    @story
    async def tell() -> None:
        store = open_store()
        first = await store.put_order(Order(kind=OrderKind.RESTART, generation=0))
        server.command("HSET", BOARD, "order", garbage)
        assert (await store.exchange(MINE)).order is None
        kept = await store.put_order(Order(kind=OrderKind.DRAIN, generation=0))
        assert (kept.generation, kept.number > first.number) == (3, True)
        assert (await store.exchange(MINE)).order == kept

    tell()


@story
async def test_a_server_whose_clock_was_set_back_numbers_orders_on(server: Server, open_store: Open) -> None:
    ahead = int((time.time() + 30 * 86400) * 1e6)
    server.command("HSET", BOARD, "order", b"3 %d " % ahead + WISH)
    kept = [await open_store().put_order(Order(kind=OrderKind.RESTART, generation=0)) for _ in range(2)]
    assert [order.number for order in kept] == [ahead + 1, ahead + 2]


@pytest.mark.parametrize("number", [2**53 - 2, 2**53 - 1, 2**53, 10**30])
def test_an_order_behind_a_number_that_no_clock_leads_to_is_a_new_one(
    server: Server, open_store: Open, number: int
) -> None:
    """Agents obey an order once; one with a number that they know already would be no order."""

    @story
    async def tell() -> None:
        store = open_store()
        server.command("HSET", BOARD, "order", b"3 %d " % number + WISH)
        numbers = [getattr((await store.exchange(MINE)).order, "number", 0)]
        for _ in range(3):
            numbers.append((await store.put_order(Order(kind=OrderKind.RESTART, generation=0))).number)  # noqa: PERF401
        assert len(set(numbers)) == len(numbers)

    tell()


@pytest.mark.parametrize(
    ("size", "charges"), [(2, MOST_CHARGES), (512, 0), (512, MOST_CHARGES), (MAX_UNIT_SIZE, 0)]
)
def test_the_largest_record_of_ours_is_read(open_store: Open, size: int, charges: int) -> None:
    @story
    async def tell() -> None:
        names = tuple(f"{rank:016x}" for rank in range(size))
        gang = Gang(generation=10**6, incarnations=names, ips=names, master_port=29500)
        known = tuple(
            Charge(generation=10**6 - charges + n, at=1795917503.123456 + n) for n in range(charges)
        )
        whole = replace(record(1, "b", size=size), gang=gang.id, charges=known)
        await open_store(1, "b").exchange(exchange(whole))
        assert set((await open_store().exchange(MINE)).records) == {0, 1}

    tell()


def test_fields_of_a_later_version_are_ignored() -> None:
    raw = json.dumps(to_builtins(record(0, "a")) | {"colour": "blue"}).encode()
    assert codec.decode_record(raw, 0) == record(0, "a")


@settings(max_examples=200)
@given(
    st.binary()
    | st.text().map(str.encode)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_decoding_anything_gives_a_value_or_nothing(raw: bytes) -> None:
    for decode in (codec.decode_failure, codec.decode_order, codec.decode_output, codec.decode_beat):
        decode(raw)
    codec.decode_record(raw, 0)
    assert 0 <= codec.decode_number(raw) < 2**53


def test_deeply_nested_garbage_is_nothing() -> None:
    assert codec.decode_record(b"[" * 100_000, 0) == ""


def test_a_flood_of_garbage_is_counted_and_told_once_an_hour() -> None:
    said, now = list[str](), [0.0]
    warnings = LimitedWarnings(said.append, lambda: now[0])
    for number in range(MOST_WARNINGS):
        warnings.warn_once(f"piece {number}")
    assert len(said) == MOST_WARNINGS
    for hour in (1, 2):
        for number in range(137):
            now[0] = hour * HOUR if number == 136 else (hour - 1) * HOUR + number
            warnings.warn_once(f"more {number}")
        warnings.warn_once("piece 1")
        told = "137 more warnings about the store in 60 minutes, the last one: more 136"
        assert said[MOST_WARNINGS:] == [told] * hour
