"""A Unit's history in the store: a capped stream beside its board, that agents add to and operators read.

The invariant: its troubles are none of the Unit's. It has a connection of its own, nothing that an agent
decides comes from it, and whatever else hangs under its key is removed or left out.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError, ResponseError

from unitagent.store import scripts, wire
from unitagent.store.connection import call
from unitagent.store.keys import KEPT_MOMENTS, Keys
from unitagent.store.line import Line
from unitagent.store.view import Warnings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from redis.asyncio.connection import AbstractConnection

    from unitagent.core.history import HistoryEvent
    from unitagent.store.address import Directions

_log = logging.getLogger(__name__)
_PAGE = 500  # moments read at once
_LONGEST = 1000  # characters of a sentence


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a Unit's history.

    Attributes:
        moments: as they arrived, dated by the store's clock; the same one may come again.
        last: where the next page begins; the same as before when there is no more.
        now: what the store's clock says, in seconds since the epoch.

    """

    moments: tuple[HistoryEvent, ...]
    last: bytes
    now: float


class History:
    """What happened to one Unit.

    Every method raises :class:`unitagent.errors.StoreError` as those of a ``Store`` do.

    Args:
        unit: name of the Unit.
        url: where the store is; a callable is asked at each connect, in a thread.
        timeout: seconds that any operation may take, connecting included.
        warn: says a sentence about garbage in the store; each is said once.

    """

    def __init__(
        self,
        unit: str,
        url: str | Directions,
        *,
        timeout: float,
        warn: Callable[[str], None] = _log.warning,
    ) -> None:
        self._key = Keys(unit).history
        self._line = Line(url, self._key, timeout)
        self._warnings = Warnings(warn)

    async def add(self, moments: Sequence[HistoryEvent], clock: Callable[[], float]) -> None:
        """Keep moments; ``clock`` is the one that they were dated by, asked when they are sent."""
        kind = await self._line.operate(lambda connection: _add(connection, self._key, moments, clock))
        if kind:
            self._warn_of_type(kind.decode(errors="replace"))

    async def read(self, after: bytes = b"") -> Page:
        """Read what follows a page's last moment; from the beginning without one."""
        return await self._line.operate(lambda connection: self._read(connection, after))

    async def close(self) -> None:
        """Let go of the connection; the history can be used again afterwards."""
        await self._line.close()

    async def _read(self, connection: AbstractConnection, after: bytes) -> Page:
        seconds, micros = await call(connection, "TIME")
        begin = b"(" + after if after else b"-"
        try:
            entries = await call(connection, "XRANGE", self._key, begin, "+", "COUNT", _PAGE)
        except ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise
            self._warn_of_type("something else")
            entries = []
        last = entries[-1][0] if entries else after
        return Page(tuple(self._moments(entries)), last, int(seconds) + int(micros) / 1e6)

    def _moments(self, entries: Sequence[Any]) -> Iterator[HistoryEvent]:
        for _, fields in entries:
            moment = _moment(fields)
            if moment is None:
                self._warnings.once("an entry of the history in the store cannot be read; ignored it")
            else:
                yield moment

    def _warn_of_type(self, kind: str) -> None:
        self._warnings.once(f"the store held {kind} under our key {self._key}, which is no history")


def _moment(fields: Any) -> HistoryEvent | None:
    match fields:
        case [b"at", bytes(at), b"moment", bytes(raw)] if wire.decode_number(at):
            moment = wire.decode_moment(raw)
            return moment and replace(moment, at=wire.decode_number(at) / 1e6)
    return None


async def _add(
    connection: AbstractConnection, key: str, moments: Sequence[HistoryEvent], clock: Callable[[], float]
) -> bytes:
    """Run the script by its name, or send it to a server that has yet to learn it."""

    def words() -> Iterator[str | bytes | int]:
        now = clock()
        yield from (1, key, KEPT_MOMENTS)
        for moment in moments:
            yield max(0, int((now - moment.at) * 1e6))
            yield wire.encode(replace(moment, detail=moment.detail[:_LONGEST]))

    try:
        kind: bytes = await call(connection, "EVALSHA", scripts.HISTORY.sha, *words())
    except NoScriptError:
        kind = await call(connection, "EVAL", scripts.HISTORY.source, *words())
    return kind
