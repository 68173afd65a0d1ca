"""The list of a Unit's spares in the store: one line for each instance that stands by, for people, and for
the order in which spares take ranks.

The invariant: no rank depends on it. It has a connection of its own, which is opened when there is something
to write or to read; it is bounded, and foreign data under its key is ignored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from unitagent.store import codec, scripts
from unitagent.store.keys import KeyNames
from unitagent.store.store_connection import StoreConnection
from unitagent.system.keyring import Keyring
from unitagent.system.limits import MAX_SPARES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from unitagent.core.spares import Standby
    from unitagent.store.address import LocationSource

_FRESH = 3600.0  # seconds; who only reads lets nobody's line expire before


class UnitSpares:
    """A :class:`~unitagent.store.protocol.SpareList` on a real server.

    Every method raises :class:`unitagent.errors.StoreError` as those of a ``Store`` do.

    Args:
        unit: name of the Unit.
        url: where the store is; a callable is asked at each connect, in a thread.
        size: of the Unit; the lowest number of a spare.
        timeout: seconds that any operation may take, connecting included.
        keys: that lines are signed with; without any they are taken as they are.

    """

    def __init__(
        self, unit: str, url: str | LocationSource, *, size: int, timeout: float, keys: Keyring | None = None
    ) -> None:
        self._unit, self._size = unit, size
        self._names = KeyNames(unit)
        self._keys = keys if keys is not None else Keyring()
        self._connection = StoreConnection(url, self._names.membership_table, timeout)

    async def put(self, mine: Standby, lease: float) -> tuple[Standby, ...]:
        """Write my line, unless another one has written there within ``lease`` seconds; return all lines."""
        line = codec.encode_standby(self._keys, self._unit, mine)
        return await self._run(mine.number, mine.incarnation, line, lease)

    async def remove(self, mine: Standby) -> None:
        """Remove my line."""
        await self._run(mine.number, mine.incarnation, b"", _FRESH)

    async def read(self) -> tuple[Standby, ...]:
        """Return all lines, by number."""
        return await self._run("", "", b"", _FRESH)

    async def close(self) -> None:
        """Close the connection; the list can be used again afterwards."""
        await self._connection.close()

    async def _run(
        self, number: int | str, incarnation: str, line: bytes, fresh: float
    ) -> tuple[Standby, ...]:
        words = (self._size, MAX_SPARES, number, incarnation, line, round(1000 * fresh))
        flat = await self._connection.execute_operation(
            lambda connection: scripts.run_script(connection, scripts.SPARES, 1, self._names.spares, *words)
        )
        return tuple(self._decode_lines(flat))

    def _decode_lines(self, flat: Sequence[bytes | int]) -> Iterator[Standby]:
        for number, age, line in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
            if isinstance(number, int) and isinstance(age, int) and isinstance(line, bytes):
                known = codec.decode_standby(self._keys, self._unit, number, line)
                if known is not None:
                    yield replace(known, age=age / 1000)
