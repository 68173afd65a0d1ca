"""``/units``: however many ask, the store is asked little, and nobody else waits for it."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from tests.probes.agents import HOST, ask, say, serving, status
from tests.probes.loops import in_loop, until
from unitagent.errors import StoreError
from unitagent.probes import unit_list
from unitagent.probes.unit_list import UnitAnswers

GET = b"GET /units HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class FakeUnits:
    """A store that answers when ``open`` is set."""

    def __init__(self, error: Exception | None = None) -> None:
        self.reads: list[str] = []
        self.under_way = self.most = 0
        self.open = asyncio.Event()
        self.open.set()
        self.error = error

    async def list_units(self) -> list[dict[str, Any]]:
        await self._read("")
        return [{"unit": "u"}]

    async def get_unit(self, name: str) -> dict[str, Any] | None:
        await self._read(name)
        return status() if name == "u" else None

    async def read_events(self, name: str) -> dict[str, Any]:
        await self._read(f"{name}/events")
        return {"now": 2.0, "events": [{"unit": name}]}

    async def _read(self, name: str) -> None:
        self.reads.append(name)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.open.wait()
            await asyncio.sleep(0)
        finally:
            self.under_way -= 1
        if self.error is not None:
            raise self.error


@in_loop
async def test_the_list_and_each_unit() -> None:
    async with serving(units=FakeUnits()) as port:
        every, one = await ask(port, "/units"), await ask(port, "/units/u")
        head = await ask(port, "/units", method="HEAD")
    assert (every.code, json.loads(every.body)) == (200, [{"unit": "u"}])
    assert (one.code, json.loads(one.body)) == (200, status())
    assert one.headers["content-type"] == "application/json"
    assert one.headers["cache-control"] == "no-store"
    assert (head.code, head.body, head.headers) == (200, b"", every.headers)


@in_loop
async def test_the_history_of_each_unit_and_of_the_own_one() -> None:
    store = FakeUnits()
    async with serving(units=store) as port:
        own, other = await ask(port, "/events"), await ask(port, "/units/u/events")
        assert json.loads((await ask(port, "/units/events/events")).body)["events"] == [{"unit": "events"}]
        assert (await ask(port, "/units/events")).code == 404  # it is the name of a Unit
    assert (own.code, json.loads(own.body)) == (200, {"now": 2.0, "events": [{"unit": ""}]})
    assert (other.code, json.loads(other.body)["events"]) == (200, [{"unit": "u"}])
    assert store.reads == ["/events", "u/events", "events/events", "events"]


@in_loop
async def test_a_page_of_one_unit_has_its_history_and_no_other() -> None:
    store = FakeUnits()
    async with serving(units=store, every_unit=False) as port:
        assert (await ask(port, "/events")).code == 200
        assert [(await ask(port, path)).code for path in ("/units", "/units/u", "/units/u/events")] == [
            404
        ] * 3
        assert (await ask(port, "/events", method="POST")).code == 405
    async with serving() as port:
        assert (await ask(port, "/events")).code == 404
    assert store.reads == ["/events"]


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("/units/nobody", 404),
        ("/units//events", 400),
        ("/units/u/events/", 400),
        ("/units/u/x/events", 400),
        ("/units/", 400),
        ("/units/a%20b", 400),
        ("/units/u/", 400),
        ("/units/%7Bu%7D:board", 400),
        ("/units/%00", 400),
        ("/units/" + "x" * 129, 400),
        ("/unitss", 404),
    ],
)
@in_loop
async def test_what_is_no_unit(target: str, code: int) -> None:
    store = FakeUnits()
    async with serving(units=store) as port:
        told = await ask(port, target)
    assert (told.code, told.text.count("\n")) == (code, 1)
    assert set(store.reads) <= {"nobody"}


@in_loop
async def test_nothing_can_be_changed() -> None:
    async with serving(units=FakeUnits()) as port:
        assert (await ask(port, "/units/u", method="DELETE")).code == 405
        assert (await ask(port, "/units", "Content-Length: 5")).code == 413


@in_loop
async def test_a_crowd_is_answered_with_one_read_and_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    store = FakeUnits()
    store.open.clear()
    async with serving(units=store) as port:
        crowd = [asyncio.create_task(say(port, GET)) for _ in range(100)]
        for _ in range(5):
            assert (await ask(port, "/livez")).code == 200  # and nobody waits for them
        await until(lambda: store.under_way)
        with caplog.at_level(logging.DEBUG, "unitagent.probes.connections"):
            caplog.clear()
            store.open.set()
            while (before := len(caplog.records)) < 100:
                await asyncio.sleep(0)
                assert len(caplog.records) - before <= 1
        assert {reply[:12] for reply in await asyncio.gather(*crowd)} == {b"HTTP/1.1 200"}
    assert store.reads == [""]


@in_loop
async def test_the_store_is_asked_one_thing_at_a_time_and_again_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unit_list, "_REUSE", 0.2)
    store = FakeUnits()
    async with serving(units=store) as port:
        await asyncio.gather(*(ask(port, f"/units/{name}") for name in "abcdabcd"), ask(port, "/units"))
        assert (sorted(store.reads), store.most) == (["", "a", "b", "c", "d"], 1)
        while store.reads.count("a") < 2:
            assert (await ask(port, "/units/a")).code == 404


@in_loop
async def test_a_store_that_hangs_is_said_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_list, "PATIENCE", 0.2)
    store = FakeUnits()
    store.open.clear()
    async with serving(units=store) as port:
        every, one = await asyncio.gather(ask(port, "/units"), ask(port, "/units/u"))
        again = await ask(port, "/units")
    assert every == one == again
    assert (every.code, every.text) == (503, "the store does not answer in time\n")
    assert (store.most, store.under_way) == (1, 0)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (StoreError("the store is away"), 503, "the store is away\n"),
        (RuntimeError("boom"), 500, "internal error of the agent; its log says more\n"),
    ],
)
@in_loop
async def test_a_store_that_fails_is_said(error: Exception, code: int, text: str) -> None:
    async with serving(units=FakeUnits(error)) as port:
        told = await ask(port, "/units/u")
        assert (await ask(port, "/livez")).code == 200
    assert (told.code, told.text) == (code, text)


@in_loop
async def test_any_number_of_names_is_no_burden() -> None:
    store = FakeUnits()
    store.open.clear()
    async with serving(units=store) as port:
        asked = [asyncio.create_task(ask(port, f"/units/{number}")) for number in range(100)]
        await until(lambda: sum(each.done() for each in asked) == 100 - unit_list._MAX_READINGS)
        assert {each.result().code for each in asked if each.done()} == {503}
        store.open.set()
        assert (await ask(port, "/units")).code == 200
        await asyncio.gather(*asked)
    assert len(store.reads) == unit_list._MAX_READINGS + 1


@in_loop
async def test_who_goes_away_leaves_nothing_and_takes_nothing_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_list, "_REUSE", 0.01)
    monkeypatch.setattr(unit_list, "_MAX_WAITING", 10)
    store = FakeUnits()
    store.open.clear()
    answers = UnitAnswers(lambda: store, every_unit=True)
    rude = [asyncio.create_task(answers.answer_path("/units")) for _ in range(12)]
    await until(lambda: sum(each.done() for each in rude) == 2)  # more than may wait
    rude[0].cancel()
    store.open.set()
    told = await asyncio.gather(*rude[1:])
    assert sorted(each.code for each in told) == [200] * 9 + [503] * 2
    await until(lambda: not answers._readings)
    assert answers._waiting == 0


@in_loop
async def test_a_server_that_stops_waits_for_no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_list, "PATIENCE", 1000.0)
    store = FakeUnits()
    store.open.clear()
    async with serving(units=store) as port:
        _, writer = await asyncio.open_connection(HOST, port)
        writer.write(GET)
        await until(lambda: store.under_way)
    await until(lambda: not store.under_way)
    writer.close()
