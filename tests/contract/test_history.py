"""A Unit's history on every server that is supported."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from tests.contract.conftest import BACKENDS
from tests.listening import story
from tests.records import exchange, moment, record
from unitagent.core.history import EventKind
from unitagent.core.model import InstanceState
from unitagent.store import codec
from unitagent.store import history as module
from unitagent.store.history import UnitHistory
from unitagent.store.keys import DAY
from unitagent.store.redis_store import RedisStore

if TYPE_CHECKING:
    from tests.servers import Server
    from unitagent.store.history import HistoryPage

KEY = "unitagent:{u}:history"
pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)


@pytest.fixture
def server(backend: Server) -> Server:
    backend.command("FLUSHALL")
    return backend


@pytest.fixture
def warned() -> list[str]:
    return []


@pytest.fixture
def history(server: Server, warned: list[str]) -> UnitHistory:
    return UnitHistory("u", server.url, timeout=5, warn=warned.append)


def numbers(page: HistoryPage) -> list[int]:
    return [one.number for one in page.events]


@story
async def test_nothing_has_happened_yet(history: UnitHistory) -> None:
    page = await history.read()
    assert (page.events, page.last) == ((), b"")
    assert abs(page.now - time.time()) < 60


@story
async def test_the_latest_events_are_read_in_the_order_in_which_they_happened(history: UnitHistory) -> None:
    assert (await history.read_latest(3)).events == ()
    await history.add_events([moment(0, number) for number in range(5)], lambda: 100)
    page = await history.read_latest(3)
    assert numbers(page) == [2, 3, 4]
    assert abs(page.now - time.time()) < 60
    assert numbers(await history.read_latest(500)) == list(range(5))
    assert (await history.read(page.last)).events == ()


@story
async def test_what_is_told_is_read_with_the_store_s_time(history: UnitHistory) -> None:
    told = moment(3, 7, at=90, kind=EventKind.FAILURE, state=InstanceState.LOST, detail="rank 3 é\n\x1b")
    await history.add_events([told, moment(3, 8, at=99.5)], lambda: 100)
    page = await history.read()
    assert [replace(one, at=0) for one in page.events] == [replace(told, at=0), moment(3, 8)]
    assert page.now - page.events[0].at == pytest.approx(10, abs=5)
    assert page.events[1].at - page.events[0].at == pytest.approx(9.5, abs=1e-5)


@story
async def test_it_is_read_in_pages_and_from_where_one_was(
    history: UnitHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAGE", 2)
    await history.add_events([moment(number=number) for number in range(5)], lambda: 0)
    pages, last = [], b""
    while (page := await history.read(last)).last != last:
        pages.append(numbers(page))
        last = page.last
    assert pages == [[0, 1], [2, 3], [4]]
    await history.add_events([moment(number=5)], lambda: 0)
    assert numbers(await history.read(last)) == [5]


@story
async def test_it_is_capped_and_forgotten_after_a_day(
    history: UnitHistory, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT_EVENTS", 300)
    for begin in range(0, 2000, 500):
        await history.add_events([moment(number=number) for number in range(begin, begin + 500)], lambda: 0)
    assert 300 <= int(server.command("XLEN", KEY)[1:]) < 600
    assert DAY / 2 < int(server.command("TTL", KEY)[1:]) <= DAY


@story
async def test_it_is_not_forgotten_while_nothing_happens(history: UnitHistory, server: Server) -> None:
    await history.add_events([moment()], lambda: 0)
    server.command("EXPIRE", KEY, 100)
    await RedisStore("u", server.url, timeout=5, rank=0, incarnation="a").exchange(exchange(record(0, "a")))
    assert int(server.command("TTL", KEY)[1:]) > DAY / 2


@story
async def test_a_key_of_another_type_is_told_once_and_replaced(
    history: UnitHistory, server: Server, warned: list[str]
) -> None:
    server.command("SET", KEY, "x")
    assert (await history.read()).events == ()
    await history.add_events([moment()], lambda: 0)
    assert numbers(await history.read()) == [0]
    assert [KEY in said for said in warned] == [True, True]


@pytest.mark.parametrize(
    "fields",
    [
        ("f", "v"),
        ("moment", b"{}", "at", "1"),
        ("at", "1", "moment", b"[" * 50_000),
        ("at", "1", "moment", b"\xff"),
        ("at", "nan", "moment", codec.encode_value(moment())),
        ("at", "1", "moment", codec.encode_value(moment(2000))),
        ("at", "1", "moment", codec.encode_value(moment(generation=-1))),
        ("at", "1", "moment", codec.encode_value(moment()).replace(b"state", b"dance", 1)),
        ("at", "1", "moment", codec.encode_value(moment()), "more", "1"),
    ],
    ids=range(9),
)
def test_an_entry_that_is_none_is_left_out_and_told_once(
    history: UnitHistory, server: Server, warned: list[str], fields: tuple[str | bytes, ...]
) -> None:
    @story
    async def tell() -> None:
        for _ in range(2):
            server.command("XADD", KEY, "*", *fields)
        await history.add_events([moment(number=4)], lambda: 0)
        page = await history.read()
        assert numbers(page) == [4]
        assert (await history.read(page.last)).events == ()

    tell()
    assert warned == ["an entry of the history in the store cannot be read; ignored it"]


@story
async def test_text_that_is_no_unicode_and_a_sentence_without_end(history: UnitHistory) -> None:
    await history.add_events([moment(detail="\udcff" * 10_000)], lambda: 0)
    assert (await history.read()).events[0].detail == "?" * 1000
