"""The workload's health, against a small server that really answers, hangs and dies."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from tests.ports import free_port
from tests.probes.agents import HOST, saying
from tests.probes.loops import in_loop, until
from unitagent.errors import ConfigurationError
from unitagent.probes import health
from unitagent.probes.health import FailedProbe, HealthProbe, HealthVerdict, ProbeSpec, parse_health_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Engine:
    """A workload: answers whatever ``code`` is, or holds its tongue."""

    def __init__(self) -> None:
        self.code: int | None = 503
        self.asked = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        async with await asyncio.start_server(self._talk, HOST, 0) as server:
            yield f"http://{HOST}:{server.sockets[0].getsockname()[1]}/health"

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        with suppress(asyncio.IncompleteReadError):  # a probe on a busy machine gave up before it had asked
            await reader.readuntil(b"\r\n\r\n")
        if self.code is None:
            await reader.read()
        else:
            writer.write(f"HTTP/1.1 {self.code} X\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
        writer.close()


class Watched:
    """A probe with what it has reported."""

    def __init__(self, url: str, *, failures: int = 3, timeout: float = 5.0, interval: float = 0.01) -> None:
        self.told: list[tuple[bool, str]] = []
        question = ProbeSpec(
            check=parse_health_url(url), interval=interval, timeout=timeout, failures=failures
        )
        self.probe = HealthProbe(
            [question],
            life=question,
            on_verdict=lambda verdict: self.told.append((verdict.healthy, verdict.detail)),
        )

    @property
    def results(self) -> list[bool]:
        return [healthy for healthy, _ in self.told]


@in_loop
async def test_the_life_of_a_workload() -> None:
    engine = Engine()
    async with engine.serving() as url:
        watched = Watched(url)
        watched.probe.start()
        await until(lambda: engine.asked > 5)
        assert (watched.told, watched.probe.detail) == ([], "answered 503")
        engine.code = 200
        await until(lambda: watched.told)
        already = engine.asked
        await until(lambda: engine.asked > already + 3)
        assert watched.told == [(True, "ok")]
        engine.code = 500
        await until(lambda: len(watched.told) == 2)
        assert watched.told[1] == (False, "answered 500 (3 times in a row)")
        engine.code = 302
        await until(lambda: len(watched.told) == 3)
        assert watched.results == [True, False, True]
        watched.probe.stop()


@in_loop
async def test_what_goes_wrong_is_told_in_plain_words_and_cites_no_answer() -> None:
    for answer, problem in (
        (b"a secret line\r\n\r\n", "its answer is no HTTP"),
        (b"", "it closed the connection without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "its answer ended early"),
    ):
        async with saying(answer) as port:
            assert await parse_health_url(f"http://{HOST}:{port}/health")(5.0) == problem
    refused = await parse_health_url(f"http://{HOST}:{free_port()}/health")(5.0)
    assert refused == "connection refused"


@in_loop
async def test_single_checks_are_reported_while_they_fail_and_once_when_they_pass_again() -> None:
    answers = iter(["a", "a", "", "", "b", ""])
    told: list[FailedProbe] = []

    async def check(timeout: float) -> str:  # noqa: ASYNC109
        try:
            return next(answers)
        except StopIteration:
            return await asyncio.sleep(60, "")

    question = ProbeSpec(check=check, interval=0, timeout=1, target="URL")
    probe = HealthProbe([question], life=question, on_verdict=lambda _: None, on_probe=told.append)
    probe.start()
    await until(lambda: len(told) == 5)
    probe.stop()
    assert [(one.target, one.problem, one.answered) for one in told] == [
        ("URL", "a", True), ("URL", "a", True), ("URL", "", True), ("URL", "b", True), ("URL", "", True)
    ]  # fmt: skip


@in_loop
async def test_an_answer_that_is_overdue_while_the_engine_starts_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "OVERDUE", 0.02)
    engine = Engine()
    engine.code = None
    told: list[FailedProbe] = []
    async with engine.serving() as url:
        question = ProbeSpec(check=parse_health_url(url), interval=0.01, timeout=0.5, target=url)
        probe = HealthProbe([question], on_verdict=lambda _: None, on_probe=told.append)
        probe.start()
        await until(lambda: len(told) >= 2)
        probe.stop()
    assert told[:2] == [
        FailedProbe(url, "no answer yet", answered=False),
        FailedProbe(url, "no answer within 0.5 s"),
    ]


@in_loop
async def test_fewer_failures_in_a_row_do_not_count() -> None:
    engine = Engine()
    engine.code = 200
    answers = iter(["", "a", "b", "", "c", "d", "", "e", "f", "g", "h"])
    told: list[tuple[bool, str]] = []

    async def check(timeout: float) -> str:  # noqa: ASYNC109
        try:
            return next(answers)
        except StopIteration:
            return await asyncio.sleep(60, "")

    question = ProbeSpec(check=check, interval=0, timeout=1, failures=3)
    probe = HealthProbe(
        [question], life=question, on_verdict=lambda verdict: told.append((verdict.healthy, verdict.detail))
    )
    probe.start()
    await until(lambda: probe.detail == "h")
    assert told == [(True, "ok"), (False, "g (3 times in a row)")]
    probe.stop()


@in_loop
async def test_a_check_during_which_the_container_stood_still_does_not_count() -> None:
    engine = Engine()
    engine.code = 200
    answers = iter(["", "stood still", "", "bad"])
    told: list[tuple[bool, str]] = []

    async def check(timeout: float) -> str:  # noqa: ASYNC109
        answer = next(answers, None)
        if answer == "stood still":
            time.sleep(timeout + 0.6)  # noqa: ASYNC251  (nothing runs, as in a frozen container)
        return await asyncio.sleep(60, "") if answer is None else answer

    question = ProbeSpec(check=check, interval=0, timeout=0.1, failures=1)
    probe = HealthProbe(
        [question], life=question, on_verdict=lambda verdict: told.append((verdict.healthy, verdict.detail))
    )
    probe.start()
    await until(lambda: probe.detail == "bad")
    assert told == [(True, "ok"), (False, "bad (1 times in a row)")]
    probe.stop()


@in_loop
async def test_a_check_that_takes_far_longer_than_it_may_counts() -> None:
    """As one that hangs in its clean-up: nothing else stood still."""
    answers, told = iter(["", "slow"]), list[tuple[bool, str]]()

    async def check(timeout: float) -> str:  # noqa: ASYNC109
        answer = next(answers, None)
        await asyncio.sleep({"slow": timeout + 0.8, "": 0.0, None: 60}[answer])
        return answer or ""

    question = ProbeSpec(check=check, interval=0, timeout=0.1, failures=1)
    probe = HealthProbe(
        [question], life=question, on_verdict=lambda verdict: told.append((verdict.healthy, verdict.detail))
    )
    probe.start()
    await until(lambda: len(told) == 2)
    assert told[1] == (False, "slow (1 times in a row)")
    probe.stop()


@in_loop
async def test_a_new_start_knows_nothing() -> None:
    engine = Engine()
    engine.code = 200
    async with engine.serving() as url:
        watched = Watched(url)
        for number in (1, 2):
            watched.probe.start()
            assert watched.probe.detail == "not asked yet"
            await until(lambda: len(watched.told) >= number)  # noqa: B023 (awaited at once)
        watched.probe.stop()
        watched.probe.stop()
        asked = engine.asked
        await asyncio.sleep(0.1)
        assert engine.asked <= asked + 1
    assert watched.results == [True, True]


@in_loop
async def test_a_workload_that_hangs_is_sick() -> None:
    engine = Engine()
    engine.code = 200
    async with engine.serving() as url:
        watched = Watched(url, failures=2, timeout=0.1)
        watched.probe.start()
        await until(lambda: watched.told)
        engine.code = None
        sick = (False, "no answer within 0.1 s (2 times in a row)")
        await until(lambda: sick in watched.told)  # a busy machine may have been that slow before
        watched.probe.stop()


@in_loop
async def test_a_workload_that_trickles_is_bounded_by_one_deadline() -> None:
    async def trickle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not writer.transport.is_closing():
            writer.write(b"x")
            await asyncio.sleep(0.01)

    async with await asyncio.start_server(trickle, HOST, 0) as server:
        problem = await parse_health_url(f"http://{HOST}:{server.sockets[0].getsockname()[1]}/")(0.3)
    assert problem == "no answer within 0.3 s"


@in_loop
async def test_nobody_listening_yet() -> None:
    port = free_port()
    assert "refused" in await parse_health_url(f"http://{HOST}:{port}/health")(1.0)
    assert "refused" in await parse_health_url(f"tcp://{HOST}:{port}")(1.0)


@in_loop
async def test_a_port_that_accepts_is_enough_for_tcp() -> None:
    with socket.create_server((HOST, 0)) as listening:
        port = listening.getsockname()[1]
        assert await parse_health_url(f"tcp://{HOST}:{port}")(1.0) == ""
        assert await parse_health_url(f"http://{HOST}:{port}")(0.1) == "no answer within 0.1 s"


@pytest.mark.parametrize(
    ("answer", "well"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nfine", True),
        (b"HTTP/1.1 204 No\r\n\r\n", True),
        (b"HTTP/1.0 399 Odd\r\n\r\n", True),
        (b"HTTP/1.1 400 Bad\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", False),
        (b"hello", False),
        (b"", False),
    ],
)
@in_loop
async def test_which_answers_are_good(answer: bytes, well: bool) -> None:
    async with saying(answer) as port:
        assert (await parse_health_url(f"http://{HOST}:{port}/")(5.0) == "") is well


@in_loop
async def test_the_first_good_answer_is_waited_for_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "STARTING_INTERVAL", 0.01)
    engine = Engine()
    async with engine.serving() as url:
        watched = Watched(url, interval=60.0)
        watched.probe.start()
        await until(lambda: engine.asked > 3)
        watched.probe.stop()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "health",
        "http://",
        "http:///health",
        "ftp://h/",
        "tcp://h",
        "tcp://:1",
        "http://h:99999/",
        "http://[::1/",
    ],
)
def test_what_is_no_health_check(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"UNIT_HEALTH_URL=.*tcp://HOST:PORT"):
        parse_health_url(url)


def test_no_password_in_an_error() -> None:
    with pytest.raises(ConfigurationError) as error:
        parse_health_url("ftp://me:hidden@host/")
    assert "hidden" not in str(error.value)


def saying_in_turn(*answers: str) -> Callable[[float], Awaitable[str]]:
    """A check with these answers; then it never answers again."""
    left = iter(answers)

    async def check(timeout: float) -> str:  # noqa: ASYNC109
        for answer in left:
            return answer
        return await asyncio.sleep(60, "")

    return check


def asking(*answers: str, failures: int = 3, successes: int = 1) -> ProbeSpec:
    check = saying_in_turn(*answers)
    return ProbeSpec(check=check, interval=0, timeout=1, failures=failures, successes=successes)


@in_loop
async def test_all_first_questions_are_passed_in_order() -> None:
    told: list[HealthVerdict] = []
    first = [asking("a", "", "x"), asking("b", "", "c", "", "", successes=2), asking("last")]
    probe = HealthProbe(first, on_verdict=told.append)
    probe.start()
    await until(lambda: probe.detail == "last")
    assert told == []
    probe.stop()
    probe = HealthProbe([*first[:0], asking(""), asking("a", "")], on_verdict=told.append)
    probe.start()
    await until(lambda: told)
    assert told == [HealthVerdict(healthy=True, detail="ok")]


@in_loop
async def test_traffic_comes_and_goes_without_a_failure() -> None:
    told: list[HealthVerdict] = []
    traffic = asking("a", "b", "c", "", "d", "", "", "e", failures=2, successes=2)
    probe = HealthProbe([asking("")], traffic=traffic, on_verdict=told.append)
    probe.start()
    await until(lambda: probe.detail == "e")
    probe.stop()
    changes = [(verdict.healthy, verdict.fatal) for verdict in told]
    assert changes == [(True, True), (False, False), (True, False)]
    assert told[1].detail == "b (2 times in a row)"


@in_loop
async def test_life_and_traffic_are_asked_side_by_side() -> None:
    told: list[HealthVerdict] = []
    probe = HealthProbe(
        [asking("")], life=asking("", "dead", failures=1), traffic=asking(), on_verdict=told.append
    )
    probe.start()
    await until(lambda: len(told) > 1)
    probe.stop()
    assert told[1] == HealthVerdict(healthy=False, detail="dead (1 times in a row)")


@in_loop
async def test_without_a_thread_to_ask_with_it_is_unwell(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork bomb of the workload's, say: the probe goes on asking, and its answers count."""
    engine = Engine()
    async with engine.serving() as url:
        watched = Watched(url)
        engine.code = 200
        watched.probe.start()
        await until(lambda: watched.told)
        with monkeypatch.context() as exhausted:
            exhausted.setattr(threading.Thread, "start", _no_thread)
            await until(lambda: len(watched.told) == 2)
        await until(lambda: len(watched.told) == 3)
        assert watched.results == [True, False, True]
        assert watched.told[1] == (False, "can't start new thread (3 times in a row)")
        watched.probe.stop()


def _no_thread(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")
