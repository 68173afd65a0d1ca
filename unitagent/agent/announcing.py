"""Rank 0 tells the store where the traffic of its Unit goes, for ``unitagent endpoints`` and for pages.

The invariant: what is announced is what ``/traffic`` answers, and nothing waits for it: a store that does not
listen costs a try each heartbeat, and no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator

from unitagent.agent.views import Views
from unitagent.core.checks import OK
from unitagent.errors import StoreError
from unitagent.settings import Settings
from unitagent.store.protocol import Entry
from unitagent.store.registry import Registry

_log = logging.getLogger(__name__)

_LOOK = 0.1  # seconds between two looks at the answer
_FAREWELL = 0.5  # seconds to take the line out at the end


class Announcer:
    """Announces one Unit, from its first generation until its agent ends."""

    def __init__(self, registry: Registry, views: Views, settings: Settings, ip: str, port: int) -> None:
        self._registry = registry
        self._views = views
        self._settings = settings
        self._place = (ip, port)
        self._said: Entry | None = None
        self._heard = True
        self._due = 0.0
        self._seen: object = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Announce for the time of a block."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            await self._withdraw()
            await self._registry.close()

    async def _run(self) -> None:
        while True:
            try:
                await self._look()
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not be for ever, nor unseen
                self._complain(error)
            await asyncio.sleep(_LOOK)

    async def _look(self) -> None:
        seen, self._seen = self._seen, self._views.state
        if seen is self._seen and time.monotonic() < self._due:
            return  # nothing has happened; a lease that runs out is an event, too
        entry = self._entry()
        if entry.generation and (entry != self._said or time.monotonic() >= self._due):
            self._due = time.monotonic() + self._settings.heartbeat
            first, self._said = self._said is None, entry
            await self._registry.announce(entry, first=first)
            self._heard = True

    def _complain(self, error: Exception) -> None:
        """Say it once, until it has been heard again."""
        if self._heard:
            level = logging.INFO if isinstance(error, StoreError) else logging.ERROR
            _log.log(level, "traffic of this Unit cannot be announced to the store: %s", error)
        self._heard = False

    def _entry(self) -> Entry:
        settings, (ip, port) = self._settings, self._place
        *_, incarnation = self._views.identity()
        return Entry(
            unit=settings.unit,
            service=settings.service or settings.unit,
            revision=settings.revision,
            incarnation=incarnation,
            generation=self._views.generation(),
            ip=ip,
            port=port,
            probe_port=settings.http_port,
            traffic=self._views.traffic().code == OK,
            lease=settings.lease,
            phase=self._views.phase().value,
        )

    async def _withdraw(self) -> None:
        if self._said is None:
            return
        with contextlib.suppress(StoreError, TimeoutError):
            async with asyncio.timeout(_FAREWELL):
                await self._registry.withdraw(self._said.unit, self._said.incarnation)
