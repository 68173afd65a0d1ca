"""Reading the many lines of a hash again and again, when few of them have changed since the last time.

The invariant: whoever fills the hash has no more than a share of our time. What has not changed is not read
again, others have their turn while we read, and of more than ``MOST`` lines those that are new are left out.
"""

from __future__ import annotations

import asyncio
from itertools import chain, islice
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

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

    def forget(self) -> None:
        """Read each line again next time."""
        self._read.clear()

    async def read(self, lines: Mapping[bytes, bytes], read: Callable[[bytes, bytes], T]) -> list[T]:
        """Give what each line means, in no order."""
        found: dict[bytes, tuple[bytes, T]] = {}
        fresh = 0
        for name in self._choose_rows(lines):
            raw = lines[name]
            known = self._read.get(name)
            if known is None or known[0] != raw:
                known = raw, read(name, raw)
                fresh += 1
                if fresh % _ROWS_PER_TURN == 0:
                    await asyncio.sleep(0)
            found[name] = known
        self._read = found
        return [meaning for _, meaning in found.values()]

    def _choose_rows(self, lines: Mapping[bytes, bytes]) -> Iterable[bytes]:
        if len(lines) <= MAX_ROWS:
            return lines
        self._warn(f"the store lists more than {MAX_ROWS} Units; those that came last are left out")
        known = (name for name in self._read if name in lines)
        return islice(chain(known, (name for name in lines if name not in self._read)), MAX_ROWS)
