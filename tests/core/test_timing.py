"""The durations of the protocol, drawn from every pair that is accepted."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unitagent.core.timing import LEAST_HEARTBEAT, LEAST_LEASE, Timing, explain_bad_pair, nearest_pair

SECONDS = st.floats(0.05, 31536000)


@settings(max_examples=2000)
@given(SECONDS, SECONDS)
def test_a_pair_is_refused_with_one_that_is_accepted_or_keeps_every_inequality(
    lease: float, heartbeat: float
) -> None:
    if not explain_bad_pair(lease, heartbeat):
        Timing.from_lease(lease, heartbeat)  # asserts them all
        assert nearest_pair(lease, heartbeat) == (lease, heartbeat)
        return
    near = nearest_pair(lease, heartbeat)
    assert f"UNIT_LEASE_SECONDS={near[0]:.12g}" in explain_bad_pair(lease, heartbeat)
    Timing.from_lease(*near)
    with pytest.raises(ValueError, match="the nearest pair"):
        Timing.from_lease(lease, heartbeat)


@settings(max_examples=2000)
@given(st.floats(LEAST_HEARTBEAT, 1e6), st.floats(2, 100))
def test_every_lease_of_two_heartbeats_or_more_is_accepted(heartbeat: float, beats: float) -> None:
    timing = Timing.from_lease(max(LEAST_LEASE, heartbeat * beats), heartbeat)
    assert timing.longest_isolation <= timing.lease + 2
    assert timing.longest_detection <= timing.lease + 1


def test_the_defaults_are_as_documented() -> None:
    timing = Timing.from_lease(5, 1)
    assert (timing.tick, timing.operation_timeout, timing.peer_timeout) == (0.25, 1.8, 2)
    assert (timing.ask_after, timing.watchdog, timing.takeover) == (2, 6, 7)
