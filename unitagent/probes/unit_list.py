"""``/events``, ``/units``, ``/units/NAME`` and ``/units/NAME/events``: answers from the store.

The invariant: however many clients ask, the store gets one request at a time, and the same request at most
once a second; no client waits longer than ``PATIENCE``. No other answer needs the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec

from unitagent.errors import StoreError
from unitagent.probes.answers import JSON, Response, make_text_response
from unitagent.system.limits import NAME_PATTERN

_log = logging.getLogger(__name__)

PATIENCE = 2.0  # seconds; less than a connection may take over a request
_REUSE = 1.0  # seconds that an answer is reused
_MAX_READINGS = 32  # answers at a time; for the list there is always room
_MAX_WAITING = 512  # requests, those of clients that have gone meanwhile included
UNITS, EVENTS = "/units", "/events"
_BUSY = make_text_response(503, "too many requests at once; try again")


class UnitSource(Protocol):
    """What can be known of the store's Units; raises :class:`unitagent.errors.StoreError`."""

    async def list_units(self) -> list[dict[str, Any]]:
        """Read the list."""

    async def get_unit(self, name: str) -> dict[str, Any] | None:
        """Read one, in the form of ``/status``; None when there is no such Unit."""

    async def read_events(self, name: str) -> dict[str, Any]:
        """Read the last events of a Unit; of the agent's own if the name is empty."""


class UnitAnswers:
    """Answers that are under way, and those of the last second.

    Args:
        make_source: makes the source when it is first needed; most agents are never asked.
        every_unit: whether other Units than the agent's own are shown.

    """

    def __init__(self, make_source: Callable[[], UnitSource], *, every_unit: bool) -> None:
        self._make_source = make_source
        self._source: UnitSource | None = None
        self._every_unit = every_unit
        self._alone = asyncio.Lock()
        self._readings: dict[str, asyncio.Task[Response]] = {}
        self._waiting = 0

    def answers_path(self, method: str, path: str) -> bool:
        """Whether this path is answered here."""
        mine = path == EVENTS or (self._every_unit and (path == UNITS or path.startswith(f"{UNITS}/")))
        return mine and method in {"GET", "HEAD"}

    async def answer_path(self, path: str) -> Response:
        """Answer a path that ``answers_path`` accepts."""
        name, _ = _parse_path(path)
        if path.startswith(f"{UNITS}/") and not NAME_PATTERN.fullmatch(name):
            return make_text_response(
                400, "a Unit's name is 1 to 128 of the characters A-Z a-z 0-9 . _ -, and not . or .."
            )
        reading = self._readings.get(path) or self._start_reading(path)
        if reading is None or self._waiting >= _MAX_WAITING:
            return _BUSY
        self._waiting += 1
        try:
            await asyncio.wait([reading])
        finally:
            self._waiting -= 1
        return reading.result()

    def close(self) -> None:
        """Cancel all reads."""
        for reading in self._readings.values():
            reading.cancel()

    def _start_reading(self, path: str) -> asyncio.Task[Response] | None:
        if path not in (UNITS, EVENTS) and len(self._readings) >= _MAX_READINGS:
            return None
        reading = self._readings[path] = asyncio.create_task(self._read_store(path))
        reading.add_done_callback(lambda _: self._forget_later(path))
        return reading

    def _forget_later(self, path: str) -> None:
        asyncio.get_running_loop().call_later(_REUSE, self._readings.pop, path, None)

    def _read_answer(self, path: str) -> Awaitable[Any]:
        if self._source is None:
            self._source = self._make_source()
        name, of_history = _parse_path(path)
        if of_history:
            return self._source.read_events(name)
        return self._source.get_unit(name) if name else self._source.list_units()

    async def _read_store(self, path: str) -> Response:
        try:
            async with asyncio.timeout(PATIENCE), self._alone:
                answer = await self._read_answer(path)
        except TimeoutError:
            return make_text_response(503, "the store does not answer in time")
        except StoreError as error:
            return make_text_response(503, str(error))
        except Exception:  # noqa: BLE001 (whatever fails here, the agent goes on)
            _log.error("%s could not be read from the store", path)
            _log.debug("why", exc_info=True)
            return make_text_response(500, "internal error of the agent; its log says more")
        if answer is None:
            return make_text_response(404, f"the store knows no Unit {_parse_path(path)[0]}")
        return Response(200, msgspec.json.encode(answer), JSON)


def _parse_path(path: str) -> tuple[str, bool]:
    """Return the name of a Unit, empty for none, and whether its history is asked for."""
    below = path.removeprefix(UNITS).removeprefix("/") if path.startswith(UNITS) else path
    name = below.removesuffix(EVENTS)
    return name, name != below
