"""The workload's own health, asked at rank 0 again and again.

The invariant: one bad answer proves nothing. Before the first good one the workload is still starting; after
it, only ``failures`` bad ones in a row mean that it is sick.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from unitagent.errors import ConfigurationError
from unitagent.probes.connect import reach
from unitagent.probes.fetch import FetchError, Get, fetch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Check = Callable[[float], Awaitable[str]]
    """Takes a timeout in seconds; returns nothing when healthy, else one line why not. Never raises."""

STARTING_INTERVAL = 1.0  # seconds: so that "ready" is noticed soon
_LIMIT = 1 << 20  # bytes


def check_for(url: str) -> Check:
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
            return lambda timeout: _ask(url, timeout)
        if host and port and parts.scheme == "tcp":
            return lambda timeout: reach(host, port, within=timeout)
    raise ConfigurationError(
        f"UNIT_HEALTH_URL={_without_password(url)}: not a health check; "
        "give http://HOST:PORT/PATH, https://HOST:PORT/PATH or tcp://HOST:PORT"
    )


def _without_password(url: str) -> str:
    return re.sub(r"//[^/]*@", "//***@", url)


class HealthProbe:
    """Asks one check for as long as one generation's workload runs.

    Attributes:
        check: what to ask; see ``check_for``.
        interval: seconds between the end of one question and the next.
        timeout: seconds for one question, its whole answer included.
        failures: how many in a row make a healthy workload sick.
        on_result: called when health changes: True at a good answer after none or after a sick report, False
            when it has become sick; with one line of detail.

    """

    def __init__(
        self,
        check: Check,
        *,
        interval: float,
        timeout: float,
        failures: int,
        on_result: Callable[[bool, str], None],
    ) -> None:
        self._check = check
        self._interval = interval
        self._timeout = timeout
        self._failures = failures
        self._on_result = on_result
        self._task: asyncio.Task[None] | None = None
        self._healthy: bool | None = None
        self._failed = 0
        self.detail = "not asked yet"

    def start(self) -> None:
        """Begin for a new workload, with nothing known."""
        self.stop()
        self._healthy, self._failed, self.detail = None, 0, "not asked yet"
        self._task = asyncio.create_task(self._run(), name="health")

    def stop(self) -> None:
        """Ask no more; an answer under way is dropped."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        while True:
            self._count(await self._check(self._timeout))
            starting = self._healthy is None
            await asyncio.sleep(min(STARTING_INTERVAL, self._interval) if starting else self._interval)

    def _count(self, problem: str) -> None:
        self.detail = problem or "ok"
        self._failed = self._failed + 1 if problem else 0
        if not problem and not self._healthy:
            self._report(healthy=True, detail="ok")
        elif self._healthy and self._failed >= self._failures:
            self._report(healthy=False, detail=f"{problem} ({self._failed} times in a row)")

    def _report(self, *, healthy: bool, detail: str) -> None:
        self._healthy = healthy
        self._on_result(healthy, detail)


async def _ask(url: str, timeout: float) -> str:  # noqa: ASYNC109 (the shape of a check)
    try:
        fetched = await fetch(Get(url=url, timeout=timeout, limit=_LIMIT))
    except FetchError as error:
        return str(error)
    return "" if 200 <= fetched.code < 400 else f"answered {fetched.code}"  # noqa: PLR2004
