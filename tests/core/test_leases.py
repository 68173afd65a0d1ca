from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from unitagent.core.leases import Leases, neighbours
from unitagent.core.model import Beat

GAP = 2.5


def seen(leases: Leases, now: float, **counts: int) -> Leases:
    """``r1=7`` is beat 7 of rank 1."""
    beats = {int(rank[1:]): Beat("a", count) for rank, count in counts.items()}
    return leases.seen(beats, now, GAP)


def test_a_beat_that_stands_still_is_counted_from_its_last_change() -> None:
    leases = seen(seen(seen(Leases(), 0, r1=1), 1, r1=2), 2, r1=2)
    assert leases.unchanged(1) == 1


def test_time_in_which_the_store_was_not_heard_is_no_evidence() -> None:
    leases = seen(seen(Leases(), 0, r1=1), 2, r1=1)
    assert leases.unchanged(1) == 2
    asleep = seen(leases, 100, r1=1)
    assert asleep.unchanged(1) == 0
    assert seen(asleep, 102, r1=1).unchanged(1) == 2


def test_after_a_broken_contact_judging_starts_anew() -> None:
    leases = seen(seen(Leases(), 0, r1=1), 2, r1=1).broken()
    assert leases.unchanged(1) == 0
    assert seen(leases, 3, r1=1).unchanged(1) == 0


def test_a_rank_that_the_store_forgot_has_a_lease_to_come_back() -> None:
    leases = seen(seen(seen(Leases(), 0, r1=1), 2, r1=1), 4)
    assert leases.unchanged(1) == 0
    assert seen(leases, 6).unchanged(1) == 2
    assert seen(leases, 6, r1=2).unchanged(1) == 0


def test_a_beat_that_goes_back_is_no_sign_of_life() -> None:
    leases = seen(seen(seen(Leases(), 0, r1=6), 1, r1=7), 3, r1=6)
    assert leases.unchanged(1) == 2
    assert seen(leases, 4, r1=8).unchanged(1) == 0


def test_another_incarnation_is_another_lease() -> None:
    leases = seen(seen(Leases(), 0, r1=1), 2, r1=1)
    other = leases.seen({1: Beat("b", 1)}, 3, GAP)
    assert other.unchanged(1) == 0
    assert not other.alive(1, "b")
    assert not other.alive(1, "a")


def test_alive_is_who_was_seen_to_beat() -> None:
    leases = seen(Leases(), 0, r1=1)
    assert not leases.alive(1, "a")
    assert seen(leases, 1, r1=2).alive(1, "a")


def test_nobody_is_late_who_was_never_seen() -> None:
    assert Leases().unchanged(1) == 0
    assert Leases().age(1, 5.0) is None


@given(st.lists(st.floats(0, 2), min_size=1), st.integers(0, 3))
def test_nobody_is_late_by_more_than_the_contact_lasted(pauses: list[float], changes: int) -> None:
    leases, now = Leases(), 0.0
    for number, pause in enumerate(pauses):
        now += pause
        leases = seen(leases, now, r1=min(changes, number))
        assert leases.contact is not None
        assert 0 <= leases.unchanged(1) <= now - leases.contact


@given(st.integers(1, 40))
def test_everybody_is_somebodys_neighbour(size: int) -> None:
    watched = [set(neighbours(rank, size)) for rank in range(size)]
    assert all(rank not in ring and len(ring) <= 2 for rank, ring in enumerate(watched))
    assert size == 1 or set().union(*watched) == set(range(size))
