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

from unitagent.core.history import Moment
from unitagent.core.model import Beat, Failure, Order, Record
from unitagent.store.protocol import Output

MAX_SIZE = 1024  # instances in a Unit
MAX_EXACT = MAX_GENERATION = 2**53 - 1  # exact in a double, which is what the script computes with
MAX_PORT = 65535

Value = Record | Failure | Order | Output | Moment
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


def decode_record(raw: bytes, rank: int) -> Record | None:
    """Read the record that hangs in the place of ``rank``."""
    record = _decode(raw, Record)
    if record is None or record.rank != rank or not 0 <= record.rank < record.size <= MAX_SIZE:
        return None
    ports = (record.port, record.master_port)
    counts = (record.tenure, record.edition, record.order, *(charge.generation for charge in record.charges))
    fits = all(0 <= port <= MAX_PORT for port in ports) and all(0 <= count <= MAX_EXACT for count in counts)
    return record if record.incarnation and fits else None


def decode_failure(raw: bytes) -> Failure | None:
    """Read a failure, behind the generation that leads it."""
    return _decode(raw.partition(b" ")[2], Failure)


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
    return _decode(raw, Output)


def decode_moment(raw: bytes) -> Moment | None:
    """Read a moment of a Unit's history."""
    moment = _decode(raw, Moment)
    return moment if moment is not None and 0 <= moment.rank < MAX_SIZE else None


def decode_beat(raw: bytes) -> tuple[Beat, int] | None:
    """Read a beat, and when the server saw it: milliseconds since the epoch."""
    words = raw.split(b" ")
    if len(words) != 3 or not words[0]:  # noqa: PLR2004
        return None
    try:
        return Beat(words[0].decode(), int(words[1])), int(words[2])
    except ValueError:
        return None


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
