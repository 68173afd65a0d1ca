"""Signatures of what hangs in the store: a last field of its JSON, over all the bytes before it and the
place that they hang in. So nobody without the Unit's secret speaks for a rank, and no value speaks in another
place. It has one signature for each secret of its writer, and counts by any that the reader knows, too.

The invariant: where I have a secret, what is not signed with it does not count. Without one nothing can be
told apart, and everything counts.

A signed value may be written again by somebody else after its writer has replaced it. That is a store that
was set back, which the protocol bears: a record names its incarnation, edition and gang, an entry its time.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from unitagent.sealing import SealKind, are_seals_equal, compute_seal
from unitagent.store import codec
from unitagent.system.keyring import MAX_SECRETS

if TYPE_CHECKING:
    from unitagent.core.model import Record
    from unitagent.system.keyring import Keyring

_SEAL_DIGITS = (
    32  # hex, so 128 bits: a record is sent with every heartbeat, and half of a seal proves as much
)
_SIGNATURE_HEAD, _SIGNATURE_END = b',"signature":"', b'"}'


class SignatureMatch(Enum):
    """Whose secrets a value is signed with."""

    NOT_MINE = "not mine"  # with none of mine, so that it does not count
    PARTLY = "partly"  # with some of mine, or with all of mine and others
    ALIKE = "alike"  # with all of mine and no other


def sign_value(keys: Keyring, kind: SealKind, place: str, raw: bytes) -> bytes:
    """Add the signatures to the bytes of a JSON object; without a secret, nothing."""
    if not keys:
        return raw
    return (
        raw[:-1] + _SIGNATURE_HEAD + "".join(_compute_seals(keys, kind, place, raw)).encode() + _SIGNATURE_END
    )


def check_signature(keys: Keyring, kind: SealKind, place: str, raw: bytes) -> SignatureMatch:
    """Tell whether this was signed with my secrets, for this place; where I have none, always."""
    if not keys:
        return SignatureMatch.ALIKE
    whole, head, tail = raw.rpartition(_SIGNATURE_HEAD)
    theirs = _split_signature(tail[: -len(_SIGNATURE_END)].decode("latin-1"))
    if not (head and tail.endswith(_SIGNATURE_END) and len(theirs) <= MAX_SECRETS):
        return SignatureMatch.NOT_MINE
    mine = _compute_seals(keys, kind, place, whole + b"}")
    known = [seal for seal in mine if any([are_seals_equal(seal, other) for other in theirs])]  # noqa: C419 (all)
    if not known:
        return SignatureMatch.NOT_MINE
    return SignatureMatch.ALIKE if len(known) == len(mine) == len(theirs) else SignatureMatch.PARTLY


def _compute_seals(keys: Keyring, kind: SealKind, place: str, raw: bytes) -> list[str]:
    return [compute_seal(key, kind, place, raw)[:_SEAL_DIGITS] for key in keys.signing]


def _split_signature(signature: str) -> list[str]:
    return [signature[begin : begin + _SEAL_DIGITS] for begin in range(0, len(signature), _SEAL_DIGITS)]


class RecordEncoder:
    """Writes an agent's records, signed; the last one is kept, since most exchanges put the same again."""

    def __init__(self, unit: str, keys: Keyring) -> None:
        self._unit, self._keys = unit, keys
        self._last: tuple[Record, int, bytes] | None = None

    def encode_record(self, record: Record) -> bytes:
        """Give the bytes of a record."""
        edition = self._keys.edition
        if self._last is None or self._last[:2] != (record, edition):
            place = name_record_place(self._unit, record.rank)
            self._last = (
                record,
                edition,
                sign_value(self._keys, SealKind.RECORD, place, codec.encode_value(record)),
            )
        return self._last[2]


def name_record_place(unit: str, rank: int) -> str:
    """The name of where a rank's record hangs."""
    return f"{unit} {rank}"
