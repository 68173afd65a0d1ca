"""A Unit's records as read so far: answers carry only changes, which are merged here.

The invariant: records of one life of the membership table are never mixed with those of another. Call
``forget`` at every break.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct, field

from unitagent.core.model import Beat, Record, Reply
from unitagent.store import codec
from unitagent.store.codec import SignatureMatch, check_signature, name_record_place
from unitagent.store.protocol import UnitSnapshot
from unitagent.system.keyring import Keyring, SealKind
from unitagent.system.limits import MAX_UNIT_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from unitagent.store.scripts import ExchangeAnswer

T = TypeVar("T")
FIELDS = ("born", "generation", "failure", "order")  # of the table, besides those of its ranks
MOST_WARNINGS = 100  # so that garbage in the store cannot flood the log
HOUR = 3600.0  # seconds


class LimitedWarnings:
    """Passes on each warning once; after ``MOST_WARNINGS`` of them only their number, once an hour."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._warn = say
        self._clock = clock
        self._already_warned: set[str] = set()
        self._more = 0
        self._counted = 0.0  # since when

    def warn_once(self, text: str, about: str = "") -> None:
        """Warn, unless this, or another warning about the same thing, was given before."""
        about = about or text
        if about in self._already_warned:
            return
        if len(self._already_warned) < MOST_WARNINGS:
            self._already_warned.add(about)
            self._counted = self._clock()
            self._warn(text)
        else:
            self._count_suppressed(text)

    def _count_suppressed(self, text: str) -> None:
        self._more += 1
        passed = self._clock() - self._counted
        if passed >= HOUR:
            within = f"{passed / 60:.0f} minutes"
            self._warn(f"{self._more} more warnings about the store in {within}, the last one: {text}")
            self._more, self._counted = 0, self._clock()


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

    def forget(self) -> None:
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
