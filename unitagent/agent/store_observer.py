"""The Units of the store and their histories, for the dashboard of this agent.

The invariant: without viewers it holds no connection, and it neither uses nor affects the agent's own contact
with the store.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from unitagent.core.history import HistoryEvent, describe_event
from unitagent.core.model import Phase
from unitagent.core.observed_status import status_from_store
from unitagent.core.summary import summarize
from unitagent.errors import StoreError
from unitagent.probes.answers import Answers
from unitagent.probes.unit_list import PATIENCE
from unitagent.settings import Settings
from unitagent.store.address import LocationSource
from unitagent.store.history import UnitHistory
from unitagent.store.protocol import RegistryRecord
from unitagent.store.redis_store import RedisStore
from unitagent.store.registry import Registry
from unitagent.system.keyring import Keyring

_log = logging.getLogger(__name__)
_EVENTS = 300  # shown of a history
_ENDED = {Phase.FAILED, Phase.COMPLETED}


class StoreObserver:
    """The ``Units`` of one store; this agent answers for its own Unit.

    Args:
        recall: returns what this agent knows of the history without the store.

    """

    def __init__(
        self,
        url: LocationSource,
        answers: Answers,
        settings: Settings,
        keys: Keyring,
        recall: Callable[[], Sequence[HistoryEvent]] = tuple,
    ) -> None:
        self._recall = recall
        self._url = url
        self._answers = answers
        self._settings = settings
        self._keys = keys
        timeout = settings.timing.operation_timeout
        self._registry = Registry(url, timeout=timeout, keys=keys, warn=_log.debug)
        self._leases: dict[str, float] = {}

    async def list_units(self) -> list[dict[str, Any]]:
        """Read all Units, sorted by name."""
        try:
            snapshot = await self._registry.read()
        finally:
            await self._registry.close()
        self._leases = {unit: record.entry.lease for unit, record in snapshot.units.items()}
        lines = {unit: _describe_unit(record, snapshot.now) for unit, record in snapshot.units.items()}
        return [line for _, line in sorted((lines | self._describe_own(lines)).items())]

    async def get_unit(self, name: str) -> dict[str, Any] | None:
        """Read one Unit; its lease comes from the list."""
        if name == self._settings.unit:
            return self._answers.build_status()
        timeout = self._settings.timing.operation_timeout
        store = RedisStore(name, self._url, timeout=timeout, keys=self._keys, warn=_log.debug)
        try:
            snapshot = await store.read()
        finally:
            await store.close()
        if not snapshot.records:
            return None
        status = status_from_store(name, snapshot, self._leases.get(name, self._settings.lease))
        status |= dict.fromkeys(("endpoint", "secrets", "start", "engine"))  # only its own agents know
        return status | {"summary": summarize(status, time.time())}

    async def read_events(self, name: str) -> dict[str, Any]:
        """Read the last events of a Unit, with the store's clock; empty for my own Unit.

        While the store is away, ``trouble`` says so, and the events are those that this agent knows.
        """
        timeout = min(self._settings.timing.operation_timeout, PATIENCE / 2)
        history = UnitHistory(name or self._settings.unit, self._url, timeout=timeout, warn=_log.debug)
        try:
            page = await history.read_latest(_EVENTS)
        except StoreError as error:
            known = () if name not in ("", self._settings.unit) else self._recall()[-_EVENTS:]
            if not known:
                raise
            return {"now": time.time(), "events": [*map(_describe_event, known)], "trouble": str(error)}
        finally:
            await history.close()
        return {"now": page.now, "events": [*map(_describe_event, page.events)]}

    def _describe_own(self, listed: dict[str, Any]) -> dict[str, Any]:
        """Describe my own Unit, until its rank 0 has published it."""
        if self._settings.unit in listed:
            return {}
        seen = self._answers.build_status()
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


def _describe_event(event: HistoryEvent) -> dict[str, Any]:
    """Describe an event, with the number that tells it from others of its agent."""
    return {**describe_event(event), "number": event.number}


def _describe_unit(record: RegistryRecord, now: float) -> dict[str, Any]:
    """Describe what rank 0 published last. If that is old, the Unit is not ready, and it has no phase
    unless it has ended.
    """
    entry, age = record.entry, max(0.0, now - record.at)
    fresh = age <= entry.lease
    known = entry.phase in (set(Phase) if fresh else _ENDED)
    return {
        "unit": entry.unit,
        "service": entry.service,
        "phase": entry.phase if known else None,
        "generation": entry.generation,
        "ready": fresh and entry.traffic,
        "address": entry.ip,
        "port": entry.port or None,
        "age_seconds": round(age, 3),
    }
