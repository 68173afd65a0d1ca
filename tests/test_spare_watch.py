"""Rank 0 watches the spares."""

from __future__ import annotations

import logging

import pytest

from tests.fakestore import FakeServer, FakeSpares
from tests.listening import story
from unitagent.agent import spare_watch
from unitagent.agent.spare_watch import SpareWatch
from unitagent.core.events import ProbeResult
from unitagent.core.model import Record
from unitagent.core.spares import Standby, explain_missing

SPARES = tuple(
    Standby(number=number, incarnation=f"s{number}", ip=f"10.0.0.{number}", port=9470) for number in (3, 4)
)


@story
async def test_one_spare_is_asked_in_each_look() -> None:
    asked = list[Record]()

    async def ask(record: Record) -> ProbeResult:
        asked.append(record)
        return ProbeResult.ALIVE if record.rank == 3 else ProbeResult.SILENT

    spares = FakeSpares(FakeServer())
    watch = SpareWatch(spares, ask, size=3, wanted=2, lease=5.0)
    assert watch.status() is None
    for one in SPARES:
        await spares.put(one, 5.0)
    for looks in (1, 2):
        await watch.look()
        assert len(asked) == looks
    status = watch.status()
    assert status is not None
    assert {one["number"]: one["answers"] for one in status["list"]} == {3: True, 4: False}
    assert (status["standing_by"], status["unreachable"]) == (2, 1)


@story
async def test_a_spare_that_is_gone_is_forgotten() -> None:
    async def ask(record: Record) -> ProbeResult:
        return ProbeResult.SILENT

    spares = FakeSpares(FakeServer())
    watch = SpareWatch(spares, ask, size=3, wanted=1, lease=5.0)
    await spares.put(SPARES[0], 5.0)
    await watch.look()
    await spares.remove(SPARES[0])
    await watch.look()
    assert explain_missing(watch.status()) == "0 of 1 spares stand by (UNIT_SPARES)"


def test_what_is_missing_for_long_is_logged_once_and_so_is_its_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(spare_watch, "_PATIENCE", 0.0)
    caplog.set_level(logging.INFO)

    @story
    async def tell() -> None:
        spares = FakeSpares(FakeServer())
        watch = SpareWatch(spares, None, size=3, wanted=1, lease=5.0)
        await watch.look()
        await watch.look()
        await spares.put(SPARES[0], 5.0)
        await watch.look()
        await watch.look()

    tell()
    said = [line.message for line in caplog.records]
    assert said == ["0 of 1 spares stand by (UNIT_SPARES)", "all 1 spares stand by, and answer"]
