"""Count the requests in flight at rank 0, so that a drain ends with the last of them.

The invariant: if in doubt, a request counts as still in flight. Engines that publish gauges are asked for
them, because balancers keep idle connections open; without readable gauges, connections are counted.
"""

from __future__ import annotations

import asyncio
from math import ceil, isfinite

from unitagent.probes.http_client import FetchError, FetchRequest, fetch_url
from unitagent.system.tcp_sockets import TcpState, list_tcp_sockets

_POLL = 0.2  # seconds
# Seconds without a request after which no more is expected: a client that just got a long answer may use the
# same connection again, and a balancer that has learned of the drain still forwards that.
_QUIET_SECONDS = 1.0
_GAUGES_TIMEOUT = 2.0  # seconds
_MAX_METRICS = 8 << 20  # bytes of metrics text


class InFlightRequests:
    """Counts requests in flight.

    Attributes:
        port: where the workload takes user traffic.
        metrics_url: Prometheus text of the workload, or empty.
        gauges: names there whose values add up to the requests in flight.
        last: the number at the last look; None before the first.

    """

    def __init__(self, port: int, metrics_url: str = "", gauges: tuple[str, ...] = ()) -> None:
        self._port = port
        self._metrics_url = metrics_url
        self._gauges = frozenset(gauges)
        self.last: int | None = None

    async def count_requests(self) -> int:
        """Return how many requests are in flight; connections stand for them where gauges are missing."""
        published = (
            await fetch_total(self._metrics_url, self._gauges) if self._metrics_url and self._gauges else None
        )
        self.last = await asyncio.to_thread(count_connections, self._port) if published is None else published
        return self.last

    async def wait_idle(self) -> None:
        """Return when none has been in flight for a second; the caller sets the limit."""
        clock = asyncio.get_running_loop().time
        idle_since: float | None = None
        while idle_since is None or clock() - idle_since < _QUIET_SECONDS:
            idle_since = None if await self.count_requests() else idle_since or clock()
            await asyncio.sleep(_POLL)


async def fetch_total(url: str, names: frozenset[str]) -> int | None:
    """Fetch Prometheus text and add up the samples of ``names``; None if they cannot be read."""
    text = await _fetch_metrics(url)
    return None if text is None else await asyncio.to_thread(sum_samples, text, names)


async def _fetch_metrics(url: str) -> str | None:
    try:
        fetched = await fetch_url(FetchRequest(url=url, timeout=_GAUGES_TIMEOUT, limit=_MAX_METRICS))
    except FetchError:
        return None
    return fetched.body.decode(errors="replace") if fetched.code == 200 else None  # noqa: PLR2004


def sum_samples(text: str, gauges: frozenset[str]) -> int | None:
    """Add up the samples of these names in Prometheus text; None if there are none or it is invalid."""
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415 (for drains only)

    try:
        families = list(text_string_to_metric_families(text))
    except (ValueError, KeyError, IndexError):
        return None
    values = [each.value for family in families for each in family.samples if each.name in gauges]
    total = sum(values)
    return ceil(total) if values and isfinite(total) else None


def count_connections(port: int) -> int:
    """Count established TCP connections to ``port`` of this network namespace (proc(5), /proc/net/tcp)."""
    return sum(one.port == port for one in list_tcp_sockets(TcpState.ESTABLISHED))
