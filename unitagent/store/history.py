"""A Unit's history in the store: a capped stream that agents append to and operators read.

The invariant: failures of the history never affect the Unit. It has its own connection, no decision of an
agent depends on it, and foreign data under its key is removed or ignored.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace
from redis.exceptions import ResponseError

from unitagent.store import codec, scripts
from unitagent.store.connection import send_command
from unitagent.store.errors import LimitedWarnings
from unitagent.store.keys import KEPT_EVENTS, KeyNames
from unitagent.store.store_connection import StoreConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from redis.asyncio.connection import AbstractConnection

    from unitagent.core.history import HistoryEvent
    from unitagent.store.address import LocationSource

_log = logging.getLogger(__name__)
_PAGE = 500  # events read at once
_MAX_DETAIL = 1000  # characters of a sentence


class HistoryPage(Struct, frozen=True):
    """A part of a Unit's history.

    Attributes:
        events: as they arrived, dated by the store's clock; the same one may come again.
        last: where the next page begins; the same as before when there is no more.
        now: what the store's clock says, in seconds since the epoch.

    """

    events: tuple[HistoryEvent, ...]
    last: bytes
    now: float


class UnitHistory:
    """What happened to one Unit.

    Every method raises :class:`unitagent.errors.StoreError` as those of a ``Store`` do.

    Args:
        unit: name of the Unit.
        url: where the store is; a callable is asked at each connect, in a thread.
        timeout: seconds that any operation may take, connecting included.
        warn: takes a sentence about garbage in the store; each comes once.

    """

    def __init__(
        self,
        unit: str,
        url: str | LocationSource,
        *,
        timeout: float,
        warn: Callable[[str], None] = _log.warning,
    ) -> None:
        self._key = KeyNames(unit).history
        self._connection = StoreConnection(url, self._key, timeout)
        self._warnings = LimitedWarnings(warn)

    async def add_events(self, events: Sequence[HistoryEvent], clock: Callable[[], float]) -> None:
        """Append events; ``clock`` is the one that they were dated by, asked when they are sent."""
        kind = await self._connection.execute_operation(
            lambda connection: _run_append(connection, self._key, events, clock)
        )
        if kind:
            self._warn_of_type(kind.decode(errors="replace"))

    async def read(self, after: bytes = b"") -> HistoryPage:
        """Read what follows a page's last event; from the beginning without one."""
        return await self._connection.execute_operation(lambda connection: self._read_page(connection, after))

    async def read_latest(self, count: int) -> HistoryPage:
        """Read the last events, as many as ``count``."""
        return await self._connection.execute_operation(
            lambda connection: self._read_backwards(connection, count)
        )

    async def holds_entry(self, entry: bytes) -> bool:
        """Whether a page's last event is still there: a store that came back empty has none of them."""
        return await self._connection.execute_operation(
            lambda connection: self._holds_entry(connection, entry)
        )

    async def close(self) -> None:
        """Close the connection; the history can be used again afterwards."""
        await self._connection.close()

    async def _holds_entry(self, connection: AbstractConnection, entry: bytes) -> bool:
        try:
            return bool(await send_command(connection, "XRANGE", self._key, entry, entry, "COUNT", 1))
        except ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise
            return False

    async def _read_page(self, connection: AbstractConnection, after: bytes) -> HistoryPage:
        begin = b"(" + after if after else b"-"
        now, entries = await self._read_range(connection, "XRANGE", begin, "+", _PAGE)
        last = entries[-1][0] if entries else after
        return HistoryPage(tuple(self._decode_entries(entries)), last, now)

    async def _read_backwards(self, connection: AbstractConnection, count: int) -> HistoryPage:
        now, entries = await self._read_range(connection, "XREVRANGE", b"+", "-", count)
        last = entries[0][0] if entries else b""
        return HistoryPage(tuple(self._decode_entries(entries[::-1])), last, now)

    async def _read_range(
        self, connection: AbstractConnection, command: str, begin: bytes, end: str, count: int
    ) -> tuple[float, list[Any]]:
        """Return the store's clock, in seconds since the epoch, and the entries."""
        seconds, micros = await send_command(connection, "TIME")
        try:
            entries = await send_command(connection, command, self._key, begin, end, "COUNT", count)
        except ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise
            self._warn_of_type("something else")
            entries = []
        return int(seconds) + int(micros) / 1e6, entries

    def _decode_entries(self, entries: Sequence[Any]) -> Iterator[HistoryEvent]:
        for _, fields in entries:
            event = _decode_entry(fields)
            if event is None:
                self._warnings.warn_once("an entry of the history in the store cannot be read; ignored it")
            else:
                yield event

    def _warn_of_type(self, kind: str) -> None:
        self._warnings.warn_once(f"the store held {kind} under our key {self._key}, which is not a history")


def _decode_entry(fields: Any) -> HistoryEvent | None:
    match fields:
        case [b"at", bytes(at), b"moment", bytes(raw)] if codec.decode_number(at):
            event = codec.decode_event(raw)
            return event and replace(event, at=codec.decode_number(at) / 1e6)
    return None


async def _run_append(
    connection: AbstractConnection, key: str, events: Sequence[HistoryEvent], clock: Callable[[], float]
) -> bytes:
    """Run the script by its name, or send it to a server that has yet to learn it."""

    def build_arguments() -> Iterator[str | bytes | int]:
        now = clock()
        yield from (1, key, KEPT_EVENTS)
        for event in events:
            yield max(0, int((now - event.at) * 1e6))
            yield codec.encode_value(replace(event, detail=event.detail[:_MAX_DETAIL]))

    kind: bytes = await scripts.run_script(connection, scripts.HISTORY, *build_arguments())
    return kind
