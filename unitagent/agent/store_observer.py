"""The Units of the store, for whoever looks at this agent's page.

The invariant: an agent that nobody looks at holds no connection for it, and its own contact with the store is
neither used nor judged by what happens here.
"""

from __future__ import annotations

import logging
from typing import Any

from unitagent.agent.views import Views
from unitagent.core import onlooking
from unitagent.core.model import Phase
from unitagent.keys import Keyring
from unitagent.settings import Settings
from unitagent.store.address import Directions
from unitagent.store.protocol import Sight
from unitagent.store.redis import RedisStore
from unitagent.store.registry import Registry

_log = logging.getLogger(__name__)


class StoreObserver:
    """The ``Units`` of one store, of which the own one is known best."""

    def __init__(self, url: Directions, views: Views, settings: Settings, keys: Keyring) -> None:
        self._url = url
        self._views = views
        self._settings = settings
        self._keys = keys
        timeout = settings.timing.operation_timeout
        self._registry = Registry(url, timeout=timeout, keys=keys, warn=_log.debug)
        self._leases: dict[str, float] = {}

    async def all(self) -> list[dict[str, Any]]:
        """Read the list, in the order of names."""
        try:
            sights = await self._registry.read()
        finally:
            await self._registry.close()
        self._leases = {unit: sight.entry.lease for unit, sight in sights.units.items()}
        lines = {unit: _describe_unit(sight, sights.now) for unit, sight in sights.units.items()}
        return [line for _, line in sorted((lines | self._describe_own(lines)).items())]

    async def one(self, name: str) -> dict[str, Any] | None:
        """Read one Unit; its lease is what the list told of it."""
        if name == self._settings.unit:
            return self._views.status()
        timeout = self._settings.timing.operation_timeout
        store = RedisStore(name, self._url, timeout=timeout, keys=self._keys, warn=_log.debug)
        try:
            board = await store.read()
        finally:
            await store.close()
        if not board.records:
            return None
        seen = onlooking.status(name, board, self._leases.get(name, self._settings.lease))
        return seen | {"secrets": None}  # only its own agents can tell

    def _describe_own(self, listed: dict[str, Any]) -> dict[str, Any]:
        """My own Unit, until its rank 0 has told the store of it."""
        if self._settings.unit in listed:
            return {}
        seen = self._views.status()
        return {
            seen["unit"]: {
                "unit": seen["unit"],
                "service": self._settings.service or seen["unit"],
                "phase": seen["phase"],
                "generation": seen["generation"],
                "ready": seen["ready"],
                "address": seen["instances"][0]["ip"],
                "port": None,
                "age_seconds": 0.0,
            }
        }


def _describe_unit(sight: Sight, now: float) -> dict[str, Any]:
    """What rank 0 told last; a silent one is in no phase and not ready."""
    entry, age = sight.entry, max(0.0, now - sight.at)
    fresh = age <= entry.lease
    return {
        "unit": entry.unit,
        "service": entry.service,
        "phase": entry.phase if fresh and entry.phase in set(Phase) else None,
        "generation": entry.generation,
        "ready": fresh and entry.traffic,
        "address": entry.ip,
        "port": entry.port or None,
        "age_seconds": round(age, 3),
    }
