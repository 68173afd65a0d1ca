"""Who is on the list, through silence, outages and losses of the store. Seconds of a made-up clock."""

from __future__ import annotations

from tests.entries import entry, sights
from unitagent.operator.endpoints.endpoint_tracker import EndpointTracker
from unitagent.store.protocol import Endpoint

SERVER = 1000.0  # the server's clock has nothing to do with ours


def units(found: tuple[Endpoint, ...]) -> list[str]:
    return [one.unit for one in found]


def test_units_that_take_traffic_are_on_the_list_by_name() -> None:
    seen = sights(SERVER, (SERVER, entry("b")), (SERVER, entry("a")), (SERVER, entry("c", traffic=False)))
    assert units(EndpointTracker().observe_registry(seen, 0)) == ["a", "b"]


def test_only_the_service_that_was_asked_for() -> None:
    seen = sights(SERVER, (SERVER, entry("a", service="chat")), (SERVER, entry("b", service="code")))
    assert units(EndpointTracker("chat").observe_registry(seen, 0)) == ["a"]
    assert units(EndpointTracker("draw").observe_registry(seen, 0)) == []


def test_one_that_says_no_is_gone_at_once() -> None:
    tracker = EndpointTracker()
    tracker.observe_registry(sights(SERVER, (SERVER, entry())), 0)
    assert not tracker.observe_registry(sights(SERVER + 0.1, (SERVER + 0.1, entry(traffic=False))), 0.1)


def test_one_that_is_silent_is_gone_after_its_lease() -> None:
    tracker = EndpointTracker()
    still = (SERVER, entry(lease=5))
    assert tracker.observe_registry(sights(SERVER, still), 0)
    assert tracker.observe_registry(sights(SERVER + 4.9, still), 4.9)
    assert not tracker.observe_registry(sights(SERVER + 5.1, still), 5.1)
    assert tracker.observe_registry(sights(SERVER + 9, (SERVER + 9, entry())), 9)


def test_one_seen_for_the_first_time_is_as_old_as_the_server_says() -> None:
    assert not EndpointTracker().observe_registry(sights(SERVER, (SERVER - 6, entry(lease=5))), 0)
    assert EndpointTracker().observe_registry(sights(SERVER, (SERVER - 4, entry(lease=5))), 0)
    assert EndpointTracker().observe_registry(
        sights(SERVER, (SERVER + 60, entry(lease=5))), 0
    )  # its clock was set back


def test_a_jump_of_the_server_s_clock_takes_nobody_out() -> None:
    tracker = EndpointTracker()
    tracker.observe_registry(sights(SERVER, (SERVER, entry())), 0)
    assert tracker.observe_registry(sights(SERVER + 86400, (SERVER, entry())), 1)


def test_an_outage_takes_nobody_out_and_gives_everybody_a_lease() -> None:
    tracker = EndpointTracker()
    old = (SERVER, entry())
    tracker.observe_registry(sights(SERVER, old), 0)
    tracker.note_outage(1)
    tracker.note_outage(99)  # again and again; what counts is who was there when it began
    assert tracker.observe_registry(sights(SERVER + 100, old), 100)
    assert tracker.observe_registry(sights(SERVER + 104, old), 104)
    assert not tracker.observe_registry(sights(SERVER + 106, old), 106)


def test_who_was_gone_before_an_outage_does_not_come_back_by_it() -> None:
    tracker = EndpointTracker()
    old = (SERVER, entry())
    tracker.observe_registry(sights(SERVER, old), 0)
    tracker.note_outage(6)
    assert not tracker.observe_registry(sights(SERVER + 100, old), 100)


def test_a_store_that_came_back_empty_is_given_time_to_be_told() -> None:
    tracker = EndpointTracker()
    tracker.observe_registry(sights(SERVER, (SERVER, entry())), 0)
    assert units(tracker.observe_registry(sights(3.0), 1)) == ["u"]
    assert units(tracker.observe_registry(sights(4.0, (4.0, entry())), 2)) == ["u"]
    assert units(tracker.observe_registry(sights(5.0), 6.9)) == ["u"]
    assert units(tracker.observe_registry(sights(6.0), 7.1)) == []
