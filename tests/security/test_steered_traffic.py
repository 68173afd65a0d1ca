"""Somebody writes into the list of all Units: with a secret, traffic goes nowhere that no rank 0 has said."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from tests.entries import entry
from tests.listening import story
from tests.ports import served_port
from tests.security.victims import SECRET, UNIT, MakeVictim, Victim, server, victim
from tests.servers import Server
from tests.waiting import until
from unitagent.operator.endpoints.endpoint_tracker import EndpointTracker
from unitagent.store.keys import REGISTRY
from unitagent.store.protocol import RegistryRecord, RegistrySnapshot
from unitagent.store.registry import Registry

__all__ = ["server", "victim"]

BORN, LEASE = 2**53 - 1, 10**300
EVIL = "10.66.66.66"


def endpoints(one: Victim) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(one.run("endpoints", "--format", "json").stdout)
    return found


def line(server: Server, unit: str = UNIT) -> bytes:
    """What stands in the list for a Unit; empty for nothing."""
    return server.command("HGET", REGISTRY, unit).partition(b"\r\n")[2].removesuffix(b"\r\n")


def lie(unit: str, **others: object) -> str:
    """A line that lasts for ever, and that no later rank 0 may replace."""
    body = {"unit": unit, "service": UNIT, "incarnation": "evil", "generation": BORN, "ip": EVIL, "port": 80}
    body |= {"probe_port": 9470, "traffic": True, "lease": 1e300, "revision": "", **others}
    return f"{time.time_ns() // 10**6} {LEASE} {BORN} evil {json.dumps(body)}"


def test_lines_of_strangers_are_ignored_and_rank_0_takes_its_own_back(
    server: Server, victim: MakeVictim
) -> None:
    """Both in the place of the Unit, and as another one of its service."""
    one = victim(0, 1, UNIT_SECRET=SECRET, UNIT_TRAFFIC_PORT=str(served_port()))
    until(lambda: endpoints(one), "the Unit takes traffic")
    for others in ({}, {"lease": 5.0, "generation": 1}):
        server.command("HSET", REGISTRY, "more", lie("more", **others))
        server.command("HSET", REGISTRY, UNIT, lie(UNIT, **others))
        until(lambda: b"evil" not in line(server), "rank 0 writes its line again")
        assert [(one["unit"], one["address"]) for one in endpoints(one)] == [(UNIT, "127.0.0.1")]
    told = one.run("endpoints", "--format", "json").stderr
    assert told.count("the store's line of Unit 'more' is not signed with this UNIT_SECRET; ignored it") == 1


def test_a_signed_line_that_is_put_back_is_too_old(server: Server, victim: MakeVictim) -> None:
    one = victim(0, 1, UNIT_SECRET=SECRET, UNIT_TRAFFIC_PORT=str(served_port()), UNIT_LEASE_SECONDS="1",
                 UNIT_HEARTBEAT_SECONDS="0.2")  # fmt: skip
    until(lambda: endpoints(one), "the Unit takes traffic")
    kept = line(server)
    one.close()
    until(lambda: not endpoints(one), "its last word is too old")
    server.command("HSET", REGISTRY, UNIT, b"%d %s" % (time.time_ns() // 10**6, kept.partition(b" ")[2]))
    assert not endpoints(one)


@pytest.mark.parametrize("born", [2, BORN, 10**30])
def test_no_line_keeps_rank_0_away_for_longer_than_its_own_lasts(server: Server, born: int) -> None:
    @story
    async def tell() -> None:
        registry, began = Registry(server.url, timeout=5, warn=lambda _: None), time.monotonic()
        head = f"{time.time_ns() // 10**6} {LEASE} {born} evil "
        server.command("HSET", REGISTRY, "u", head + lie("u").split(" ", 4)[4])
        while b" a {" not in line(server, "u"):
            assert time.monotonic() - began < 30
            await registry.announce_endpoint(entry(lease=0.5))
            await asyncio.sleep(0.05)
        await registry.close()

    tell()


@pytest.mark.parametrize(
    "others",
    [{"lease": 1e300}, {"lease": 3.2e7}, {"generation": -1}, {"generation": 2**53},
     {"ip": "0.0.0.0"}, {"ip": "224.0.0.1"}, {"ip": "255.255.255.255"}, {"incarnation": "a b"},
     {"revision": "a\x1b[2J"}, {"phase": "x" * 300}],
)  # fmt: skip
def test_what_no_rank_0_says_is_no_line(server: Server, others: dict[str, object]) -> None:
    @story
    async def tell() -> None:
        registry = Registry(server.url, timeout=5, warn=lambda _: None)
        fine = {"lease": 5.0, "generation": 1}
        server.command("HSET", REGISTRY, "u", lie("u", **fine))
        assert (await registry.read()).units
        server.command("HSET", REGISTRY, "u", lie("u", **(fine | others)))
        assert not (await registry.read()).units
        await registry.close()

    tell()


def seen(tracker: EndpointTracker, there: float, at: float, now: float, ip: str = "10.0.0.1") -> list[str]:
    sight = RegistryRecord(at, entry(ip=ip))
    return [
        one.ip for one in tracker.observe_registry(RegistrySnapshot(there, {"u": sight}, proven=True), now)
    ]


def test_an_old_line_is_no_news_to_who_has_seen_a_later_one() -> None:
    tracker = EndpointTracker()
    assert seen(tracker, 100.0, 100.0, 0.0, ip="10.0.0.2") == ["10.0.0.2"]
    assert seen(tracker, 101.0, 99.0, 1.0, ip="10.0.0.1") == ["10.0.0.2"]
    assert seen(tracker, 104.0, 99.5, 4.0, ip="10.0.0.1") == ["10.0.0.2"]
    assert seen(tracker, 106.0, 99.9, 6.0, ip="10.0.0.1") == []
    assert seen(tracker, 106.1, 99.9, 6.1, ip="10.0.0.1") == []
    assert seen(tracker, 106.2, 106.2, 6.2, ip="10.0.0.2") == ["10.0.0.2"]


def test_a_clock_of_the_server_that_is_set_takes_nobody_out() -> None:
    tracker = EndpointTracker()
    now, there = 0.0, 1000.0
    for step in (0.0, -600.0, 3600.0, -30.0):
        late, there = there + 1.0, there + step
        assert seen(tracker, there + 0.5, late - 0.5, now + 0.5) == ["10.0.0.1"]  # signed before it was set
        for _ in range(10):
            there, now = there + 1.0, now + 1.0
            assert seen(tracker, there, there - 0.1, now) == ["10.0.0.1"]
