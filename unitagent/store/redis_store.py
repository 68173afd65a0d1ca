"""The store on Redis or Valkey: what one exchange sends, and what its answer means. Answers carry only
changes, which are merged into what was read before (:class:`UnitView`).

The invariant: records of one life of the membership table are never mixed with those of another. Every break
of the connection is visible, and what was read before it is forgotten.

The least that a server must permit to the Unit NAME, as a line for its ACL::

    user unitagent-NAME on >PASSWORD ~unitagent:{NAME}:* ~unitagent:{registry}:units &unitagent:{NAME}:*
      +evalsha +eval +type +del +hget +hmget +hset +hsetnx +hdel +time +zadd +zscore +zrangebyscore +ttl
      +expire +publish +subscribe +ping +hgetall +get +set +xadd +xrange +xrevrange

with ``+select`` when the URL names a database other than 0 and ``+cluster|slots`` on a Cluster; of Sentinels
no more is asked than ``+ping +sentinel|get-master-addr-by-name``.
"""

from __future__ import annotations

import hashlib
import logging
import time
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct, field

from unitagent.core.model import Beat, Record, Reply
from unitagent.errors import StoreError
from unitagent.store import codec, scripts
from unitagent.store.codec import RecordEncoder, SignatureMatch, check_signature, name_record_place
from unitagent.store.connection import send_command
from unitagent.store.errors import LimitedWarnings
from unitagent.store.keys import DAY, KeyNames
from unitagent.store.protocol import UnitSnapshot, WorkloadOutput
from unitagent.store.store_connection import PushListener, StoreConnection
from unitagent.store.topology import Dialer
from unitagent.system.keyring import Keyring, SealKind
from unitagent.system.limits import MAX_UNIT_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from redis.asyncio.connection import AbstractConnection

    from unitagent.core.actions import Exchange
    from unitagent.core.model import Order
    from unitagent.store.address import LocationSource
    from unitagent.store.scripts import ExchangeAnswer


_log = logging.getLogger(__name__)
_LATE = 2  # times ``refresh``: all is read again where something changed at every comparison
LAST_LINES = 20
LONGEST_LINE = 400  # characters; the end of a line says more than its beginning


class RedisStore:
    """A :class:`~unitagent.store.protocol.Store` on a real server.

    Args:
        unit: name of the Unit.
        url: where the server is; a callable is asked at each connect, in a thread.
        timeout: seconds that any operation may take, connecting included.
        rank: the rank to claim; None only looks until ``set_rank``.
        incarnation: of this agent; empty for an operator, who only reads and orders.
        keys: that records are signed with; without any they are taken as they are.
        needs_port: the reader has a probe address, so a record without one is ignored.
        size: of the Unit, whose records are read; of ranks beyond it only a few that tell of another size.
        refresh: seconds after which what was read is compared with the store by a digest, and read again
            if it differs.
        warn: called with a warning about garbage in the store, once for each.
        remedy: what a person can do when the server is not reached.

    Raises:
        ConfigurationError: ``url`` is a string and no URL of a store.

    """

    def __init__(
        self,
        unit: str,
        url: str | LocationSource,
        *,
        timeout: float,
        rank: int | None = None,
        incarnation: str = "",
        keys: Keyring | None = None,
        needs_port: bool = False,
        size: int = MAX_UNIT_SIZE,
        refresh: float = 5.0,
        warn: Callable[[str], None] = _log.warning,
        remedy: str = "",
    ) -> None:
        self._names = KeyNames(unit)
        self._timeout = timeout
        self._rank, self._size = rank, size
        self._incarnation = incarnation
        self._refresh = refresh
        self._warnings = LimitedWarnings(warn)
        self._keys = keys if keys is not None else Keyring()
        self._reader = RecordReader(unit, self._keys, needs_port)
        self._encoder = RecordEncoder(unit, self._keys)
        self._view = UnitView(self._warnings, self._reader)
        self._count = 0
        self._compared = 0.0  # when what was read was last certain to be what the store has
        self._connection = StoreConnection(
            url, self._names.membership_table, timeout, self._view.forget_all, remedy
        )
        self._push_dialer = Dialer(url, self._names.membership_table)

    def set_rank(self, rank: int) -> None:
        """Set the rank that this agent claims; until then an exchange only reads."""
        self._rank = rank

    @property
    def differing_ranks(self) -> frozenset[int] | None:
        """The ranks whose records are not signed with exactly my secrets; None until that was read again."""
        return None if self._view.outdated else frozenset(self._view.unlike)

    @property
    def unverified_ranks(self) -> frozenset[int]:
        """The ranks whose records are signed with none of my secrets, as far as that was read."""
        return frozenset() if self._view.outdated else frozenset(self._view.foreign)

    async def exchange(self, request: Exchange) -> Reply:
        """Put my record and read everybody's, atomically."""
        now = time.monotonic()
        if self._view.outdated or now - self._compared >= _LATE * self._refresh:
            self._view.forget_all()
        compares = now - self._compared >= self._refresh
        answer = await self._connection.execute_operation(
            lambda connection: self._run_exchange(connection, request, compares=compares)
        )
        unchanged = compares and not answer.records  # if something is new, nothing was compared
        if answer.since == 0 or unchanged:
            self._compared = now
        return self._view.merge_answer(answer)

    async def listen(self, on_push: Callable[[], None]) -> None:
        """Call ``on_push`` at each wake-up by another agent, until cancelled."""
        channel = self._names.wakeup_channel
        listener = PushListener(self._push_dialer, channel, self._incarnation, self._timeout, self._warnings)
        await listener.listen(on_push)

    async def read(self) -> UnitSnapshot:
        """Read the whole Unit and change nothing."""
        return await self._connection.execute_operation(self._read_snapshot)

    async def put_order(self, order: Order) -> Order:
        """Store an operator's order and wake all agents; returns it with its generation and number."""
        words = scripts.build_order_arguments(self._names, order)
        answer = scripts.ExchangeAnswer.parse_raw(
            await self._connection.execute_operation(
                lambda connection: scripts.run_script(connection, scripts.EXCHANGE, *words)
            )
        )
        kept = codec.decode_order(answer.order)
        if kept is None:
            raise StoreError("the store did not keep the order: another client writes to this Unit's keys")
        return kept

    async def put_output(self, generation: int, rank: int, lines: Sequence[str]) -> None:
        """Keep what the workload last wrote; for the rank whose failure is the one kept."""
        last = tuple(line[-LONGEST_LINE:] for line in lines[-LAST_LINES:])
        text = codec.encode_value(WorkloadOutput(generation=generation, rank=rank, lines=last))
        key = self._names.name_output(generation)
        await self._connection.execute_operation(
            lambda connection: send_command(connection, "SET", key, text, "EX", DAY)
        )

    async def read_output(self, generation: int) -> WorkloadOutput | None:
        """Return what was kept of a generation; None when nothing was, or newer ones have replaced it."""
        return await self._connection.execute_operation(
            lambda connection: self._read_output(connection, generation)
        )

    async def close(self) -> None:
        """Close the connection; the store can be used again afterwards."""
        await self._connection.close()

    async def _run_exchange(
        self, connection: AbstractConnection, request: Exchange, *, compares: bool
    ) -> scripts.ExchangeAnswer:
        self._count += 1
        call = scripts.ExchangeCall(
            rank=self._rank,
            incarnation=self._incarnation,
            count=self._count,
            since=self._view.since,
            epoch=self._view.epoch,
            size=self._size,
            digest=self._view.compute_digest(self._size) if compares and self._view.since else b"",
            record=b"" if request.record is None else self._encoder.encode_record(request.record),
        )
        return scripts.ExchangeAnswer.parse_raw(
            await scripts.run_script(
                connection, scripts.EXCHANGE, *call.build_arguments(self._names, request)
            )
        )

    async def _read_snapshot(self, connection: AbstractConnection) -> UnitSnapshot:
        own = (2, self._names.membership_table, self._names.changes)
        seconds, micros, *table = await scripts.run_script(connection, scripts.BOARD, *own, *FIELDS)
        now = int(seconds) * 1_000_000 + int(micros)
        return UnitView(self._warnings, self._reader).build_snapshot(scripts.pair_up(table), now)

    async def _read_output(self, connection: AbstractConnection, generation: int) -> WorkloadOutput | None:
        raw = await send_command(connection, "GET", self._names.name_output(generation))
        output = None if raw is None else codec.decode_output(raw)
        return output if output is not None and output.generation == generation else None


T = TypeVar("T")
FIELDS = ("born", "generation", "failure", "order")  # of the table, besides those of its ranks


class RecordReader(Struct, frozen=True):
    """Who reads a Unit's records, and what it asks of them.

    Attributes:
        keys: that they are signed with; an empty ring takes them as they are.
        needs_port: the reader has a probe address, so a record without one does not belong to this Unit.

    """

    unit: str
    keys: Keyring = field(default_factory=Keyring)
    needs_port: bool = False


class UnitView:
    """The merged records, and up to which version they are known.

    Attributes:
        unlike: ranks whose records are not signed with exactly my secrets, but with others as well, with
            fewer, or with none of mine.
        foreign: those of them whose records are signed with none of mine.

    """

    def __init__(self, warnings: LimitedWarnings, reader: RecordReader) -> None:
        self._warnings = warnings
        self._reader = reader
        self._records: dict[int, Record] = {}
        self.foreign: set[int] = set()
        self._raws: dict[int, bytes] = {}
        self._last_decoded: dict[int, tuple[bytes, Record]] = {}  # most are read again as they were
        self._edition = reader.keys.edition  # of the keys that these were compared with
        self.unlike: set[int] = set()
        self.epoch = b""
        self.since = 0
        self._newest: int | None = None

    @property
    def outdated(self) -> bool:
        """Whether other secrets are accepted now than when this was read."""
        return self._edition != self._reader.keys.edition

    def compute_digest(self, size: int) -> bytes:
        """Digest all records of a Unit of this size as they were read, to compare them with the board's."""
        raws = (self._raws.get(rank, b"") for rank in range(size))
        return hashlib.sha1(b"\n".join(raws), usedforsecurity=False).hexdigest().encode()

    def forget_all(self) -> None:
        """Read everything again next time."""
        self.epoch, self.since = b"", 0

    def merge_answer(self, answer: ExchangeAnswer) -> Reply:
        """Merge one answer and return the whole."""
        for key in answer.broken:
            kind, _, name = key.decode(errors="replace").partition(" ")
            self._warnings.warn_once(f"the store held a {kind} under our key {name}; removed it")
        records = _group_by_rank(answer.records)
        if answer.since == 0:
            self._reset_records(records.keys())
        self._raws.update(records)
        for rank, raw in records.items():
            self._put_record(rank, raw)
        self.epoch, self.since = answer.epoch, answer.version
        self._newest = next(reversed(records), self._newest)  # they come in the order of their versions
        return Reply(
            holder=answer.holder.decode(errors="replace"),
            generation=answer.generation,
            records=dict(self._records),
            unverified_ranks=frozenset(self.foreign),
            newest=self._newest,
            beats={
                rank: Beat(beat.incarnation, beat.count, max(0.0, answer.now / 1e6 - at / 1e3))
                for rank, (beat, at) in self._decode_beats(_group_by_rank(answer.beats)).items()
            },
            failure=self._decode_or_warn("failure", answer.failure, codec.decode_failure),
            order=self._decode_or_warn("order", answer.order, codec.decode_order),
            unit_age=answer.age,
            now=answer.now // 1000,
        )

    def _reset_records(self, ranks: Collection[int]) -> None:
        """All records come; what was read before is believed again only if the same secrets are accepted."""
        self._newest = None
        self._raws.clear()
        self._records.clear()
        self.foreign.clear()
        self.unlike.intersection_update(ranks)
        if self.outdated:
            self._edition = self._reader.keys.edition
            self._last_decoded.clear()
            self.unlike.clear()

    def build_snapshot(self, table: Mapping[bytes, bytes], now: int) -> UnitSnapshot:
        """Read a whole board as an operator does; ``now`` in microseconds of the server's clock."""
        for rank, raw in _group_by_rank(table, b"r").items():
            self._put_record(rank, raw)
        beats = self._decode_beats(_group_by_rank(table, b"b"))
        born = table.get(b"born", b"").partition(b" ")[0]
        return UnitSnapshot(
            now=now / 1e6,
            generation=codec.decode_number(table.get(b"generation", b"")),
            records=self._records,
            ages={rank: max(0.0, now / 1e6 - at / 1e3) for rank, (_, at) in beats.items()},
            failure=self._decode_or_warn("failure", table.get(b"failure", b""), codec.decode_failure),
            order=self._decode_or_warn("order", table.get(b"order", b""), codec.decode_order),
            age=max(0.0, (now - codec.decode_number(born)) / 1e6) if born else None,
            unlike=frozenset(self.unlike),
            foreign=frozenset(self.foreign),
        )

    def _put_record(self, rank: int, raw: bytes) -> None:
        """Merge one record; garbage, or a record of a stranger, counts as none."""
        known = self._last_decoded.get(rank)
        if known is None or known[0] != raw:
            self._records.pop(rank, None)
            self._last_decoded.pop(rank, None)
            self.foreign.discard(rank)
            self.unlike.discard(rank)
            if raw:
                self._decode_record(rank, raw)
        else:
            self._records[rank] = known[1]

    def _decode_record(self, rank: int, raw: bytes) -> None:
        what = f"the record of rank {rank} in the store"
        mine = self._reader
        by = check_signature(mine.keys, SealKind.RECORD, name_record_place(mine.unit, rank), raw)
        if by is not SignatureMatch.ALIKE:
            self.unlike.add(rank)
        if by is SignatureMatch.NOT_MINE:
            self.foreign.add(rank)
            self._warnings.warn_once(f"{what} is not signed with this UNIT_SECRET; ignored it")
            return
        read = codec.decode_record(raw, rank, needs_port=mine.needs_port)
        if isinstance(read, Record):
            self._records[rank] = read
            self._last_decoded[rank] = raw, read
        elif read:
            self._warnings.warn_once(f"{what} has no possible {read}; ignored it", about=f"{rank} {read}")
        else:
            self._warnings.warn_once(f"{what} cannot be read; ignored it")

    def _decode_beats(self, raw: Mapping[int, bytes]) -> dict[int, tuple[Beat, int]]:
        read = ((rank, codec.decode_beat(beat)) for rank, beat in raw.items())
        return {rank: beat for rank, beat in read if beat is not None}

    def _decode_or_warn(self, what: str, raw: bytes, decode: Callable[[bytes], T | None]) -> T | None:
        if not raw:
            return None
        value = decode(raw)
        if value is None:
            self._warnings.warn_once(f"the {what} in the store cannot be read; ignored it")
        return value


def _group_by_rank(fields: Mapping[bytes, bytes], prefix: bytes = b"") -> dict[int, bytes]:
    """Return what belongs to ranks, without names that this program never writes."""
    groups = {}
    for name, raw in fields.items():
        rank = codec.decode_number(name.removeprefix(prefix))
        if name == b"%s%d" % (prefix, rank) and rank < MAX_UNIT_SIZE:
            groups[rank] = raw
    return groups
