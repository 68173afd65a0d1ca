"""Records, failures, orders, outputs and moments as bytes: JSON, so that a person with ``redis-cli`` can
read them.

The invariant: what cannot be decoded to exactly our types, within their ranges, is None; nothing is guessed.
Unknown fields are ignored, so that agents of neighbouring versions understand each other.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TypeVar

import msgspec

from unitagent.core.history import HistoryEvent
from unitagent.core.model import Beat, Failure, Order, Record
from unitagent.store import meaning
from unitagent.store.meaning import MAX_EXACT, MAX_GENERATION, MAX_SIZE
from unitagent.store.protocol import Output

_DIGITS = len(str(MAX_EXACT))
_LONGEST_BEAT = 128 + 2 * (1 + _DIGITS)  # bytes

Value = Record | Failure | Order | Output | HistoryEvent
T = TypeVar("T", bound=Value)


def encode(value: Value) -> bytes:
    """Give the bytes of a value; text that is no Unicode (bytes of a strange hostname) becomes ``?``."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(asdict(value), ensure_ascii=False).encode(errors="replace")


def encode_failure(failure: Failure) -> bytes:
    """Give the bytes of a failure, led by its generation: all that the script has to understand of it."""
    return b"%d %s" % (failure.generation, encode(failure))


def decode_record(raw: bytes, rank: int, *, needs_port: bool = False) -> Record | str:
    """Read the record that hangs in the place of ``rank``; what is none gives the name of the field that is
    wrong, or nothing where there is no record at all.
    """
    record = _decode(raw, Record)
    if record is None:
        return ""
    if record.rank != rank:
        return "rank"
    return meaning.find_fault(record, needs_port=needs_port) or record


def decode_failure(raw: bytes) -> Failure | None:
    """Read a failure, behind the generation that leads it."""
    failure = _decode(raw.partition(b" ")[2], Failure)
    return failure if failure is not None and meaning.is_failure(failure) else None


def decode_order(raw: bytes) -> Order | None:
    """Read an operator's wish, behind the generation and the number that the store gave it."""
    generation, number, text = (*raw.split(b" ", 2), b"", b"")[:3]
    order = _decode(text, Order)
    if order is None or not _is_exact(generation) or not _is_exact(number):
        return None
    return replace(order, generation=int(generation), number=int(number))


def _is_exact(raw: bytes) -> bool:
    return raw.isdigit() and len(raw) <= len(str(MAX_EXACT)) and int(raw) <= MAX_EXACT


def decode_output(raw: bytes) -> Output | None:
    """Read the last lines of a workload."""
    output = _decode(raw, Output)
    return output if output is not None and 0 <= output.rank < MAX_SIZE else None


def decode_moment(raw: bytes) -> HistoryEvent | None:
    """Read a moment of a Unit's history."""
    moment = _decode(raw, HistoryEvent)
    return moment if moment is not None and meaning.is_moment(moment) else None


def decode_beat(raw: bytes) -> tuple[Beat, int] | None:
    """Read a beat, and when the server saw it: milliseconds since the epoch."""
    words = raw.split(b" ")
    if len(words) != 3 or len(raw) > _LONGEST_BEAT:  # noqa: PLR2004
        return None
    incarnation, count, at = words
    name = incarnation.decode("latin-1")
    numbers = count.isdigit() and at.isdigit() and len(count) <= _DIGITS and len(at) <= _DIGITS
    if not numbers or not (incarnation.isalnum() or meaning.is_id(name)):
        return None
    return Beat(name, int(count)), int(at)


def decode_number(raw: bytes) -> int:
    """Read a whole number as the script does; anything else is 0."""
    if not raw.isdigit() or len(raw) > len(str(MAX_GENERATION)):
        return 0
    return min(int(raw), MAX_GENERATION)


def _decode(raw: bytes, kind: type[T]) -> T | None:
    try:
        value = msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return value if 0 <= value.generation <= MAX_GENERATION else None
