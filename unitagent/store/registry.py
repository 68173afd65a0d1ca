"""The registry of all Units in a store, with the endpoint of each: where its traffic goes. Rank 0 of a Unit
maintains its row.

The invariants: the registry is one key, apart from the Units' own, so a Cluster may keep it on another
server, and its failures never affect a Unit. Whoever fills it gets only a share of our time: rows that have
not changed are not decoded again, other tasks run between batches, and new rows beyond ``MAX_ROWS`` are
ignored.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from unitagent.store import codec, scripts
from unitagent.store.codec import SignatureMatch, check_signature, sign_value
from unitagent.store.connection import send_command
from unitagent.store.errors import LimitedWarnings
from unitagent.store.keys import REGISTRY
from unitagent.store.protocol import Endpoint, RegistryRecord, RegistrySnapshot
from unitagent.store.scripts import Argument, pair_up
from unitagent.store.store_connection import StoreConnection
from unitagent.system.keyring import Keyring, SealKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from redis.asyncio.connection import AbstractConnection

    from unitagent.store.address import LocationSource


_log = logging.getLogger(__name__)
_MAX_LINE, _MAX_NAME = 4096, 128  # bytes of a line and of its Unit's name worth reading


class Registry:
    """All Units of a store.

    Every method raises :class:`unitagent.errors.StoreError` as those of a ``Store`` do.

    Args:
        url: where the store is; a callable is asked at each connect, in a thread.
        timeout: seconds that any operation may take, connecting included.
        keys: that sign the lines; a reader without keys accepts unsigned lines.
        warn: called with a warning about garbage in the store, once for each.

    """

    def __init__(
        self,
        url: str | LocationSource,
        *,
        timeout: float,
        keys: Keyring | None = None,
        warn: Callable[[str], None] = _log.warning,
    ) -> None:
        self._connection = StoreConnection(url, REGISTRY, timeout)
        self._keys = keys if keys is not None else Keyring()
        self._edition = self._keys.edition  # that the lines were compared with
        self._warnings = LimitedWarnings(warn)
        self._ahead: float | None = None  # the server's clock, beside our monotonic one
        self._lines = RowCache[RegistryRecord | None](self._warnings.warn_once)

    @property
    def edition(self) -> int:
        """The edition of the keys that lines are signed with; another one after each change."""
        return self._keys.edition

    async def announce_endpoint(self, entry: Endpoint, *, first: bool = False, last: bool = False) -> None:
        """Publish an endpoint; the ``first`` time also remove rows that are older than a day. The ``last``
        time only overwrite a row of the same agent, and let any other replace it at once.
        """
        if self._ahead is None:
            self._set_clock(await self._connection.execute_operation(_read_server_clock))
        entry = replace(entry, at=int((time.monotonic() + (self._ahead or 0.0)) * 1000))
        text = sign_value(self._keys, SealKind.ENTRY, entry.unit, msgspec.json.encode(entry))
        lasts = 0 if last else int(entry.lease * 1000)
        words = (entry.unit, entry.incarnation, entry.generation, lasts, text, int(first))
        self._set_clock(
            await self._connection.execute_operation(lambda connection: _run_announce(connection, words))
        )

    def _set_clock(self, milliseconds: int) -> None:
        self._ahead = milliseconds / 1000 - time.monotonic()

    async def withdraw_endpoint(self, unit: str, incarnation: str) -> None:
        """Remove a Unit's row, unless another agent has written it."""
        words = (unit, incarnation, 0, 0, b"", 0)
        await self._connection.execute_operation(lambda connection: _run_announce(connection, words))

    async def read(self) -> RegistrySnapshot:
        """Read all lines, and what time it is there."""
        if self._edition != self._keys.edition:
            self._edition = self._keys.edition
            self._lines.forget_all()
        known = self._lines.names
        now, lines = await self._connection.execute_operation(
            lambda connection: _read_rows(connection, known)
        )
        read = await self._lines.read(lines, self._decode_row)
        registry = {record.entry.unit: record for record in read if record is not None}
        return RegistrySnapshot(now, registry, proven=bool(self._keys))

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    def _decode_row(self, name: bytes, raw: bytes) -> RegistryRecord | None:
        """Decode one row; a row that we did not write becomes None, with a warning."""
        at, *_, text = raw.split(b" ", 4) if raw.count(b" ") >= 4 else (b"", b"")  # noqa: PLR2004
        what = f"the store's line of Unit {name[:128].decode(errors='replace')!r}"
        if (
            check_signature(self._keys, SealKind.ENTRY, name.decode("latin-1"), text)
            is SignatureMatch.NOT_MINE
        ):
            self._warnings.warn_once(f"{what} is not signed with this UNIT_SECRET; ignored it")
            return None
        entry = _decode_endpoint(name, text) if len(raw) <= _MAX_LINE else None
        if entry is None:
            self._warnings.warn_once(f"{what} cannot be read; ignored it")
            return None
        return RegistryRecord((entry.at if self._keys else codec.decode_number(at)) / 1e3, entry)


async def _read_rows(connection: AbstractConnection, known: list[bytes]) -> tuple[float, dict[bytes, bytes]]:
    """Read at most ``MAX_ROWS`` lines and one more, the known Units' first, without oversized ones."""
    words: tuple[Argument, ...] = (1, REGISTRY, _MAX_LINE, _MAX_NAME, MAX_ROWS + 1, *known)
    seconds, micros, *lines = await scripts.run_script(connection, scripts.UNITS, *words)
    return int(seconds) + int(micros) / 1e6, pair_up(lines)


def _decode_endpoint(name: bytes, text: bytes) -> Endpoint | None:
    try:
        entry = msgspec.json.decode(text, type=Endpoint)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return entry if entry.unit.encode(errors="replace") == name and codec.is_valid_endpoint(entry) else None


async def _read_server_clock(connection: AbstractConnection) -> int:
    seconds, micros = await send_command(connection, "TIME")
    return int(seconds) * 1000 + int(micros) // 1000


async def _run_announce(connection: AbstractConnection, words: tuple[Argument, ...]) -> int:
    return int(await scripts.run_script(connection, scripts.ANNOUNCE, 1, REGISTRY, *words))


T = TypeVar("T")
MAX_ROWS = 10_000  # Units in one store
_ROWS_PER_TURN = 200  # lines read in one turn of the event loop


class RowCache(Generic[T]):
    """What was read the last time; ``warn`` says that some were left out."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._read: dict[bytes, tuple[bytes, T]] = {}

    @property
    def names(self) -> list[bytes]:
        """Whose lines were read the last time, and meant something."""
        return [name for name, (_, meaning) in self._read.items() if meaning is not None]

    def forget_all(self) -> None:
        """Read each line again next time."""
        self._read.clear()

    async def read(self, lines: Mapping[bytes, bytes], read: Callable[[bytes, bytes], T]) -> list[T]:
        """Return what each line means, in no order."""
        rows: dict[bytes, tuple[bytes, T]] = {}
        fresh = 0
        for name in self._choose_rows(lines):
            raw = lines[name]
            known = self._read.get(name)
            if known is None or known[0] != raw:
                known = raw, read(name, raw)
                fresh += 1
                if fresh % _ROWS_PER_TURN == 0:
                    await asyncio.sleep(0)
            rows[name] = known
        self._read = rows
        return [meaning for _, meaning in rows.values()]

    def _choose_rows(self, lines: Mapping[bytes, bytes]) -> Iterable[bytes]:
        if len(lines) <= MAX_ROWS:
            return lines
        self._warn(f"the store lists more than {MAX_ROWS} Units; those that came last are omitted")
        known = (name for name in self._read if name in lines)
        return islice(chain(known, (name for name in lines if name not in self._read)), MAX_ROWS)
