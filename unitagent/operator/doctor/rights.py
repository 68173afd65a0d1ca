"""What a store is asked by ``unitagent doctor``: the time, and one command for each kind of right.

The invariant: nothing is written. Every command that could write is given a key that never exists, in a form
that changes existing ones only, or with a word too many; a server checks the right first, and whether it may
write at all. Only HSETNX has no such form, and is believed to go with HSET.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import NoScriptError, ResponseError

from unitagent.errors import StoreError
from unitagent.operator.doctor.store_checks import StoreAnswers, RefusedCommands
from unitagent.store.address import LocationSource
from unitagent.store.connection import send_command
from unitagent.store.errors import explain_error
from unitagent.store.keys import KeyNames
from unitagent.store.topology import Dialer

_ROUNDS = 5
_HARMLESS = ("Number of keys can't be greater", "wrong number of arguments")


async def query_store(
    url: LocationSource,
    keys: KeyNames,
    timeout: float,  # noqa: ASYNC109 (of the whole)
    *,
    embedded: bool,
) -> StoreAnswers:
    """Connect as an agent does, and ask within ``timeout`` seconds. An embedded store has the scripts itself,
    and takes none from a client.

    Raises:
        StoreError: it could not be reached, or let us not in.

    """
    dialer = Dialer(url, keys.board)
    try:
        async with asyncio.timeout(timeout):
            connection = await dialer.dial_server(timeout)
            try:
                rounds = [await _measure_round_trip(connection) for _ in range(_ROUNDS)]
                refused = await _try_all_commands(connection, keys, dialer, embedded=embedded)
            finally:
                await connection.disconnect(nowait=True)
    except Exception as error:
        raise explain_error(error, dialer.place, to=dialer.address) from error
    _, ahead = min(rounds)  # the quickest round trip tells the time best
    return StoreAnswers(dialer.place, [took for took, _ in rounds], ahead, refused)


async def _measure_round_trip(connection: AbstractConnection) -> tuple[float, float]:
    """Give the seconds of a round trip, and those by which the server's clock is ahead of ours."""
    before, at = time.perf_counter(), time.time()
    seconds, micros = await send_command(connection, "TIME")
    took = time.perf_counter() - before
    return took, int(seconds) + int(micros) / 1e6 - (at + took / 2)


def _list_commands(keys: KeyNames) -> Iterator[tuple[str | int, ...]]:
    """Yield one command for each kind of right. ``spare`` never exists, so none of them finds work to do."""
    spare = f"{keys.board}:doctor"
    yield ("PING",)
    yield "HGETALL", keys.board
    yield "HGET", spare, "none"
    yield "HMGET", spare, "none"
    yield "GET", spare
    yield "TYPE", spare
    yield "TTL", spare
    yield "ZSCORE", spare, "none"
    yield "ZRANGEBYSCORE", spare, 0, 0
    yield "XRANGE", spare, "-", "+"
    yield "XADD", spare, "NOMKSTREAM", "*", "field", "value"
    yield "DEL", spare
    yield "HDEL", spare, "none"
    yield "EXPIRE", spare, 1
    yield "ZADD", spare, "XX", 0, "none"
    yield "SET", spare, "", "XX"
    yield "HSET", spare, "field", "value", "field without value"
    yield "EVALSHA", "0" * 40, 1, spare
    yield "EVAL", "return 0", 1  # one key less than announced
    yield "PUBLISH", f"{keys.look}:doctor", ""
    yield "SUBSCRIBE", f"{keys.look}:doctor"


async def _try_all_commands(
    connection: AbstractConnection, keys: KeyNames, dialer: Dialer, *, embedded: bool
) -> list[RefusedCommands]:
    """Try all of them, and put those together that are refused for one reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for words in _list_commands(keys):
        if embedded and words[0] == "EVAL":
            continue
        error = await _try_command(connection, words, dialer)
        if error is not None:
            found.setdefault((error.what, error.remedy), []).append(str(words[0]))
    return [RefusedCommands(tuple(commands), what, remedy) for (what, remedy), commands in found.items()]


async def _try_command(
    connection: AbstractConnection, words: tuple[str | int, ...], dialer: Dialer
) -> StoreError | None:
    """Tell why a command is refused; None when it is not."""
    try:
        await send_command(connection, *words)
    except NoScriptError:
        return None
    except ResponseError as error:
        harmless = any(said in str(error) for said in _HARMLESS)
        return None if harmless else explain_error(error, dialer.place, to=dialer.address)
    return None
