"""Rank 0 publishes the endpoint of its Unit in the store, for ``unitagent endpoints`` and dashboards.

The invariant: the published state equals the answer of ``/traffic``, and nothing waits for it: an unreachable
store costs one attempt per heartbeat. A published entry is renewed before it expires.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import replace

from unitagent.agent.agent_answers import AgentAnswers
from unitagent.core.model import Phase
from unitagent.core.probe_answers import OK
from unitagent.core.probe_paths import TRAFFIC
from unitagent.errors import StoreError
from unitagent.settings import Settings
from unitagent.store.protocol import Endpoint
from unitagent.store.registry import Registry

_log = logging.getLogger(__name__)

_RENEWAL_FRACTION = 0.25  # of the lease; then an entry is renewed, at the latest a heartbeat later
_CALM = 0.1  # seconds in which a change of anything but the traffic may wait for the next one
_FAREWELL = 0.5  # seconds to withdraw the entry at the end


class EndpointPublisher:
    """Publishes the endpoint of one Unit from its first generation until its agent exits. Then the entry of a
    Unit that was asked to stop is withdrawn; that of any other stays in the list, without traffic.
    """

    def __init__(
        self, registry: Registry, answers: AgentAnswers, settings: Settings, ip: str, port: int
    ) -> None:
        self._registry = registry
        self._answers = answers
        self._settings = settings
        self._address = (ip, port)
        self._published: Endpoint | None = None
        self._is_reachable = True
        self._published_at = -_CALM
        self._edition = -1  # of the keys that it was signed with
        self._is_held = False
        self._due_at = 0.0

    @contextlib.asynccontextmanager
    async def publish_in_background(self) -> AsyncIterator[None]:
        """Publish for the duration of the block, then take leave."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            await self._take_leave()
            await self._registry.close()

    async def _run(self) -> None:
        while True:
            try:
                await self._publish_changes()
            except Exception as error:  # noqa: BLE001 - any error is logged and retried
                self._log_failure(error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CALM if self._is_held else None):
                    await self._answers.next_step()

    async def _publish_changes(self) -> None:
        entry, now = self._make_entry(), time.monotonic()
        self._is_held = False
        if not entry.generation or (now < self._due_at and not self._is_news(entry, now)):
            self._is_held = bool(entry.generation) and entry != self._published
            return
        first, self._published, self._published_at = self._published is None, entry, now
        self._edition = self._registry.edition
        self._due_at = time.monotonic() + self._settings.heartbeat
        await self._registry.announce_endpoint(entry, first=first)
        self._due_at = time.monotonic() + _RENEWAL_FRACTION * self._settings.lease
        self._is_reachable = True

    def _is_news(self, entry: Endpoint, now: float) -> bool:
        """Whether to publish at once: a restart changes the phase several times within milliseconds, and only
        those who send traffic cannot wait, nor can readers with the newest secret alone.
        """
        if self._published is None or self._edition != self._registry.edition:
            return True
        if entry.traffic != self._published.traffic:
            return True
        return entry != self._published and now - self._published_at >= _CALM

    def _log_failure(self, error: Exception) -> None:
        """Log one failure per outage."""
        if self._is_reachable:
            level = logging.INFO if isinstance(error, StoreError) else logging.ERROR
            _log.log(level, "cannot publish the endpoint of this Unit in the store: %s", error)
        self._is_reachable = False

    def _make_entry(self) -> Endpoint:
        settings, (ip, port) = self._settings, self._address
        *_, incarnation = self._answers.get_identity()
        return Endpoint(
            unit=settings.unit,
            service=settings.service or settings.unit,
            revision=settings.revision,
            incarnation=incarnation,
            generation=self._answers.get_generation(),
            ip=ip,
            port=port,
            probe_port=settings.http_port,
            traffic=self._answers.answer_probe(TRAFFIC).code == OK,
            lease=settings.lease,
            phase=self._answers.find_phase().value,
        )

    async def _take_leave(self) -> None:
        if self._published is None:
            return
        entry = replace(self._make_entry(), traffic=False)
        with contextlib.suppress(StoreError, TimeoutError):
            async with asyncio.timeout(_FAREWELL):
                if entry.phase == Phase.DRAINING:
                    await self._registry.withdraw_endpoint(entry.unit, entry.incarnation)
                else:
                    await self._registry.announce_endpoint(entry, last=True)
