"""The list of all Units of a store, and where the traffic of each one goes. Rank 0 keeps its own line in it.

The invariant: it is written and read in one key of its own, beside the boards of the Units, so a Cluster may
keep it on another server than any of them, and its troubles are none of a Unit's.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from unitagent.keys import Keyring
from unitagent.sealing import Kind
from unitagent.store import meaning, scripts, wire
from unitagent.store.connection import call
from unitagent.store.keys import REGISTRY
from unitagent.store.line import Line
from unitagent.store.lines import MOST, Lines
from unitagent.store.protocol import Entry, Sight, Sights
from unitagent.store.script import pairs
from unitagent.store.scripts import Word
from unitagent.store.signed import Signed, sign, signed
from unitagent.store.view import Warnings

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio.connection import AbstractConnection

    from unitagent.store.address import Directions

_log = logging.getLogger(__name__)
_LONGEST, _LONGEST_NAME = 4096, 128  # bytes of a line and of its Unit's name worth reading


class Registry:
    """All Units of a store.

    Every method raises :class:`unitagent.errors.StoreError` as those of a ``Store`` do.

    Args:
        url: where the store is; a callable is asked at each connect, in a thread.
        timeout: seconds that any operation may take, connecting included.
        keys: that lines are signed with; who reads without any takes them as they are.
        warn: says a sentence about garbage in the store; each is said once.

    """

    def __init__(
        self,
        url: str | Directions,
        *,
        timeout: float,
        keys: Keyring | None = None,
        warn: Callable[[str], None] = _log.warning,
    ) -> None:
        self._line = Line(url, REGISTRY, timeout)
        self._keys = keys if keys is not None else Keyring()
        self._edition = self._keys.edition  # that the lines were compared with
        self._warnings = Warnings(warn)
        self._ahead: float | None = None  # the server's clock, beside our monotonic one
        self._lines = Lines[Sight | None](self._warnings.once)

    async def announce(self, entry: Entry, *, first: bool = False) -> None:
        """Write down what is so now; the ``first`` time also take out who has been gone for a day."""
        if self._ahead is None:
            self._set_clock(await self._line.operate(_milliseconds))
        entry = replace(entry, at=int((time.monotonic() + (self._ahead or 0.0)) * 1000))
        text = sign(self._keys, Kind.ENTRY, entry.unit, msgspec.json.encode(entry))
        lasts = int(entry.lease * 1000)
        words = (entry.unit, entry.incarnation, entry.generation, lasts, text, int(first))
        self._set_clock(await self._line.operate(lambda connection: _write(connection, words)))

    def _set_clock(self, milliseconds: int) -> None:
        self._ahead = milliseconds / 1000 - time.monotonic()

    async def withdraw(self, unit: str, incarnation: str) -> None:
        """Take the line of a Unit out, unless somebody else has written it."""
        words = (unit, incarnation, 0, 0, b"", 0)
        await self._line.operate(lambda connection: _write(connection, words))

    async def read(self) -> Sights:
        """Read all lines, and what time it is there."""
        if self._edition != self._keys.edition:
            self._edition = self._keys.edition
            self._lines.forget()
        known = self._lines.names
        now, lines = await self._line.operate(lambda connection: _all(connection, known))
        read = await self._lines.read(lines, self._sight)
        sights = {sight.entry.unit: sight for sight in read if sight is not None}
        return Sights(now, sights, proven=bool(self._keys))

    async def close(self) -> None:
        """Let go of the connection."""
        await self._line.close()

    def _sight(self, name: bytes, raw: bytes) -> Sight | None:
        """Read one line; what is not exactly of our making is None, and told."""
        at, *_, text = raw.split(b" ", 4) if raw.count(b" ") >= 4 else (b"", b"")  # noqa: PLR2004
        what = f"the store's line of Unit {name[:128].decode(errors='replace')!r}"
        if signed(self._keys, Kind.ENTRY, name.decode("latin-1"), text) is Signed.NOT_MINE:
            self._warnings.once(f"{what} is not signed with this UNIT_SECRET; ignored it")
            return None
        entry = _entry(name, text) if len(raw) <= _LONGEST else None
        if entry is None:
            self._warnings.once(f"{what} cannot be read; ignored it")
            return None
        return Sight((entry.at if self._keys else wire.decode_number(at)) / 1e3, entry)


async def _all(connection: AbstractConnection, known: list[bytes]) -> tuple[float, dict[bytes, bytes]]:
    """Read as many lines as may count, with those of known Units among them, and nothing that is too long."""
    words: tuple[Word, ...] = (1, REGISTRY, _LONGEST, _LONGEST_NAME, MOST + 1, *known)
    seconds, micros, *lines = await scripts.run(connection, scripts.UNITS, *words)
    return int(seconds) + int(micros) / 1e6, pairs(lines)


def _entry(name: bytes, text: bytes) -> Entry | None:
    try:
        entry = msgspec.json.decode(text, type=Entry)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return entry if entry.unit.encode(errors="replace") == name and meaning.is_entry(entry) else None


async def _milliseconds(connection: AbstractConnection) -> int:
    seconds, micros = await call(connection, "TIME")
    return int(seconds) * 1000 + int(micros) // 1000


async def _write(connection: AbstractConnection, words: tuple[Word, ...]) -> int:
    return int(await scripts.run(connection, scripts.ANNOUNCE, 1, REGISTRY, *words))
