"""A request to an engine that has just become healthy: what the engine leaves to its first request, such as
compiling, is done before the Unit is ready.

The invariant: it ends, and nothing depends on its success. After some failures, or when its time is over, the
engine is ready without it.
"""

from __future__ import annotations

import asyncio
import logging

from msgspec import Struct

from unitagent.probes.http_client import FetchError, FetchRequest, fetch_url
from unitagent.system import redaction

_log = logging.getLogger(__name__)

ATTEMPTS = 3
_PAUSE = 1.0  # seconds between two attempts
_LEAST = 0.5  # seconds; with less time left, there is no attempt
_MAX_ANSWER = 1 << 20  # bytes


class WarmUp(Struct, frozen=True, kw_only=True):
    """A request, sent once for each start of the workload.

    Attributes:
        body: JSON to post; None for a GET.
        seconds: the most that it may delay the workload's being healthy.
        startup: the most that a whole start may take; 0 for no limit. At most half of what is left is used.

    """

    url: str
    body: str | None = None
    seconds: float
    startup: float = 0.0

    @property
    def words(self) -> str:
        """What is asked, without a password."""
        return f"{'GET' if self.body is None else 'POST'} {redaction.redact_url(self.url)}"

    async def send_request(self, age: float) -> None:
        """Send it to a workload that was started so many seconds ago, and log what came of it."""
        loop = asyncio.get_running_loop()
        limit = min(self.seconds, (self.startup - age) / 2) if self.startup else self.seconds
        if limit < _LEAST:
            _log.warning("%s is not sent: UNIT_STARTUP_SECONDS leaves no time for a warm-up", self.words)
            return
        began = loop.time()
        problem = await self._send_until(began + limit)
        took = loop.time() - began
        if problem:
            _log.warning(
                "the Unit is ready without a warm-up: %s: %s, after %.1f s", self.words, problem, took
            )
        else:
            _log.info("warmed up by %s in %.1f s", self.words, took)

    async def _send_until(self, deadline: float) -> str:
        """Return why it failed, the last time; empty once it was answered."""
        loop, problem = asyncio.get_running_loop(), ""
        for attempt in range(ATTEMPTS):
            await asyncio.sleep(_PAUSE if attempt else 0.0)
            left = round(deadline - loop.time(), 2)
            if left <= 0:
                break
            problem = await self._send_once(left)
            if not problem:
                return ""
        return problem

    async def _send_once(self, seconds: float) -> str:
        body = None if self.body is None else self.body.encode()
        request = FetchRequest(
            url=self.url, timeout=seconds, limit=_MAX_ANSWER, verified=False, body=body
        )  # any certificate will do: the server is our own
        try:
            answered = await fetch_url(request)
        except FetchError as error:
            return str(error)
        return "" if 200 <= answered.code < 300 else f"answered {answered.code}"  # noqa: PLR2004
