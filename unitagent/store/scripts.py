"""The Lua scripts that the server runs for us: each known to EVALSHA by its hash, with the arguments of the
exchange in order and its answer by name.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from redis.exceptions import NoScriptError

from unitagent.store import codec
from unitagent.store.connection import send_command

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

    from unitagent.core.actions import Exchange
    from unitagent.core.model import Order
    from unitagent.store.keys import KeyNames


Argument = str | bytes | int


class LuaScript(Struct, frozen=True):
    """One file of Lua; ``sha`` is its name."""

    source: bytes
    sha: str


def _load_script(name: str) -> LuaScript:
    source = Path(__file__).with_name(f"{name}.lua").read_bytes()
    return LuaScript(source, hashlib.sha1(source, usedforsecurity=False).hexdigest())


ALL = EXCHANGE, BOARD, ANNOUNCE, UNITS, HISTORY, EXPLAIN, EVIDENCE, SPARES = tuple(
    map(_load_script, ("exchange", "board", "announce", "units", "history", "explain", "evidence", "spares"))
)


async def run_script(connection: AbstractConnection, script: LuaScript, *words: Argument) -> Any:
    """Run a script by its hash, or send its source to a server that does not know it yet."""
    try:
        return await send_command(connection, "EVALSHA", script.sha, *words)
    except NoScriptError:
        return await send_command(connection, "EVAL", script.source, *words)


class ExchangeCall(Struct, frozen=True, kw_only=True):
    """The arguments of one exchange, beyond the request.

    Attributes:
        since: version up to which the records are known; 0 for none.
        epoch: the life of the board that ``since`` belongs to.
        record: the bytes of the record to put; empty for none.
        size: of the Unit, whose records are wanted.
        digest: of all records that are known, to be compared with the board's; empty for no comparison.

    """

    rank: int | None
    incarnation: str
    count: int
    since: int
    epoch: bytes
    record: bytes = b""
    size: int
    digest: bytes = b""

    def build_arguments(self, keys: KeyNames, request: Exchange) -> tuple[Argument, ...]:
        """Return the number of keys, the keys and the arguments of an agent's exchange."""
        judge = [] if self.rank is None else [self.rank]
        return (
            *(3, keys.membership_table, keys.changes, keys.history, "" if self.rank is None else self.rank),
            *(self.incarnation, self.count, b"" if self.rank is None else self.record),
            *(request.take, request.seen, max(0, request.generation)),
            codec.encode_failure(request.failure) if request.failure else b"",
            *(b"", int(request.notify), self.since, self.epoch, keys.wakeup_channel),
            *(request.record.order if request.record else 0, self.size, self.digest),
            *dict.fromkeys([*request.judge, *judge]),
        )


def build_order_arguments(keys: KeyNames, order: Order) -> tuple[Argument, ...]:
    """Return the same arguments for an operator, who stores an order, wakes all up, and reads no records."""
    encoded = codec.encode_value(order)
    own = (3, keys.membership_table, keys.changes, keys.history)
    return (*own, b"", b"", 0, b"", b"", 0, 0, b"", encoded, 1, 0, b"", keys.wakeup_channel, 0, 0, b"")


class ExchangeAnswer(Struct, frozen=True):
    """What the script answers, still in bytes.

    Attributes:
        broken: keys of a wrong type that it removed.
        epoch: the life of the board, led by its birth in microseconds of the server's clock.
        since: version that the records start after; 0 when these are all.

    """

    broken: list[bytes]
    epoch: bytes
    now: int
    version: int
    since: int
    holder: bytes
    generation: int
    failure: bytes
    order: bytes
    records: dict[bytes, bytes]
    beats: dict[bytes, bytes]

    @classmethod
    def parse_raw(cls, raw: list[Any]) -> ExchangeAnswer:
        """Name the parts of the script's answer."""
        broken, epoch, now, version, since, holder, generation, failure, order, records, beats = raw
        return cls(
            broken=broken,
            epoch=epoch,
            now=codec.decode_number(now),
            version=codec.decode_number(version),
            since=codec.decode_number(since),
            holder=holder,
            generation=codec.decode_number(generation),
            failure=failure,
            order=order,
            records=pair_up(records),
            beats=pair_up(beats),
        )

    @property
    def age(self) -> float:
        """Seconds since the board was born; never negative, also when the server's clock was set back."""
        return max(0.0, (self.now - codec.decode_number(self.epoch.partition(b" ")[0])) / 1e6)


def pair_up(flat: list[bytes]) -> dict[bytes, bytes]:
    """Return the mapping that Redis sends as a flat list."""
    return dict(zip(flat[::2], flat[1::2], strict=True))
