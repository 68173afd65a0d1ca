"""The list of all Units, on a real server: who may write a line, and who may not any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.entries import entry
from tests.listening import story
from tests.servers import Server, running
from unitagent.store.keys import PERMISSIONS, REGISTRY
from unitagent.store.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

OLD = b"1 5000 1 gone "  # written in 1970, for five seconds, by somebody who is gone


@pytest.fixture
def registry(server: Server, warned: list[str]) -> Registry:
    return Registry(server.url, timeout=2, warn=warned.append)


@story
async def test_what_is_announced_is_read_with_its_time(registry: Registry) -> None:
    one, two = entry("one", revision="é 1"), entry("two", traffic=False)
    await registry.announce_endpoint(one, first=True)
    await registry.announce_endpoint(two)
    seen = await registry.read()
    assert {unit: sight.entry for unit, sight in seen.units.items()} == {"one": one, "two": two}
    assert all(0 <= seen.now - sight.at < 5 for sight in seen.units.values())
    await registry.announce_endpoint(one)
    assert (await registry.read()).units["one"].at >= seen.units["one"].at


@story
async def test_only_its_writer_takes_a_line_out(registry: Registry) -> None:
    await registry.announce_endpoint(entry(incarnation="new"))
    await registry.withdraw_endpoint("u", "old")
    assert (await registry.read()).units
    await registry.withdraw_endpoint("u", "new")
    assert not (await registry.read()).units


@story
async def test_the_last_line_of_an_agent_stays_and_blocks_nobody(registry: Registry) -> None:
    ended = entry(incarnation="old", generation=7, traffic=False, phase="failed")
    await registry.announce_endpoint(ended, last=True)
    assert not (await registry.read()).units, "it only replaces its own line"
    await registry.announce_endpoint(entry(incarnation="old", generation=7))
    await registry.announce_endpoint(ended, last=True)
    assert (await registry.read()).units["u"].entry == ended
    await registry.announce_endpoint(entry(incarnation="new"))
    await registry.announce_endpoint(ended, last=True)
    assert (await registry.read()).units["u"].entry.incarnation == "new"


@story
async def test_a_former_rank_0_does_not_overwrite_the_one_that_replaced_it(registry: Registry) -> None:
    await registry.announce_endpoint(entry(incarnation="new", generation=2, ip="10.0.0.2"))
    await registry.announce_endpoint(entry(incarnation="old", generation=1))
    assert (await registry.read()).units["u"].entry.incarnation == "new"
    await registry.announce_endpoint(entry(incarnation="newer", generation=3))
    assert (await registry.read()).units["u"].entry.incarnation == "newer"


@story
async def test_a_unit_that_starts_over_takes_the_line_of_one_that_is_gone(
    registry: Registry, server: Server
) -> None:
    server.command("HSET", REGISTRY, "u", b"1 5000 99 gone {}")
    await registry.announce_endpoint(entry())
    assert (await registry.read()).units["u"].entry == entry()


@story
async def test_the_first_one_takes_out_who_has_been_gone_for_a_day(
    registry: Registry, server: Server
) -> None:
    for unit, raw in (("gone", OLD + b"{}"), ("garbage", b"\xff"), ("empty", b"")):
        server.command("HSET", REGISTRY, unit, raw)
    await registry.announce_endpoint(entry("here"))
    assert server.command("HLEN", REGISTRY) == b":4\r\n"
    await registry.announce_endpoint(entry("new"), first=True)
    assert server.command("HLEN", REGISTRY) == b":2\r\n"
    assert 0 < int(server.command("TTL", REGISTRY).strip(b":\r\n")) <= 86400


def line(**others: object) -> bytes:
    """A line of the Unit u that is well formed but for this."""
    return OLD + msgspec.json.encode(entry(**{"unit": "u", **others}))  # type: ignore[arg-type]


def test_a_line_like_these_is_read(registry: Registry, server: Server) -> None:
    @story
    async def tell() -> None:
        server.command("HSET", REGISTRY, "u", line(ip="fd00::1"))
        assert (await registry.read()).units["u"].entry.ip == "fd00::1"

    tell()


def test_a_name_that_no_unit_may_have_is_ignored(registry: Registry, server: Server) -> None:
    @story
    async def tell() -> None:
        name = "u 10.0.0.9:1\n    server v"
        server.command("HSET", REGISTRY, name, line(unit=name, service="s"))
        assert not (await registry.read()).units

    tell()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"x",
        b"1 1 1 a",
        OLD,
        OLD + b"{}",
        OLD + b'{"unit":7}',
        OLD + b"[" * 5000,
        OLD + b"\xff\xfe",
        line(unit="other"),
        line(service=""),
        line(service="s" * 129),
        line(service="s\n    server evil 10.0.0.9:1"),
        line(ip=""),
        line(ip="leader"),
        line(ip="10.0.0.1 backup"),
        line(ip="fe80::1%x\n    server evil 10.0.0.9:1"),
        line(port=70000),
        line(probe_port=-1),
        line(lease=0.0),
    ],
)
def test_garbage_is_ignored_and_told_once(
    registry: Registry, server: Server, warned: list[str], raw: bytes
) -> None:
    @story
    async def tell() -> None:
        server.command("HSET", REGISTRY, "u", raw)
        await registry.announce_endpoint(entry("fine"))
        for _ in range(2):
            assert set((await registry.read()).units) == {"fine"}
        assert len(warned) == 1
        await registry.announce_endpoint(entry("u"))
        assert set((await registry.read()).units) == {"fine", "u"}

    tell()


@story
async def test_a_key_of_another_type_is_replaced(registry: Registry, server: Server) -> None:
    server.command("SET", REGISTRY, "of another type")
    assert not (await registry.read()).units
    server.command("SET", REGISTRY, "of another type")
    await registry.announce_endpoint(entry())
    assert set((await registry.read()).units) == {"u"}


@story
async def test_a_server_that_was_emptied_is_told_again(registry: Registry, server: Server) -> None:
    await registry.announce_endpoint(entry(), first=True)
    server.command("FLUSHALL")
    server.command("SCRIPT", "FLUSH")
    assert not (await registry.read()).units
    await registry.announce_endpoint(entry())
    assert set((await registry.read()).units) == {"u"}


@story
async def test_the_least_permissions_suffice(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        server.command(
            *("ACL", "SETUSER", "small", "on", ">pw", "~unitagent:*", "&unitagent:*", *PERMISSIONS.split())
        )
        small = Registry(f"redis://small:pw@127.0.0.1:{server.port}", timeout=5)
        await small.announce_endpoint(entry(), first=True)
        assert set((await small.read()).units) == {"u"}
        await small.withdraw_endpoint("u", "a")
