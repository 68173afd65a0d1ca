"""Signatures of what hangs in the store: a last field of its JSON, over all the bytes before it and the
place that they hang in. So nobody without the Unit's secret speaks for a rank, and no value speaks in another
place.

The invariant: where I have a secret, what is not signed with it does not count. Without one nothing can be
told apart, and everything counts.

A signed value may be written again by somebody else after its writer has replaced it. That is a store that
was set back, which the protocol bears: a record names its incarnation, edition and gang, an entry its time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitagent.sealing import Kind, is_equal, seal
from unitagent.store import wire

if TYPE_CHECKING:
    from unitagent.core.model import Record

_DIGITS = 32  # hex, so 128 bits: a record is sent with every heartbeat, and half of a seal proves as much
_HEAD, _END = b',"signature":"', b'"}'
_LENGTH = len(_HEAD) + _DIGITS + len(_END)


def sign(secret: str | None, kind: Kind, place: str, raw: bytes) -> bytes:
    """Add the signature to the bytes of a JSON object; without a secret, nothing."""
    if not secret:
        return raw
    return raw[:-1] + _HEAD + _seal(secret, kind, place, raw).encode() + _END


def is_signed(secret: str | None, kind: Kind, place: str, raw: bytes) -> bool:
    """Whether this was signed with my secret, for this place; where I have none, always."""
    if not secret:
        return True
    whole, tail = raw[:-_LENGTH] + b"}", raw[-_LENGTH:]
    if not (tail.startswith(_HEAD) and tail.endswith(_END)):
        return False
    signature = tail[len(_HEAD) : -len(_END)].decode("latin-1")
    return is_equal(_seal(secret, kind, place, whole), signature)


def _seal(secret: str, kind: Kind, place: str, raw: bytes) -> str:
    return seal(secret, kind, place, raw)[:_DIGITS]


class Hand:
    """Writes an agent's records, signed; the last one is kept, since most exchanges put the same again."""

    def __init__(self, unit: str, secret: str | None) -> None:
        self._unit, self._secret = unit, secret
        self._last: tuple[Record, bytes] | None = None

    def write(self, record: Record) -> bytes:
        """Give the bytes of a record."""
        if self._last is None or self._last[0] != record:
            place = place_of(self._unit, record.rank)
            self._last = record, sign(self._secret, Kind.RECORD, place, wire.encode(record))
        return self._last[1]


def place_of(unit: str, rank: int) -> str:
    """The name of where a rank's record hangs."""
    return f"{unit} {rank}"
