"""What each rank collected about a failed generation, stored for people to read; one entry per rank.

The invariant: no decision of an agent depends on it. It has a connection of its own, which is opened when
there is something to write or to read, and foreign data under its keys is ignored. A failure keeps its
generation, rank and reason when it is explained; only its words grow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from unitagent.store import codec, scripts
from unitagent.store.connection import send_command
from unitagent.store.keys import KEPT_EVIDENCE, KeyNames
from unitagent.store.store_connection import StoreConnection
from unitagent.system.limits import MAX_UNIT_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from unitagent.store.address import LocationSource

LONGEST_ENTRY = 8192  # bytes
_LONGEST_DETAIL = 1000  # characters
_TRIES = 3  # of an explanation, while somebody else explains the same failure

Entries = dict[int, bytes]  # by rank


class EvidenceIndex:
    """The entries of one Unit.

    Every method raises :class:`unitagent.errors.StoreError` as those of a ``Store`` do.

    Args:
        unit: name of the Unit.
        url: where the store is; a callable is asked at each connect, in a thread.
        timeout: seconds that any operation may take, connecting included.

    """

    def __init__(self, unit: str, url: str | LocationSource, *, timeout: float) -> None:
        self._names = KeyNames(unit)
        self._connection = StoreConnection(url, self._names.membership_table, timeout)

    async def put_entry(self, generation: int, rank: int, entry: bytes) -> int:
        """Store what a rank has collected, and return how many ranks have; an entry longer than
        ``LONGEST_ENTRY`` is never read.
        """
        return await self._run_script(generation, rank, entry)

    async def count_entries(self, generation: int) -> int:
        """Return how many ranks have stored an entry."""
        return await self._run_script(generation, b"", b"")  # without an entry the script only counts

    async def read_entries(self, generation: int) -> Entries:
        """Return the entries of a generation by rank."""
        found, entries = await self._read_key(self._names.name_evidence(generation))
        return entries if found == generation else {}

    async def read_all(self) -> dict[int, Entries]:
        """Return the entries of all generations that are kept, by generation and rank."""
        slots = [await self._read_key(self._names.name_evidence(slot)) for slot in range(KEPT_EVIDENCE)]
        return {generation: entries for generation, entries in sorted(slots) if entries}

    async def explain_failure(self, generation: int, clause: str) -> bool:
        """Add a clause to the failure of this generation; return whether the store keeps it now.

        It does not if the failure of a later generation has taken its place.
        """
        for _ in range(_TRIES):
            raw = await self._connection.execute_operation(
                lambda connection: send_command(connection, "HGET", self._names.membership_table, "failure")
            )
            failure = codec.decode_failure(raw or b"")
            if failure is None or failure.generation != generation:
                return False
            if clause in failure.detail:
                return True
            longer = replace(failure, detail=f"{failure.detail}{clause}"[:_LONGEST_DETAIL])
            if await self._replace_failure(raw, codec.encode_failure(longer)):
                return True
        return False

    async def _replace_failure(self, raw: bytes, longer: bytes) -> bool:
        return bool(
            await self._connection.execute_operation(
                lambda connection: scripts.run_script(
                    connection, scripts.EXPLAIN, 1, self._names.membership_table, raw, longer
                )
            )
        )

    async def close(self) -> None:
        """Close the connection; the index can be used again afterwards."""
        await self._connection.close()

    async def _run_script(self, generation: int, rank: int | bytes, entry: bytes) -> int:
        key = self._names.name_evidence(generation)
        return int(
            await self._connection.execute_operation(
                lambda connection: scripts.run_script(
                    connection, scripts.EVIDENCE, 1, key, generation, rank, entry
                )
            )
        )

    async def _read_key(self, key: str) -> tuple[int, Entries]:
        flat = await self._connection.execute_operation(
            lambda connection: send_command(connection, "HGETALL", key)
        )
        fields = scripts.pair_up(list(flat))
        return codec.decode_number(fields.get(b"generation", b"")), dict(_select_entries(fields))


def _select_entries(fields: Mapping[bytes, bytes]) -> Iterator[tuple[int, bytes]]:
    for name, entry in fields.items():
        rank = codec.decode_number(name)
        if name == b"%d" % rank and rank < MAX_UNIT_SIZE and len(entry) <= LONGEST_ENTRY:
            yield rank, entry
