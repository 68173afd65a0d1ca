"""The store as an agent would find it: its latency, its permissions and its clock.

The invariant: nothing is written. Every command that could write names a key that never exists, in a form
that only changes existing keys, or has one argument too many; a server checks permissions first, and whether
it accepts writes at all. Only HSETNX has no such form; it is assumed to be permitted if HSET is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import NoScriptError, ResponseError

from unitagent.core.spares import explain_missing
from unitagent.errors import StoreError
from unitagent.operator.doctor.findings import Finding, fail, ok, warn
from unitagent.store.address import LocationSource
from unitagent.store.connection import send_command
from unitagent.store.errors import explain_error
from unitagent.store.keys import KeyNames
from unitagent.store.topology import Dialer

_MOST_OF_TIMEOUT = 0.25  # share of an operation's timeout; a slower store leaves no margin
_FAR_APART = 1.0  # seconds
_ROUNDS = 5
_HARMLESS = ("Number of keys can't be greater", "wrong number of arguments")


@dataclass(frozen=True, slots=True)
class RefusedCommands:
    """Commands that a store refuses for the same reason."""

    commands: tuple[str, ...]
    what: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class StoreAnswers:
    """A store's answers.

    Attributes:
        place: the server, for people.
        seconds: of each round trip.
        ahead: seconds by which its clock is ahead of ours; negative if it is behind.
        refused: the commands that it refuses.

    """

    place: str
    seconds: Sequence[float]
    ahead: float
    refused: Sequence[RefusedCommands] = ()


def judge_store(answers: StoreAnswers, timeout: float) -> Iterator[Finding]:
    """Judge the answers; ``timeout``: seconds that one operation of an agent may take."""
    yield _judge_latency(answers, timeout)
    yield _judge_rights(answers)
    yield _judge_clock(answers)


def _judge_latency(answers: StoreAnswers, timeout: float) -> Finding:
    usual = sorted(answers.seconds)[len(answers.seconds) // 2]
    detail = f"{answers.place} answers after {usual * 1000:.1f} ms"
    if usual > timeout * _MOST_OF_TIMEOUT:
        remedy = "use a nearer store, or raise UNIT_LEASE_SECONDS"
        return warn("store", f"{detail}, but an agent waits at most {timeout:g} s", remedy)
    return ok("store", detail)


def _judge_rights(answers: StoreAnswers) -> Finding:
    if answers.refused:
        detail = "; ".join(f"{', '.join(one.commands)}: {one.what}" for one in answers.refused)
        remedies = dict.fromkeys(one.remedy for one in answers.refused if one.remedy)
        return fail("rights", detail, "; ".join(remedies) or "see the server's log")
    return ok("rights", "every command that an agent needs is permitted")


def _judge_clock(answers: StoreAnswers) -> Finding:
    if abs(answers.ahead) < _FAR_APART:
        return ok("clock", f"agrees with the store's within {abs(answers.ahead) * 1000:.0f} ms")
    direction = "behind" if answers.ahead > 0 else "ahead of"
    detail = (
        f"this machine's clock is {abs(answers.ahead):.1f} s {direction} the store's, so log times will not "
        "match (leases do not depend on it)"
    )
    return warn("clock", detail, "synchronize the clocks with NTP or chrony")


def judge_spares(spares: Mapping[str, Any]) -> Finding:
    """Judge the key ``spares`` of a status: whether as many stand by as UNIT_SPARES says."""
    if not (problem := explain_missing(spares)):
        return ok("spares", spares["message"])
    return warn(
        "spares", problem, "start what is missing with RANK_ID from UNIT_SIZE on, or lower UNIT_SPARES"
    )


def judge_store_error(trouble: StoreError, *, elsewhere: bool) -> Finding:
    """Judge an unreachable store; ``elsewhere``: it is rank 0's own, which may start later."""
    if elsewhere:
        remedy = "start rank 0, and allow its store's port (UNIT_STORE_PORT, or one above its probe port)"
        return warn("store", f"{trouble.what}; it starts together with rank 0", remedy)
    default = "start the store, correct UNIT_REDIS_URL, or allow its port in the firewall"
    return fail("store", trouble.what, trouble.remedy or default)


def judge_embedded(place: str, refusal: str, *, open_to_all: bool) -> Finding:
    """Judge the embedded store that rank 0 will run, or refuses to run."""
    detail = f"this is rank 0 and runs the store at {place}"
    remedy = "set UNIT_SECRET_FILE or UNIT_SECRET to the same value on all ranks"
    if refusal:
        return fail("store", refusal, remedy)
    if open_to_all:
        return warn(
            "store", f"{detail}, without a password: anyone who can reach it can disrupt the Unit", remedy
        )
    return ok("store", detail)


async def query_store(
    url: LocationSource,
    keys: KeyNames,
    timeout: float,  # noqa: ASYNC109 (of the whole)
    *,
    embedded: bool,
) -> StoreAnswers:
    """Connect as an agent does, and query the store within ``timeout`` seconds. An embedded store has its own
    scripts and accepts none from a client.

    Raises:
        StoreError: the store is unreachable, or refuses us.

    """
    dialer = Dialer(url, keys.membership_table)
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
    _, ahead = min(rounds)  # the fastest round trip measures the clock best
    return StoreAnswers(dialer.place, [took for took, _ in rounds], ahead, refused)


async def _measure_round_trip(connection: AbstractConnection) -> tuple[float, float]:
    """Return the seconds of a round trip, and those by which the server's clock is ahead of ours."""
    before, at = time.perf_counter(), time.time()
    seconds, micros = await send_command(connection, "TIME")
    took = time.perf_counter() - before
    return took, int(seconds) + int(micros) / 1e6 - (at + took / 2)


def _list_commands(keys: KeyNames) -> Iterator[tuple[str | int, ...]]:
    """Yield one command for each permission. ``spare`` never exists, so none of them changes anything."""
    spare = f"{keys.membership_table}:doctor"
    yield ("PING",)
    yield "HGETALL", keys.membership_table
    yield "HGET", spare, "none"
    yield "HMGET", spare, "none"
    yield "GET", spare
    yield "TYPE", spare
    yield "TTL", spare
    yield "ZSCORE", spare, "none"
    yield "ZRANGEBYSCORE", spare, 0, 0
    yield "XRANGE", spare, "-", "+"
    yield "XREVRANGE", spare, "+", "-"
    yield "XADD", spare, "NOMKSTREAM", "*", "field", "value"
    yield "DEL", spare
    yield "HDEL", spare, "none"
    yield "EXPIRE", spare, 1
    yield "ZADD", spare, "XX", 0, "none"
    yield "SET", spare, "", "XX"
    yield "HSET", spare, "field", "value", "field without value"
    yield "EVALSHA", "0" * 40, 1, spare
    yield "EVAL", "return 0", 1  # one key fewer than announced
    yield "PUBLISH", f"{keys.wakeup_channel}:doctor", ""
    yield "SUBSCRIBE", f"{keys.wakeup_channel}:doctor"


async def _try_all_commands(
    connection: AbstractConnection, keys: KeyNames, dialer: Dialer, *, embedded: bool
) -> list[RefusedCommands]:
    """Try all commands, and group those that are refused for the same reason."""
    refused: dict[tuple[str, str], list[str]] = {}
    for words in _list_commands(keys):
        if embedded and words[0] == "EVAL":
            continue
        error = await _try_command(connection, words, dialer)
        if error is not None:
            refused.setdefault((error.what, error.remedy), []).append(str(words[0]))
    return [RefusedCommands(tuple(commands), what, remedy) for (what, remedy), commands in refused.items()]


async def _try_command(
    connection: AbstractConnection, words: tuple[str | int, ...], dialer: Dialer
) -> StoreError | None:
    """Return why a command is refused; None if it is permitted."""
    try:
        await send_command(connection, *words)
    except NoScriptError:
        return None
    except ResponseError as error:
        harmless = any(text in str(error) for text in _HARMLESS)
        return None if harmless else explain_error(error, dialer.place, to=dialer.address)
    return None
