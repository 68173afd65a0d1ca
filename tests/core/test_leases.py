from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from unitagent.core.leases import Leases, find_neighbours
from unitagent.core.model import Beat

GAP = 2.5


def seen(leases: Leases, now: float, *, age: float = 0.0, **counts: int) -> Leases:
    """``a=7`` is beat 7 of incarnation ``a``, which the store shows at rank 1; ``b`` and others at rank 2."""
    beats = {1 if name == "a" else 2: Beat(name, count, age) for name, count in counts.items()}
    return leases.after_reply(beats, now, GAP)


def turned(leases: Leases, now: float, name: str, count: int, *, keep: tuple[str, ...] = ()) -> Leases:
    """The store shows ``name`` in the place of rank 1."""
    return leases.after_reply({1: Beat(name, count)}, now, GAP, keep=keep)


def test_a_beat_that_stands_still_is_counted_from_its_last_change() -> None:
    leases = seen(seen(seen(Leases(), 0, a=1), 1, a=2), 2, a=2)
    assert leases.seconds_unchanged("a") == 1


def test_time_in_which_the_store_was_not_heard_is_no_evidence() -> None:
    leases = seen(seen(Leases(), 0, a=1), 2, a=1)
    assert leases.seconds_unchanged("a") == 2
    asleep = seen(leases, 100, a=1)
    assert asleep.seconds_unchanged("a") == asleep.seconds_silent("a") == 0
    assert seen(asleep, 102, a=1).seconds_unchanged("a") == 2


def test_after_a_broken_contact_judging_starts_anew() -> None:
    leases = seen(seen(Leases(), 0, a=1), 2, a=1).after_lost_contact()
    assert leases.seconds_unchanged("a") == leases.seconds_silent("a") == 0
    assert seen(leases, 3, a=1).seconds_unchanged("a") == 0


def test_a_rank_that_the_store_forgot_has_a_lease_to_come_back() -> None:
    leases = seen(seen(seen(Leases(), 0, a=1), 2, a=1), 4)
    assert leases.seconds_unchanged("a") == leases.seconds_silent("a") == 0
    assert seen(leases, 6).seconds_unchanged("a") == 2
    assert seen(leases, 6, a=2).seconds_unchanged("a") == 0


def test_who_was_lost_before_the_store_forgot_it_is_lost_still() -> None:
    leases = seen(seen(seen(Leases(), 0, a=1, b=1), 2, a=1, b=2), 4, a=1, b=3)
    forgot = leases.after_reply({}, 6, GAP, lost_after=3)
    assert (forgot.seconds_unchanged("a"), forgot.seconds_unchanged("b")) == (6, 0)


def test_a_beat_that_goes_back_is_no_sign_of_life() -> None:
    leases = seen(seen(seen(Leases(), 0, a=6), 1, a=7), 3, a=6)
    assert leases.seconds_unchanged("a") == 2
    assert seen(leases, 3.5, a=7).seconds_unchanged("a") == 2.5  # no more than what I saw before
    assert seen(leases, 4, a=8).seconds_unchanged("a") == 0


def test_a_later_beat_that_the_store_remembers_again_is_no_sign_of_life() -> None:
    leases = seen(seen(seen(Leases(), 0, a=7), 2, a=3), 4, a=8, age=30)
    assert not leases.is_beating("a")
    assert seen(leases, 6, a=9, age=1).is_beating("a")


def test_who_comes_with_a_heartbeat_from_before_my_last_look_is_the_stores_memory() -> None:
    """The store was set back since: it did not show it then (seed 51326 of the critical moments)."""
    leases = seen(seen(Leases(), 9, a=1), 10, a=2)
    assert seen(leases, 11, age=0.5, a=2, b=5).is_present("b")
    remembered = seen(leases, 11, age=4, a=2, b=5)
    assert not remembered.is_present("b")
    assert seen(remembered, 12, age=0.5, a=2, b=6).is_present("b")


def test_who_comes_back_as_the_store_remembered_it_is_not_present() -> None:
    """It was shown in this contact, and forgotten (seed 57359 of the critical moments)."""
    leases = seen(seen(seen(Leases(), 0, a=1, b=7), 1, a=2, b=7), 2, a=3)
    assert not seen(leases, 3, a=4, b=7).is_present("b")
    assert seen(leases, 3, a=4, b=8).is_present("b")


def test_who_is_shown_in_anothers_place_has_a_lease_of_its_own() -> None:
    leases = turned(seen(seen(Leases(), 0, a=1), 2, a=1), 3, "b", 1)
    assert leases.seconds_unchanged("b") == 0
    assert not leases.was_alive("b")
    assert leases.is_unknown("a")


def test_a_store_that_shows_another_and_then_the_first_again_makes_nobody_younger() -> None:
    leases = seen(seen(Leases(), 0, a=7), 1, a=8)
    leases = turned(leases, 2, "b", 1, keep=("a",))
    leases = turned(leases, 4, "a", 8, keep=("a", "b"))
    assert leases.seconds_unchanged("a") == 2  # from when the store ceased to show it
    assert not leases.is_beating("b")


def test_a_former_holder_is_remembered_only_where_it_is_to_be_kept() -> None:
    leases = seen(seen(Leases(), 0, a=1), 1, a=2)
    kept, forgotten = turned(leases, 2, "b", 1, keep=("a",)), turned(leases, 2, "b", 1)
    former = kept.find_hidden(1, besides="b")
    assert former is not None
    assert (former.count, former.unchanged_since, former.shown) == (2, 2, False)
    assert kept.find_hidden(1, besides="a") is None  # the other one is shown
    assert kept.find_hidden(2, besides="b") is None
    assert forgotten.find_hidden(1, besides="b") is None
    assert leases.find_hidden(1, besides="b") is None


def test_the_last_of_the_former_holders_is_told() -> None:
    leases = seen(Leases(), 0, a=1)
    leases = turned(leases, 1, "b", 1, keep=("a",))
    leases = turned(leases, 2, "c", 1, keep=("a", "b"))
    former = leases.find_hidden(1, besides="c")
    assert former is not None
    assert former == leases.by_incarnation["b"]


def test_alive_is_who_was_seen_to_beat() -> None:
    leases = seen(Leases(), 0, a=1)
    assert not leases.was_alive("a")
    assert seen(leases, 1, a=2).was_alive("a")


def test_only_a_count_that_grew_in_this_contact_is_living_evidence() -> None:
    leases = seen(Leases(), 0, a=1)
    assert not leases.is_beating("a")  # a store remembers the dead as well
    leases = seen(leases, 1, a=2)
    assert leases.is_beating("a")
    assert not leases.after_lost_contact().is_beating("a")
    again = seen(leases.after_lost_contact(), 2, a=2)
    assert again.was_alive("a")
    assert not again.is_beating("a")
    assert not seen(leases.after_lost_contact(), 2, a=3).is_beating(
        "a"
    )  # it may have grown while I did not look
    assert seen(again, 3, a=3).is_beating("a")


def test_silence_begins_when_the_store_got_the_beat() -> None:
    leases = seen(seen(Leases(), 0, a=1), 2, a=2, age=1.5)
    assert leases.seconds_unchanged("a") == 0
    assert leases.seconds_silent("a") == 1.5
    assert leases.seconds_since_beat("a", 3) == 2.5
    assert seen(leases, 4, a=2, age=99).seconds_silent("a") == 3.5  # of a known beat its age is no news


def test_no_clock_of_the_store_tells_of_more_than_the_time_since_i_looked_last() -> None:
    leases = seen(seen(seen(Leases(), 0, a=1), 2, a=1), 4, a=2, age=3600)
    assert leases.seconds_silent("a") == 2
    assert leases.seconds_unchanged("a") == 0


def test_a_store_whose_clock_was_set_back_makes_no_beat_later_than_now() -> None:
    leases = seen(seen(Leases(), 0, a=1), 2, a=2, age=-3600)
    assert leases.seconds_silent("a") == 0
    assert leases.seconds_since_beat("a", 2) == 0
    assert seen(leases, 4, a=2).seconds_silent("a") == 2


def test_the_first_look_at_a_beat_tells_nothing_of_how_old_it_is() -> None:
    assert seen(Leases(), 0, a=1, age=3600).seconds_silent("a") == 0
    assert seen(seen(Leases(), 0), 2, a=1, age=3600).seconds_silent("a") == 0


def test_a_beat_turns_old_once() -> None:
    leases = seen(seen(Leases(), 0, a=1), 2, a=2, age=1)  # written at 1
    assert not leases.has_reached_age("a", 3, 3.9)
    assert leases.has_reached_age("a", 3, 4)
    assert not seen(leases, 4, a=2).has_reached_age("a", 3, 4.5)  # I have looked since
    assert not seen(leases, 3.5, a=3).has_reached_age("a", 3, 4)
    assert not leases.after_lost_contact().has_reached_age("a", 3, 4)
    assert not leases.has_reached_age("b", 3, 4)


def test_nobody_is_late_who_was_never_seen() -> None:
    assert Leases().seconds_unchanged("a") == Leases().seconds_silent("a") == 0
    assert Leases().seconds_since_beat("a", 5.0) is None
    assert Leases().is_unknown("a")
    assert not seen(Leases(), 0, a=1).is_unknown("a")


def test_of_whom_i_could_not_see_i_know_nothing() -> None:
    leases = seen(seen(Leases(), 0, a=1, b=1), 2, a=1, b=1).drop_incarnations(["a"])
    assert leases.is_unknown("a")
    assert leases.seconds_unchanged("b") == 2


LOOKS = st.lists(st.tuples(st.floats(0, 2), st.integers(0, 3), st.floats(-10, 1e9)), min_size=1)


@given(LOOKS)
def test_nobody_is_late_by_more_than_the_contact_lasted(looks: list[tuple[float, int, float]]) -> None:
    """Whatever the store shows, and whatever its clock says."""
    leases, now = Leases(), 0.0
    for pause, count, age in looks:
        now += pause
        leases = seen(leases, now, a=count, age=age)
        assert leases.contact_since is not None
        assert 0 <= leases.seconds_unchanged("a") <= leases.seconds_silent("a") <= now - leases.contact_since
        assert (
            leases.seconds_silent("a") - leases.seconds_unchanged("a") <= 2 + 1e-9
        )  # the longest time between two looks


@given(st.integers(1, 40))
def test_everybody_is_somebodys_neighbour(size: int) -> None:
    watched = [set(find_neighbours(rank, size)) for rank in range(size)]
    assert all(rank not in ring and len(ring) <= 2 for rank, ring in enumerate(watched))
    assert size == 1 or set().union(*watched) == set(range(size))


def test_a_member_that_the_store_forgot_before_it_showed_it_has_a_lease_to_write_again() -> None:
    leases = Leases()
    for second in range(4):
        leases = leases.after_reply({1: Beat("before it", 5)}, 10.0 + second, 3.0, keep=("member",))
        leases = leases.add_missing({1: "member", 2: "unread"}, {1})
    assert leases.seconds_unchanged("member") == 3.0
    assert leases.is_unknown("unread")
