"""Who is sent away when there is no place left."""

from __future__ import annotations

import resource

import pytest

from unitagent.probes.admission import Client, ClientTable, compute_connection_limit, parse_origin

HERE = "192.0.2.1"
PEER = "203.0.113.5"
LATER = 0.5  # seconds, in which whoever has said nothing has lost its claim


def full(*addresses: str) -> tuple[ClientTable, list[Client]]:
    """All places are taken, in this order and long ago."""
    guests = ClientTable(len(addresses), lambda: {PEER})
    return guests, [admitted(guests, address, 0.0) for address in addresses]


def admitted(guests: ClientTable, address: str, now: float = LATER) -> Client:
    guest = guests.admit_client(address, HERE, now)
    assert guest is not None
    return guest


def gone(those: list[Client]) -> list[int]:
    return [place for place, guest in enumerate(those) if guest.gone]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("198.51.100.7", "198.51.100.0/24"),
        ("::ffff:198.51.100.7", "198.51.100.0/24"),
        ("2001:db8::1:2:3:4", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_a_network_counts_as_one(address: str, network: str) -> None:
    assert parse_origin(address).network == network


def test_the_network_that_has_most_loses_its_oldest() -> None:
    guests, those = full("198.51.100.1", "198.51.100.2", "198.51.101.1", "198.51.100.3")
    admitted(guests, "198.51.102.1")
    assert gone(those) == [0]


def test_a_crowd_leaves_a_quarter_of_the_places_to_our_own() -> None:
    guests, those = full(*(f"10.0.{number}.1" for number in range(6)), HERE, HERE)
    admitted(guests, PEER)
    assert gone(those) == [7]  # of our own, for they have more than a quarter now
    guests, those = full(*(f"10.0.{number}.1" for number in range(7)), HERE)
    admitted(guests, PEER)
    assert gone(those) == [0]


def test_who_waits_for_a_first_answer_stays_and_the_next_one_waits_at_the_door() -> None:
    guests, those = full("10.0.1.1", "10.0.2.1")
    for guest in those:
        guest.asked = LATER
    assert guests.admit_client("10.0.3.1", HERE, LATER) is None
    assert guests.admit_client("10.0.3.1", HERE, LATER + 0.9) is None
    those[1].asked, those[1].answered = None, True
    admitted(guests, "10.0.3.1", LATER + 0.9)
    assert gone(those) == [1]


def test_a_request_that_waits_for_longer_holds_no_place() -> None:
    guests, those = full("10.0.1.1")
    those[0].asked = 0.0
    admitted(guests, "10.0.2.1", 1.1)
    assert gone(those) == [0]


def test_of_the_units_own_those_who_are_connected_stay(caplog: pytest.LogCaptureFixture) -> None:
    """Each one that is sent away asks, and comes back: were it the oldest, that would never end."""
    peers = [f"10.0.{number // 200}.{number % 200}" for number in range(600)]
    clients = ClientTable(512, lambda: set(peers))
    those = [admitted(clients, peer, number * LATER) for number, peer in enumerate(peers)]
    again = [admitted(clients, those[number].origin.address, 1000.0 + number) for number in range(511, 599)]
    assert gone(those) == [*range(511, 600)]
    assert gone(again) == [*range(87)]
    assert len(caplog.records) == 1
    assert "allows 512 connections" in caplog.text


@pytest.mark.parametrize(
    ("size", "files", "places"),
    [(1, 1 << 20, 512), (256, 1 << 20, 512), (1024, 1 << 20, 2048), (1024, 1024, 512), (1, 100, 50)],
)
def test_the_places_follow_the_size_of_the_unit_and_the_limit_of_files(
    monkeypatch: pytest.MonkeyPatch, size: int, files: int, places: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert compute_connection_limit(size) == places
