"""Health of the workload at rank 0: polled checks, and a watch for a stalled engine.

The invariant: one bad answer proves nothing. Until each check has had its good answers the workload is
still starting, however bad the others are; after that, only ``failures`` bad answers in a row mean
anything.

A stalled engine is alive and calls itself healthy, but makes no progress. Its step counter shows that: with
requests running it moves several times a second, so if it stands still for longer than any step takes, a
collective is stuck. An engine without requests rests and is not stalled. Unreadable metrics mean nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from msgspec import Struct

from unitagent.errors import ConfigurationError
from unitagent.probes.http_client import FetchError, FetchRequest, fetch_url
from unitagent.probes.in_flight import fetch_total
from unitagent.system import redaction
from unitagent.system.addresses import explain_unreachable

if TYPE_CHECKING:
    from unitagent.probes.warm_up import WarmUp

    HealthCheck = Callable[[float], Awaitable[str]]
    """Takes a timeout in seconds; returns nothing when healthy, else one line why not. Never raises."""


STARTING_INTERVAL = 1.0  # seconds: so that "ready" is noticed soon
OVERDUE = 2.0  # seconds without an answer after which people are told that one is awaited
_MAX_ANSWER = 1 << 20  # bytes
_PULSE = _STANDSTILL = 0.25  # seconds between two beats, and by which one is late after a standstill


def parse_health_url(url: str) -> HealthCheck:
    """Return the check that ``UNIT_HEALTH_URL`` stands for.

    Raises:
        ConfigurationError: not an ``http``, ``https`` or ``tcp`` URL with a host (and, for ``tcp``, a port).

    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    else:
        if host and parts.scheme in {"http", "https"}:
            return lambda timeout: _check_http(url, timeout)
        if host and port and parts.scheme == "tcp":
            return lambda timeout: explain_unreachable(host, port, within=timeout)
    raise ConfigurationError(
        f"UNIT_HEALTH_URL={redaction.redact_url(url)}: not a health check; "
        "give http://HOST:PORT/PATH, https://HOST:PORT/PATH or tcp://HOST:PORT"
    )


class ProbeSpec(Struct, frozen=True, kw_only=True):
    """One polled check, and how many answers decide.

    Attributes:
        interval: seconds between the end of one question and the next.
        timeout: seconds for one question, its whole answer included.
        failures: bad answers in a row that turn a good opinion.
        successes: good answers in a row that turn a bad one, the first included.
        eager: ask more often than ``interval`` says while the workload starts.
        words: what is asked, for people.
        target: the URL, or the command, in short.

    """

    check: HealthCheck
    interval: float
    timeout: float
    failures: int = 3
    successes: int = 1
    eager: bool = True
    words: str = ""
    target: str = ""

    @property
    def starting_interval(self) -> float:
        """Seconds between two questions until the workload is healthy."""
        return min(STARTING_INTERVAL, self.interval) if self.eager else self.interval


class FailedProbe(Struct, frozen=True):
    """A check that failed, whose answer is overdue, or that passed after one that failed.

    Attributes:
        target: what was asked.
        problem: one line; empty if it passed.
        answered: whether the check is over.

    """

    target: str
    problem: str
    answered: bool = True


def _ignore_probe(_probe: FailedProbe) -> None:
    """Default listener: ignores single checks."""


class HealthVerdict(Struct, frozen=True):
    """A change of health.

    Attributes:
        detail: one line.
        fatal: whether ill health ends the generation; else it only keeps traffic away until it is over.

    """

    healthy: bool
    detail: str
    fatal: bool = True


class _Pulse:
    """Beats during a check: where a beat is late this agent, or its whole container, stood still, and what
    the check has found proves nothing. A check that is merely slow delays no beat.
    """

    def __init__(self) -> None:
        self.stood_still = False
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> Self:
        self._schedule_beat()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._note_delay()

    def _schedule_beat(self) -> None:
        self._due = self._loop.time() + _PULSE
        self._timer = self._loop.call_at(self._due, self._note_beat)

    def _note_beat(self) -> None:
        self._note_delay()
        self._schedule_beat()

    def _note_delay(self) -> None:
        self.stood_still = self.stood_still or self._loop.time() - self._due > _STANDSTILL


class HealthProbe:
    """Polls as long as one generation's workload runs.

    It asks each of ``first`` in order until that has its good answers, and sends a warm-up, if there is one;
    then the workload is healthy. From then on it asks ``life`` and ``traffic`` side by side: the one shows
    whether the workload is sick, the other whether it takes requests.
    """

    def __init__(
        self,
        first: Sequence[ProbeSpec],
        *,
        life: ProbeSpec | None = None,
        traffic: ProbeSpec | None = None,
        warm_up: WarmUp | None = None,
        on_verdict: Callable[[HealthVerdict], None],
        on_probe: Callable[[FailedProbe], None] = _ignore_probe,
    ) -> None:
        self._first = first
        self._lasting = [(each, fatal) for each, fatal in ((life, True), (traffic, False)) if each]
        self._warm_up = warm_up
        self._started = 0.0
        self._on_verdict = on_verdict
        self._on_probe = on_probe
        self._failing: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self.detail = "not asked yet"

    def start(self) -> None:
        """Begin for a new workload, with nothing known."""
        self.stop()
        self._failing.clear()
        self.detail = "not asked yet"
        self._started = asyncio.get_running_loop().time()
        self._task = asyncio.create_task(self._run_checks(), name="health")

    def stop(self) -> None:
        """Stop asking; an outstanding answer is dropped."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run_checks(self) -> None:
        for question in self._first:
            await self._wait_until_healthy(question)
        if self._warm_up is not None:
            await self._send_warm_up(self._warm_up)
        self._on_verdict(HealthVerdict(healthy=True, detail="ok"))
        await asyncio.gather(
            *(self._watch_health(question, fatal=fatal) for question, fatal in self._lasting)
        )

    async def _wait_until_healthy(self, question: ProbeSpec) -> None:
        good = 0
        while good < question.successes:
            if good or self.detail != "not asked yet":
                await asyncio.sleep(question.starting_interval)
            with self._report_silence(question):
                good = 0 if await self._run_check(question) else good + 1

    async def _send_warm_up(self, warm_up: WarmUp) -> None:
        """Send it, and report meanwhile what is waited for."""
        self._report_probe(FailedProbe(warm_up.words, "warming up", answered=False))
        await warm_up.send_request(asyncio.get_running_loop().time() - self._started)
        self._report_probe(FailedProbe(warm_up.words, ""))

    async def _watch_health(self, question: ProbeSpec, *, fatal: bool) -> None:
        well, against = True, 0
        while True:
            await asyncio.sleep(question.interval)
            with _Pulse() as pulse:
                problem = await self._run_check(question)
            if problem and pulse.stood_still:
                continue
            against = against + 1 if bool(problem) == well else 0
            if against == (question.failures if well else question.successes):
                detail = f"{problem} ({against} times in a row)" if well else "ok"
                well, against = not well, 0
                self._on_verdict(HealthVerdict(well, detail, fatal))

    async def _run_check(self, question: ProbeSpec) -> str:
        problem = await question.check(question.timeout)
        self.detail = problem or "ok"
        self._report_probe(FailedProbe(question.target, problem))
        return problem

    @contextlib.contextmanager
    def _report_silence(self, question: ProbeSpec) -> Iterator[None]:
        """Report that an answer is overdue; a server that loads may accept connections and say nothing."""
        overdue = FailedProbe(question.target, "no answer yet", answered=False)
        timer = asyncio.get_running_loop().call_later(OVERDUE, self._report_probe, overdue)
        try:
            yield
        finally:
            timer.cancel()

    def _report_probe(self, probe: FailedProbe) -> None:
        """Report what failed, and once that it passes again."""
        if probe.problem:
            self._failing.add(probe.target)
        elif probe.target in self._failing:
            self._failing.remove(probe.target)
        else:
            return
        self._on_probe(probe)


async def _check_http(url: str, timeout: float) -> str:  # noqa: ASYNC109 (the shape of a check)
    """As a kubelet does, take any certificate: the server is our own, and it is sent nothing."""
    try:
        fetched = await fetch_url(FetchRequest(url=url, timeout=timeout, limit=_MAX_ANSWER, verified=False))
    except FetchError as error:
        return str(error)
    return "" if 200 <= fetched.code < 400 else f"answered {fetched.code}"  # noqa: PLR2004


_STALL_SAMPLES = 4  # within the time that counts as a stall
_MAX_STALL_INTERVAL = 5.0  # seconds between two looks


class EngineGauges(Struct, frozen=True):
    """Where an engine publishes its progress.

    Attributes:
        url: of its Prometheus text.
        running: gauges that add up to the requests in flight.
        progress: counter that moves with every step.

    """

    url: str
    running: tuple[str, ...]
    progress: str


class StallProbe:
    """Watches one generation's engine; calls ``on_stall`` once, with one line."""

    def __init__(self, gauges: EngineGauges, seconds: float, on_stall: Callable[[str], None]) -> None:
        self._gauges = gauges
        self._seconds = seconds
        self._on_stall = on_stall
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin for a new workload."""
        self.stop()
        self._task = asyncio.create_task(self._watch_progress(), name="stall")

    def stop(self) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _watch_progress(self) -> None:
        loop = asyncio.get_running_loop()
        steps, moved = None, loop.time()
        while loop.time() - moved <= self._seconds:
            await asyncio.sleep(min(_MAX_STALL_INTERVAL, self._seconds / _STALL_SAMPLES))
            running, seen = await self._read_gauges()
            if not running or seen is None or seen != steps:
                steps, moved = seen, loop.time()
        self._on_stall(
            f"no step of the engine for {self._seconds:g} s (UNIT_STALL_SECONDS) with requests running"
        )

    async def _read_gauges(self) -> tuple[int | None, int | None]:
        running = await fetch_total(self._gauges.url, frozenset(self._gauges.running))
        return running, await fetch_total(self._gauges.url, frozenset({self._gauges.progress}))
