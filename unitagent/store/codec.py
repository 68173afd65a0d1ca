"""Every value in the store as bytes: encoding, decoding, validation and signatures.

Values are JSON, so that a person can read them with ``redis-cli``. The invariant: whatever cannot be
decoded to exactly our types, within their ranges, becomes None; nothing is guessed. Anybody who can write
to the store may have written anything, so a value that passes can safely stand in a command line, an
environment, a balancer's file or a log. Unknown fields are ignored, so that agents of neighbouring versions
understand each other.

A signature is the last field of the JSON object. It covers all bytes before it and the value's place in the
store, so only a holder of the Unit's secret can speak for a rank, and no value can be copied to another
place. A value carries one signature for each secret of its writer and counts if the reader knows any of
them. A reader with a secret ignores values that are not signed with it; a reader without one cannot tell
values apart and accepts all.

An old signed value can be written back after its writer replaced it. That equals a store that was set back,
which the protocol tolerates: a record names its incarnation, edition and gang, an endpoint its time.
"""

from __future__ import annotations

import functools
import ipaddress
import json
import re
from enum import Enum
from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from unitagent.core.history import HistoryEvent
from unitagent.core.model import Beat, Failure, Order, Record, RestartPause
from unitagent.core.restart_pause import LONGEST_PAUSE
from unitagent.core.spares import Standby
from unitagent.store.protocol import WorkloadOutput
from unitagent.system.keyring import MAX_SECRETS, SealKind, are_seals_equal, compute_seal
from unitagent.system.limits import MAX_PORT, MAX_SECONDS, MAX_UNIT_SIZE, NAME_PATTERN

if TYPE_CHECKING:
    from unitagent.store.protocol import Endpoint
    from unitagent.system.keyring import Keyring


MAX_EXACT = MAX_GENERATION = 2**53 - 1  # exact in a double, which is what the scripts compute with
_DIGITS = len(str(MAX_EXACT))
_LONGEST_BEAT = 128 + 2 * (1 + _DIGITS)  # bytes

Value = Record | Failure | Order | WorkloadOutput | HistoryEvent
T = TypeVar("T", bound=Value)


def encode_value(value: Value) -> bytes:
    """Encode a value; text that is not Unicode (bytes of a strange hostname) becomes ``?``."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(value), ensure_ascii=False).encode(errors="replace")


def encode_failure(failure: Failure) -> bytes:
    """Encode a failure behind its generation, the only part that the script reads."""
    return b"%d %s" % (failure.generation, encode_value(failure))


def decode_record(raw: bytes, rank: int, *, needs_port: bool = False) -> Record | str:
    """Decode the record stored for ``rank``. Return the name of the first invalid field of a malformed one,
    and an empty string if there is no record at all.
    """
    record = _decode_json(raw, Record)
    if record is None:
        return ""
    if record.rank != rank:
        return "rank"
    return find_invalid_field(record, needs_port=needs_port) or record


def decode_failure(raw: bytes) -> Failure | None:
    """Read a failure, behind the generation that leads it."""
    failure = _decode_json(raw.partition(b" ")[2], Failure)
    return failure if failure is not None and is_valid_failure(failure) else None


def decode_order(raw: bytes) -> Order | None:
    """Read an operator's order, behind the generation and the number that the store gave it."""
    generation, number, text = (*raw.split(b" ", 2), b"", b"")[:3]
    order = _decode_json(text, Order)
    if order is None or not _is_exact(generation) or not _is_exact(number):
        return None
    if not 0 <= order.seconds <= LONGEST_PAUSE:
        return None
    return replace(order, generation=int(generation), number=int(number))


def _is_exact(raw: bytes) -> bool:
    return raw.isdigit() and len(raw) <= len(str(MAX_EXACT)) and int(raw) <= MAX_EXACT


def decode_output(raw: bytes) -> WorkloadOutput | None:
    """Read the last lines of a workload."""
    output = _decode_json(raw, WorkloadOutput)
    return output if output is not None and 0 <= output.rank < MAX_UNIT_SIZE else None


def decode_event(raw: bytes) -> HistoryEvent | None:
    """Read an event of a Unit's history."""
    event = _decode_json(raw, HistoryEvent)
    return event if event is not None and is_valid_event(event) else None


def decode_beat(raw: bytes) -> tuple[Beat, int] | None:
    """Read a beat, and when the server saw it: milliseconds since the epoch."""
    words = raw.split(b" ")
    if len(words) != 3 or len(raw) > _LONGEST_BEAT:  # noqa: PLR2004
        return None
    incarnation, count, at = words
    name = incarnation.decode("latin-1")
    numbers = count.isdigit() and at.isdigit() and len(count) <= _DIGITS and len(at) <= _DIGITS
    if not numbers or not (incarnation.isalnum() or is_valid_id(name)):
        return None
    return Beat(name, int(count)), int(at)


def encode_standby(keys: Keyring, unit: str, standby: Standby) -> bytes:
    """Encode and sign a spare's line."""
    raw = msgspec.json.encode(standby)
    return sign_value(keys, SealKind.STANDBY, name_record_place(unit, standby.number), raw)


def decode_standby(keys: Keyring, unit: str, number: int, raw: bytes) -> Standby | None:
    """Read the line of the spare with this number; None for garbage, and for a stranger's."""
    place = name_record_place(unit, number)
    if check_signature(keys, SealKind.STANDBY, place, raw) is SignatureMatch.NOT_MINE:
        return None
    try:
        standby = msgspec.json.decode(raw, type=Standby)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return standby if standby.number == number and is_valid_standby(standby) else None


def is_valid_standby(standby: Standby) -> bool:
    """Whether this can be a spare."""
    return (
        is_valid_id(standby.incarnation)
        and is_valid_ip(standby.ip)
        and 0 <= standby.port <= MAX_PORT
        and _is_text(standby.hostname, _LONGEST_NAME)
        and 0 <= standby.since <= _LAST_DAY
    )


def decode_number(raw: bytes) -> int:
    """Read a whole number as the script does; anything else is 0."""
    if not raw.isdigit() or len(raw) > len(str(MAX_GENERATION)):
        return 0
    return min(int(raw), MAX_GENERATION)


def _decode_json(raw: bytes, kind: type[T]) -> T | None:
    try:
        value = msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return value if 0 <= value.generation <= MAX_GENERATION else None


_MAX_STATUS, _MAX_SIGNAL = 255, 64
_MAX_PID = 2**31 - 1
_LAST_DAY = 253_402_300_799.0  # seconds since the epoch: the end of the year 9999
_LONGEST_NAME, _LONGEST_TEXT = 255, 4096  # characters
_ADDRESS = re.compile(r"[0-9A-Fa-f:.]{2,45}")  # no zone: an interface's name means nothing on another machine
_BROADCAST = "255.255.255.255"
_WORD = re.compile(r"[!-+\--~]{1,128}")  # printable, without the comma that joins words
_WORDS = re.compile(r"[ -~]{0,12288}")


@functools.lru_cache(maxsize=2048)  # a rank's address does not change in its life
def is_valid_ip(text: str) -> bool:
    """Whether this is the literal of an IP address, without a zone, at which one machine may be reached."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    one = not (address.is_unspecified or address.is_multicast or str(address) == _BROADCAST)
    return one and _ADDRESS.fullmatch(text) is not None


def is_valid_id(text: str) -> bool:
    """Whether this can be the random id of an agent's life."""
    return _WORD.fullmatch(text) is not None


def find_invalid_field(record: Record, *, needs_port: bool) -> str:
    """Name the first field of a record that has an impossible value; "" for none.

    Args:
        record: as it was decoded.
        needs_port: all agents of this Unit have a probe address, so a record without one is invalid.

    """
    fine = {
        "rank": record.rank >= 0,
        "size": record.rank < record.size <= MAX_UNIT_SIZE,
        "incarnation": is_valid_id(record.incarnation),
        "ip": is_valid_ip(record.ip),
        "port": (1 if needs_port else 0) <= record.port <= MAX_PORT,
        "master_port": 0 <= record.master_port <= MAX_PORT,
        "next_port": 0 <= record.next_port <= MAX_PORT,
        "tenure": 0 <= record.tenure <= MAX_EXACT,
        "edition": 0 <= record.edition <= MAX_EXACT,
        "begun": 0 <= record.predecessor_generation <= MAX_GENERATION,
        "order": 0 <= record.order <= MAX_EXACT,
        "pause": record.pause is None or _is_valid_pause(record.pause),
        "restarts": 0 <= record.restarts <= MAX_EXACT,
        "netns": not record.netns or is_valid_id(record.netns),
        "gang": not record.gang or is_valid_id(record.gang),
        "keeper": record.keeper is UNSET or not record.keeper.gang or is_valid_id(record.keeper.gang),
        "hostname": _is_text(record.hostname, _LONGEST_NAME),
        "revision": _is_text(record.revision, _LONGEST_TEXT),
        "fingerprint": _WORDS.fullmatch(record.fingerprint) is not None,
        "lease": 0 <= record.lease <= MAX_SECONDS,
        "pid": record.pid is None or 0 < record.pid <= _MAX_PID,
        "exit_code": record.exit_code is None or 0 <= record.exit_code <= _MAX_STATUS,
        "trouble": _is_text(record.failed_check, _LONGEST_TEXT),
        "trouble_at": 0 <= record.failed_check_since <= _LAST_DAY,
        "lost": all(0 <= rank < record.size for rank in record.lost),
        "charges": all(
            0 <= one.generation <= MAX_GENERATION and 0 <= one.at <= _LAST_DAY for one in record.charges
        ),
    }
    return next((name for name, good in fine.items() if not good), "")


def _is_valid_pause(pause: RestartPause) -> bool:
    texts = _is_text(pause.by, _LONGEST_NAME) and _is_text(pause.reason, _LONGEST_NAME)
    return texts and 0 <= pause.number <= MAX_EXACT and 0 <= pause.seconds <= LONGEST_PAUSE


def is_valid_failure(failure: Failure) -> bool:
    """Whether a failure can have happened."""
    code, number = failure.exit_code, failure.signal
    return (
        0 <= failure.rank < MAX_UNIT_SIZE
        and (not failure.ip or is_valid_ip(failure.ip))
        and (code is None or 0 <= code <= _MAX_STATUS)
        and (number is None or 0 < number <= _MAX_SIGNAL)
        and 0 <= failure.at <= _LAST_DAY
        and 0 <= failure.detect <= _LAST_DAY
        and 0 <= failure.stops <= MAX_UNIT_SIZE
        and (failure.earlier is None or _is_valid_earlier(failure.earlier))
    )


def _is_valid_earlier(failure: Failure) -> bool:
    return failure.earlier is None and 0 <= failure.generation <= MAX_GENERATION and is_valid_failure(failure)


def is_valid_event(event: HistoryEvent) -> bool:
    """Whether an event of the history can have been."""
    return 0 <= event.rank < MAX_UNIT_SIZE and 0 <= event.at <= _LAST_DAY


def is_valid_endpoint(entry: Endpoint) -> bool:
    """Whether traffic can be sent to where an entry says."""
    named = all(map(NAME_PATTERN.fullmatch, (entry.unit, entry.service))) and is_valid_id(entry.incarnation)
    ports = all(0 <= port <= MAX_PORT for port in (entry.port, entry.probe_port))
    counted = 0 <= entry.generation <= MAX_GENERATION and 0 < entry.lease <= MAX_SECONDS
    texts = _is_text(entry.revision, _LONGEST_TEXT) and _is_text(entry.phase, _LONGEST_NAME)
    dated = 0 <= entry.at <= MAX_EXACT
    return bool(named) and ports and counted and texts and dated and is_valid_ip(entry.ip)


def _is_text(text: str, longest: int) -> bool:
    return len(text) <= longest and text.isprintable()


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
    """Compare the signatures of a value with my secrets and its place; without secrets all match."""
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
    """Encodes and signs an agent's records; the last result is kept, since most exchanges repeat it."""

    def __init__(self, unit: str, keys: Keyring) -> None:
        self._unit, self._keys = unit, keys
        self._last: tuple[Record, int, bytes] | None = None

    def encode_record(self, record: Record) -> bytes:
        """Encode a record."""
        edition = self._keys.edition
        if self._last is None or self._last[:2] != (record, edition):
            place = name_record_place(self._unit, record.rank)
            self._last = (
                record,
                edition,
                sign_value(self._keys, SealKind.RECORD, place, encode_value(record)),
            )
        return self._last[2]


def name_record_place(unit: str, rank: int) -> str:
    """Name the place of a rank's record, for its signature."""
    return f"{unit} {rank}"
