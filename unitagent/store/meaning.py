"""What a value of the store may mean: an address that one can listen at, a port, a time that has been or may
come, text that a person can read. Whoever writes to the store may write anything.

The invariant: what passes here can stand in a command line, an environment, a balancer's file or a log, and
says nothing there but what it is.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unitagent.core.history import HistoryEvent
    from unitagent.core.model import Failure, Record
    from unitagent.store.protocol import Entry

MAX_SIZE = 1024  # instances in a Unit
MAX_EXACT = MAX_GENERATION = 2**53 - 1  # exact in a double, which is what the scripts compute with
MAX_PORT = 65535
MAX_LEASE = 31_536_000.0  # seconds; a year is the longest that a setting may say

_MAX_STATUS, _MAX_SIGNAL = 255, 64
_MAX_PID = 2**31 - 1
_LAST_DAY = 253_402_300_799.0  # seconds since the epoch: the end of the year 9999
_LONGEST_NAME, _LONGEST_TEXT = 255, 4096  # characters
_ADDRESS = re.compile(r"[0-9A-Fa-f:.]{2,45}")  # no zone: a card's name says nothing on another machine
_BROADCAST = "255.255.255.255"
_NAME = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,128}")  # of a Unit, and of a service
_WORD = re.compile(r"[!-+\--~]{1,128}")  # printable, without the comma that joins words
_WORDS = re.compile(r"[ -~]{0,12288}")


@functools.lru_cache(maxsize=2048)  # a rank's address does not change in its life
def is_address(text: str) -> bool:
    """Whether this is the literal of an IP address, without a zone, at which one machine may be reached."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    one = not (address.is_unspecified or address.is_multicast or str(address) == _BROADCAST)
    return one and _ADDRESS.fullmatch(text) is not None


def is_id(text: str) -> bool:
    """Whether this can be the random id of an agent's life."""
    return _WORD.fullmatch(text) is not None


def find_fault(record: Record, *, needs_port: bool) -> str:
    """Name the first field of a record that cannot be so; "" for none.

    Args:
        record: as it was decoded.
        needs_port: all agents of this Unit have a probe address, so one without is nobody's record.

    """
    fine = {
        "rank": record.rank >= 0,
        "size": record.rank < record.size <= MAX_SIZE,
        "incarnation": is_id(record.incarnation),
        "ip": is_address(record.ip),
        "port": (1 if needs_port else 0) <= record.port <= MAX_PORT,
        "master_port": 0 <= record.master_port <= MAX_PORT,
        "tenure": 0 <= record.tenure <= MAX_EXACT,
        "edition": 0 <= record.edition <= MAX_EXACT,
        "begun": 0 <= record.begun <= MAX_GENERATION,
        "order": 0 <= record.order <= MAX_EXACT,
        "restarts": 0 <= record.restarts <= MAX_EXACT,
        "netns": not record.netns or is_id(record.netns),
        "gang": not record.gang or is_id(record.gang),
        "hostname": _is_text(record.hostname, _LONGEST_NAME),
        "revision": _is_text(record.revision, _LONGEST_TEXT),
        "fingerprint": _WORDS.fullmatch(record.fingerprint) is not None,
        "lease": 0 <= record.lease <= MAX_LEASE,
        "pid": record.pid is None or 0 < record.pid <= _MAX_PID,
        "exit_code": record.exit_code is None or 0 <= record.exit_code <= _MAX_STATUS,
        "lost": all(0 <= rank < record.size for rank in record.lost),
        "charges": all(
            0 <= one.generation <= MAX_GENERATION and 0 <= one.at <= _LAST_DAY for one in record.charges
        ),
    }
    return next((name for name, good in fine.items() if not good), "")


def is_failure(failure: Failure) -> bool:
    """Whether a failure can have happened."""
    code, number = failure.exit_code, failure.signal
    return (
        0 <= failure.rank < MAX_SIZE
        and (not failure.ip or is_address(failure.ip))
        and (code is None or 0 <= code <= _MAX_STATUS)
        and (number is None or 0 < number <= _MAX_SIGNAL)
        and 0 <= failure.at <= _LAST_DAY
        and 0 <= failure.detect <= _LAST_DAY
        and 0 <= failure.stops <= MAX_SIZE
    )


def is_moment(moment: HistoryEvent) -> bool:
    """Whether a moment of the history can have been."""
    return 0 <= moment.rank < MAX_SIZE and 0 <= moment.at <= _LAST_DAY


def is_entry(entry: Entry) -> bool:
    """Whether traffic can be sent to where an entry says."""
    named = all(map(_NAME.fullmatch, (entry.unit, entry.service))) and is_id(entry.incarnation)
    ports = all(0 <= port <= MAX_PORT for port in (entry.port, entry.probe_port))
    counted = 0 <= entry.generation <= MAX_GENERATION and 0 < entry.lease <= MAX_LEASE
    texts = _is_text(entry.revision, _LONGEST_TEXT) and _is_text(entry.phase, _LONGEST_NAME)
    dated = 0 <= entry.at <= MAX_EXACT
    return bool(named) and ports and counted and texts and dated and is_address(entry.ip)


def _is_text(text: str, longest: int) -> bool:
    return len(text) <= longest and text.isprintable()
