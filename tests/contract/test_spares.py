"""The list of spares: a place for each, and garbage is nobody's."""

from __future__ import annotations

import asyncio
import time

import pytest
from msgspec.structs import replace

from tests.contract.conftest import BACKENDS, Board
from tests.listening import story
from unitagent.core.spares import Standby
from unitagent.store.codec import encode_standby
from unitagent.system.keyring import Keyring
from unitagent.system.limits import MAX_SPARES

ONE = Standby(number=3, incarnation="one", ip="10.0.0.3", port=9470, hostname="m3", since=1.5)
OTHER = Standby(number=4, incarnation="other", ip="10.0.0.4", port=9470)
KEY = "unitagent:{u}:spares"
SECRET = "the secret of this Unit"  # noqa: S105 (of nobody)


def names(listed: tuple[Standby, ...]) -> list[tuple[int, str]]:
    return [(one.number, one.incarnation) for one in listed]


def test_each_spare_has_a_place_and_sees_the_others(board: Board) -> None:
    @story
    async def tell() -> None:
        spares = board.spares()
        assert await spares.read() == ()
        await spares.put(OTHER, 5.0)
        assert [replace(one, age=0.0) for one in await spares.put(ONE, 5.0)] == [ONE, OTHER]
        await spares.remove(OTHER)
        assert names(await spares.read()) == [(3, "one")]
        await spares.close()

    tell()


def test_a_place_is_another_ones_only_when_its_line_is_old(board: Board) -> None:
    @story
    async def tell() -> None:
        spares, rival = board.spares(), replace(ONE, incarnation="rival")
        await spares.put(ONE, 5.0)
        assert names(await spares.put(rival, 5.0)) == [(3, "one")]
        await spares.remove(rival)
        await asyncio.sleep(0.3)
        (known,) = await spares.read()
        assert 0.2 < known.age < 60
        assert names(await spares.put(rival, 0.2)) == [(3, "rival")]
        await spares.close()

    tell()


def test_there_are_as_many_places_as_a_unit_may_have_spares(board: Board) -> None:
    @story
    async def tell() -> None:
        spares = board.spares()
        await spares.put(replace(ONE, number=2 + MAX_SPARES), 5.0)
        if board.server is not None:
            await spares.put(replace(OTHER, number=3 + MAX_SPARES), 5.0)
            assert board.server.command("HLEN", KEY) == b":1\r\n"
        assert names(await spares.read()) == [(2 + MAX_SPARES, "one")]
        await spares.close()

    tell()


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)  # nobody else fills the fake
def test_nothing_but_spares_is_read_from_a_key_that_others_have_filled(board: Board) -> None:
    @story
    async def tell() -> None:
        server = board.server
        assert server is not None
        server.command("SET", KEY, "not a hash")
        spares = board.spares(SECRET)
        assert names(await spares.put(ONE, 5.0)) == [(3, "one")]
        stranger = encode_standby(Keyring("another secret, as long"), "u", OTHER).decode()
        moved = encode_standby(Keyring(SECRET), "u", ONE).decode()
        now, ahead = int(1000 * time.time()), 10**13
        for number, line in (
            ("4", f"other {now} {stranger}"),
            ("5", f"one {now} {moved}"),
            ("6", "x" * 5000),
            ("7", f"other {ahead} {stranger}"),
            ("8", "garbage"),
            (str(3 + MAX_SPARES), "beyond"),
            ("x", "y"),
        ):
            server.command("HSET", KEY, number, line)
        assert names(await spares.read()) == [(3, "one")]
        await spares.close()

    tell()
