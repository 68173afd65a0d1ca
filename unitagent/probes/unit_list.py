"""``/units`` and ``/units/NAME``: the Units of the store. Of all answers only these require the store.

The invariant: however many clients ask, the store gets one request at a time, and the same request at most
once a second; no client waits longer than ``PATIENCE``.
"""

from __future__ import annotations

import asyncio
import logging
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
_BUSY = make_text_response(503, "too many requests at once; try again")


class UnitSource(Protocol):
    """What can be known of the store's Units; raises :class:`unitagent.errors.StoreError`."""

    async def list_units(self) -> list[dict[str, Any]]:
        """Read the list."""

    async def get_unit(self, name: str) -> dict[str, Any] | None:
        """Read one, in the form of ``/status``; None when there is no such Unit."""


class UnitAnswers:
    """Answers that are under way, and those of the last second."""

    def __init__(self, units: UnitSource) -> None:
        self._units = units
        self._alone = asyncio.Lock()
        self._readings: dict[str, asyncio.Task[Response]] = {}
        self._waiting = 0

    async def answer_path(self, path: str) -> Response:
        """Answer a path that :func:`is_unit_path` accepts."""
        _, one, name = path[1:].partition("/")
        if one and not NAME_PATTERN.fullmatch(name):
            return make_text_response(
                400, "a Unit's name is 1 to 128 of the characters A-Z a-z 0-9 . _ -, and not . or .."
            )
        reading = self._readings.get(name) or self._start_reading(name)
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

    def _start_reading(self, name: str) -> asyncio.Task[Response] | None:
        if name and len(self._readings) >= _MAX_READINGS:
            return None
        reading = self._readings[name] = asyncio.create_task(self._read_units(name))
        reading.add_done_callback(lambda _: self._forget_later(name))
        return reading

    def _forget_later(self, name: str) -> None:
        asyncio.get_running_loop().call_later(_REUSE, self._readings.pop, name, None)

    async def _read_units(self, name: str) -> Response:
        try:
            async with asyncio.timeout(PATIENCE), self._alone:
                answer = await (self._units.get_unit(name) if name else self._units.list_units())
        except TimeoutError:
            return make_text_response(503, "the store does not answer in time")
        except StoreError as error:
            return make_text_response(503, str(error))
        except Exception:  # noqa: BLE001 (whatever fails here, the agent goes on)
            _log.error("the Units of the store could not be read")
            _log.debug("why", exc_info=True)
            return make_text_response(500, "internal error of the agent; its log says more")
        if answer is None:
            return make_text_response(404, f"the store knows no Unit {name}")
        return Response(200, msgspec.json.encode(answer), JSON)


def is_unit_path(method: str, path: str) -> bool:
    """Whether this path is answered here."""
    return method in {"GET", "HEAD"} and (path == "/units" or path.startswith("/units/"))
