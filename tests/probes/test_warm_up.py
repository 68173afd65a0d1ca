"""The warm-up request, to a small server that really answers, fails and hangs."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from tests.ports import free_port
from tests.probes.agents import HOST
from tests.probes.loops import in_loop, until
from unitagent.probes import warm_up
from unitagent.probes.health import HealthProbe, ProbeSpec, parse_health_url
from unitagent.probes.warm_up import ATTEMPTS, WarmUp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Engine:
    """Healthy at once; answers a warm-up with ``code`` once it may."""

    def __init__(self, code: int = 200) -> None:
        self.code, self.may_answer = code, asyncio.Event()
        self.requests: list[tuple[str, str]] = []

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        async with await asyncio.start_server(self._talk, HOST, 0) as server:
            yield f"http://{HOST}:{server.sockets[0].getsockname()[1]}"

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            line, *fields = head.split("\r\n")
            length = next(
                (int(one.split(":")[1]) for one in fields if one.lower().startswith("content-length")), 0
            )
            body = (await reader.readexactly(length)).decode()
            code = 200
            if "/health" not in line:
                self.requests.append((line.rpartition(" ")[0], body))
                await self.may_answer.wait()
                code = self.code
            writer.write(f"HTTP/1.1 {code} X\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
        writer.close()


class Watched:
    """A probe that warms up, and what it has told."""

    def __init__(
        self, url: str, body: str | None = "{}", seconds: float = 30.0, startup: float = 0.0
    ) -> None:
        self.healthy: list[bool] = []
        self.reported: list[tuple[str, str]] = []
        question = ProbeSpec(check=parse_health_url(f"{url}/health"), interval=0.01, timeout=5.0)
        self.probe = HealthProbe(
            [question],
            warm_up=WarmUp(url=f"{url}/first", body=body, seconds=seconds, startup=startup),
            on_verdict=lambda verdict: self.healthy.append(verdict.healthy),
            on_probe=lambda probe: self.reported.append((probe.target.split()[0], probe.problem)),
        )
        self.probe.start()


@in_loop
async def test_a_workload_is_healthy_once_it_has_answered(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    engine = Engine()
    async with engine.serving() as url:
        watched = Watched(url, '{"prompt": "x"}')
        await until(lambda: engine.requests)
        await asyncio.sleep(0.1)
        assert watched.healthy == []
        assert watched.reported == [("POST", "warming up")]
        engine.may_answer.set()
        await until(lambda: watched.healthy)
        watched.probe.stop()
    assert engine.requests == [("POST /first", '{"prompt": "x"}')]
    assert watched.healthy == [True]
    assert watched.reported == [("POST", "warming up"), ("POST", "")]
    assert f"warmed up by POST {url}/first in 0." in caplog.text


@in_loop
async def test_without_a_body_it_is_a_get() -> None:
    engine = Engine()
    engine.may_answer.set()
    async with engine.serving() as url:
        watched = Watched(url, None)
        await until(lambda: watched.healthy)
        watched.probe.stop()
    assert engine.requests == [("GET /first", "")]


@in_loop
async def test_after_some_failures_it_is_healthy_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(warm_up, "_PAUSE", 0.01)
    engine = Engine(404)
    engine.may_answer.set()
    async with engine.serving() as url:
        watched = Watched(url)
        await until(lambda: watched.healthy)
        watched.probe.stop()
    assert watched.healthy == [True]
    assert len(engine.requests) == ATTEMPTS
    assert "the Unit is ready without a warm-up: POST" in caplog.text
    assert "answered 404" in caplog.text


@pytest.mark.parametrize(
    ("seconds", "startup"), [(0.6, 0.0), (60.0, 4.0)], ids=["its own", "that of a start"]
)
@in_loop
async def test_one_that_is_not_answered_ends_within_its_time(
    seconds: float, startup: float, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine()
    async with engine.serving() as url:
        began = asyncio.get_running_loop().time()
        watched = Watched(url, seconds=seconds, startup=startup)
        await until(lambda: watched.healthy)
        assert asyncio.get_running_loop().time() - began < (startup or 10.0)
        watched.probe.stop()
        engine.may_answer.set()
    assert watched.healthy == [True]
    assert "no answer within " in caplog.text


@in_loop
async def test_a_start_that_has_no_time_left_goes_without(caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine()
    async with engine.serving() as url:
        watched = Watched(url, startup=0.5)
        await until(lambda: watched.healthy)
        watched.probe.stop()
    assert engine.requests == []
    assert "UNIT_STARTUP_SECONDS leaves no time" in caplog.text


@in_loop
async def test_a_stop_ends_it() -> None:
    engine = Engine()
    async with engine.serving() as url:
        watched = Watched(url)
        await until(lambda: engine.requests)
        watched.probe.stop()
        engine.may_answer.set()
        await asyncio.sleep(0.1)
    assert watched.healthy == []
    assert watched.reported == [("POST", "warming up")]


@in_loop
async def test_nobody_has_to_listen() -> None:
    asked = WarmUp(url=f"http://user:hush@{HOST}:{free_port()}/first", seconds=0.7)
    await asked.send_request(age=0.0)
    assert "hush" not in asked.words
