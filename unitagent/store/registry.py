"""The list of all Units of a store, and where the traffic of each one goes. Rank 0 keeps its own line in it.

The invariant: it is written and read in one key of its own, beside the boards of the Units, so a Cluster may
keep it on another server than any of them, and its troubles are none of a Unit's.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from redis.exceptions import NoScriptError

from unitagent.store import wire
from unitagent.store.connection import call
from unitagent.store.keys import REGISTRY
from unitagent.store.line import Line
from unitagent.store.lines import Lines
from unitagent.store.protocol import Entry, Sight, Sights
from unitagent.store.script import Word, pairs
from unitagent.store.view import Warnings

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio.connection import AbstractConnection

_log = logging.getLogger(__name__)
_SOURCE = Path(__file__).with_name("announce.lua").read_bytes()
_SHA = hashlib.sha1(_SOURCE, usedforsecurity=False).hexdigest()
_LONGEST = 4096  # bytes of an entry worth reading
# What balancers' configuration is made of must be unable to say anything else there. No address has a zone.
_NAME = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,128}")
_ADDRESS = re.compile(r"[0-9A-Fa-f:.]+")


class Registry:
    """All Units of a store.

    Every method raises :class:`unitagent.errors.StoreError` as those of a ``Store`` do.

    Args:
        url: where the store is; a callable is asked at each connect, in a thread.
        timeout: seconds that any operation may take, connecting included.
        warn: says a sentence about garbage in the store; each is said once.

    """

    def __init__(
        self,
        url: str | Callable[[], str],
        *,
        timeout: float,
        warn: Callable[[str], None] = _log.warning,
    ) -> None:
        self._line = Line(url, REGISTRY, timeout)
        self._warnings = Warnings(warn)
        self._lines = Lines[Sight | None](self._warnings.once)

    async def announce(self, entry: Entry, *, first: bool = False) -> None:
        """Write down what is so now; the ``first`` time also take out who has been gone for a day."""
        lasts, text = int(entry.lease * 1000), msgspec.json.encode(entry)
        words = (entry.unit, entry.incarnation, entry.generation, lasts, text, int(first))
        await self._line.operate(lambda connection: _run(connection, words))

    async def withdraw(self, unit: str, incarnation: str) -> None:
        """Take the line of a Unit out, unless somebody else has written it."""
        words = (unit, incarnation, 0, 0, b"", 0)
        await self._line.operate(lambda connection: _run(connection, words))

    async def read(self) -> Sights:
        """Read all lines, and what time it is there."""
        now, lines = await self._line.operate(_all)
        read = await self._lines.read(lines, self._sight)
        return Sights(now, {sight.entry.unit: sight for sight in read if sight is not None})

    async def close(self) -> None:
        """Let go of the connection."""
        await self._line.close()

    def _sight(self, name: bytes, raw: bytes) -> Sight | None:
        sight = _sight(name, raw)
        if sight is None:
            self._warnings.once(f"the store's line of Unit {name[:128]!r} cannot be read; ignored it")
        return sight


async def _all(connection: AbstractConnection) -> tuple[float, dict[bytes, bytes]]:
    lines = pairs(await call(connection, "HGETALL", REGISTRY))
    seconds, micros = await call(connection, "TIME")
    return int(seconds) + int(micros) / 1e6, lines


def _sight(name: bytes, raw: bytes) -> Sight | None:
    """Read one line; what is not exactly of our making is None."""
    if len(raw) > _LONGEST:
        return None
    at, *_, text = raw.split(b" ", 4) if raw.count(b" ") >= 4 else (b"", b"")  # noqa: PLR2004
    try:
        entry = msgspec.json.decode(text, type=Entry)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return Sight(wire.decode_number(at) / 1e3, entry) if _possible(name, entry) else None


def _possible(name: bytes, entry: Entry) -> bool:
    named = entry.unit.encode() == name and all(map(_NAME.fullmatch, (entry.unit, entry.service)))
    ports = all(0 <= port <= wire.MAX_PORT for port in (entry.port, entry.probe_port))
    return named and ports and _is_address(entry.ip) and entry.lease > 0


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return _ADDRESS.fullmatch(text) is not None


async def _run(connection: AbstractConnection, words: tuple[Word, ...]) -> Any:
    """Run the script by its name, or send it to a server that has yet to learn it."""
    try:
        return await call(connection, "EVALSHA", _SHA, 1, REGISTRY, *words)
    except NoScriptError:
        return await call(connection, "EVAL", _SOURCE, 1, REGISTRY, *words)
