"""How a Unit comes together, each story as the exact sequence of what its agents do."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from msgspec.structs import replace

from tests.core.unit import Unit
from unitagent.core import actions as act
from unitagent.core.config import Mode
from unitagent.core.events import (
    HealthChecked,
    Tick,
)
from unitagent.core.model import Beat, InstanceState, Reason
from unitagent.core.state import initial_state

CALM = {"backoff": (0.0,)}


def test_two_ranks_form_a_unit() -> None:
    unit = Unit(2)
    unit.create(0)
    unit.wait(3)
    assert unit.take() == []  # one of two: nothing starts
    unit.create(1)
    assert sorted(unit.take()) == ["0 spawn 1", "1 spawn 1"]
    assert unit.ready() == {0, 1}


def test_a_unit_of_one_is_a_unit_too() -> None:
    unit = Unit(1)
    unit.create(0)
    assert unit.take() == [], "a store that lost its memory shows nobody, and there is no peer to wait for"
    unit.wait(2)
    assert unit.take() == ["0 spawn 1"]
    assert unit.ready() == {0}


def test_a_unit_of_one_with_a_store_of_its_own_starts_at_once() -> None:
    unit = Unit(1, owns_store=True)
    unit.create(0)
    assert unit.take() == ["0 spawn 1"]


def test_a_free_rank_of_a_unit_that_runs_is_left_to_whoever_may_hold_it() -> None:
    unit = Unit(3, guard=True, backoff=()).formed()
    unit.kill(2)
    unit.store.wipe()
    unit.wait(1)
    unit.create(2, ip="10.9.9.9")
    unit.wait(4)
    assert not unit.agents[2].joined
    assert any("it may have lost its data" in text for text in unit.said)
    unit.wait(8)
    assert unit.ready() == {0, 1, 2}


def test_a_holder_that_the_store_forgets_is_asked_and_keeps_its_rank_while_it_answers() -> None:
    unit = Unit(3, guard=True, backoff=()).formed()
    holder = unit.agents[2].me.incarnation
    unit.kill(2)
    unit.create(2, ip="10.9.9.9")
    unit.wait(1)
    unit.elsewhere = {holder}
    unit.store.wipe()
    unit.wait(15)
    assert not unit.agents[2].joined
    unit.elsewhere = set()
    unit.wait(10)
    assert unit.agents[2].joined


def test_who_takes_the_place_of_one_that_ran_tells_that_the_unit_has_run() -> None:
    """It stands at a barrier as at the first one, and rank 0, which the store has forgotten, may live."""
    unit = Unit(2).formed()
    unit.cut = {0}
    unit.store.wipe()
    unit.wait(1.5)
    unit.kill(1)
    unit.create(1)
    assert unit.agents[1].joined
    unit.kill(0)
    unit.cut = set()
    unit.create(0, ip="10.9.9.9")
    unit.wait(5)
    assert not unit.agents[0].joined
    unit.wait(5)
    assert unit.ready() == {0, 1}
    assert unit.generations() == {2}


def test_all_ranks_get_the_same_table() -> None:
    unit = Unit(3).formed()
    gangs = {state.workload.gang for state in unit.agents.values()}
    assert len(gangs) == 1
    gang = gangs.pop()
    assert gang is not None
    assert (gang.master_address, gang.master_port) == ("10.0.0.0", 20001)
    assert gang.ips == ("10.0.0.0", "10.0.0.1", "10.0.0.2")


def test_no_workload_starts_while_an_old_process_lives() -> None:
    unit = Unit(2, guard=True, **CALM).formed()
    unit.slow = {1}
    unit.crash(0)
    unit.wait(4)
    assert unit.take() == ["0 stop 5", "1 stop 5"]
    unit.finish(1)
    assert sorted(unit.take()) == ["0 spawn 2", "1 spawn 2"]


def test_a_newcomer_waits_for_a_living_holder() -> None:
    unit = Unit(2).formed()
    holder = unit.agents.pop(1)
    unit.create(1, ip="10.0.0.9")
    for _ in range(40):
        newcomer, unit.agents[1] = unit.agents[1], holder
        unit.wait(0.5)
        holder, unit.agents[1] = unit.agents[1], newcomer
        unit.tell(1, Tick)
        assert not unit.agents[1].joined
    assert any("rank 1 of Unit u is held by another instance" in text for text in unit.said)


class _BackInTime(Unit):
    """The holder of a rank beats once more just before somebody takes its place."""

    def _exchange(self, rank: int, request: act.Exchange) -> None:
        if request.take:
            old, _ = self.store.board.beats[rank]
            self.store.board.beats[rank] = (Beat(old.incarnation, old.count + 1), self.now)
        super()._exchange(rank, request)


def test_nobody_takes_a_rank_from_a_holder_that_beats_in_that_very_moment() -> None:
    unit = _BackInTime(2).formed()
    unit.kill(1)
    unit.create(1, ip="10.0.0.9")
    unit.wait(30)
    assert not unit.agents[1].joined
    assert unit.store.board.holders[1] == "i2"


@pytest.mark.parametrize(("size", "advice"), [(1, "another UNIT_ID (UNIT_SIZE=1"), (2, "another RANK_ID")])
def test_who_waits_for_a_held_rank_is_told_what_to_do_instead(size: int, advice: str) -> None:
    unit = Unit(size).formed()
    unit.create(0, ip="10.0.0.9")
    assert any(f"if both are to run, give this one {advice}" in text for text in unit.said)


def test_who_lost_its_rank_is_fenced() -> None:
    unit = Unit(2).formed()
    unit.rival(1, beats=3)
    assert unit.take()[-2:] == ["1 stop 0", "1 quit 76"]


def test_who_has_left_fences_nobody() -> None:
    """A store that is set back, and forward again, shows its last heartbeats as if they had just come."""
    unit = Unit(2, guard=True)
    unit.create(1)
    board, old = unit.store.board, unit.store.board.records[1]
    for count in (1, 2, 3):
        board.records[1] = replace(
            old, incarnation="former", tenure=count * 10**15, ip="10.0.0.9", has_left=True
        )
        board.holders[1] = "former"
        board.beats[1] = (Beat("former", count), unit.now)
        unit.wait(1)
    assert unit.take() == []
    assert board.holders[1] == unit.agents[1].me.incarnation


def test_who_is_only_remembered_by_the_store_fences_nobody() -> None:
    unit = Unit(2, guard=True).formed()
    unit.rival(1, beats=1)
    unit.wait(10)
    assert unit.agents[1].joined
    assert unit.store.board.holders[1] == unit.agents[1].me.incarnation


def test_a_store_older_than_two_rebuilds_fences_nobody_and_is_noticed_by_nobody() -> None:
    unit = Unit(2, guard=True, backoff=()).formed()
    ancient = unit.store.copy()
    for _ in range(2):
        unit.kill(1)
        unit.create(1)
        unit.wait(3)
    unit.take()
    unit.store.restore(ancient)
    for _ in range(40):
        unit.wait(0.25)
        assert unit.ready() == {0, 1}
    assert unit.take() == []
    assert unit.store.board.holders[1] == unit.agents[1].me.incarnation


def test_a_later_taking_of_the_rank_has_a_higher_tenure() -> None:
    unit = Unit(2, guard=True).formed()
    unit.wait(6)
    first = unit.agents[1].me.tenure
    assert first >= 1000 * 100, "raised to the store's clock after a lease"
    unit.kill(1)
    unit.create(1)
    assert unit.agents[1].me.tenure > first


def test_ranks_that_count_the_unit_differently_end_with_77() -> None:
    unit = Unit(3)
    unit.create(0)
    unit.wait(2)
    unit.create(1, size=2)
    unit.wait(3)
    assert unit.codes == {1: 77}


def test_strict_ranks_that_differ_end_with_77() -> None:
    unit = Unit(2, strict=True)
    unit.create(0, fingerprint="command=aa")
    unit.create(1, fingerprint="command=bb")
    unit.wait(2)
    assert 77 in unit.codes.values()
    assert any("rank 1: command" in text for text in unit.said)


def test_revisions_wait_for_each_other() -> None:
    unit = Unit(2)
    unit.create(0, revision="a")
    unit.create(1, revision="b")
    unit.wait(10)
    assert unit.take() == []
    has = "has UNIT_REVISION=b, rank 0 has a: they wait for each other; with UNIT_STRICT=true"
    assert any(has in text for text in unit.said)


def test_strict_ranks_of_different_revisions_end_with_77() -> None:
    unit = Unit(3, strict=True)
    unit.create(0, revision="a")
    unit.wait(2)
    unit.create(1, revision="b")
    unit.create(2, revision="a")
    unit.wait(3)
    assert unit.codes == {1: 77}
    assert any("rank 0 (10.0.0.0) has UNIT_REVISION=a, rank 1 has b" in text for text in unit.said)
    unit.create(1, revision="a")
    unit.wait(1)
    assert unit.ready() == {0, 1, 2}


def test_strict_ranks_do_not_hear_of_a_revision_whose_agent_is_gone() -> None:
    unit = Unit(2, strict=True, guard=True)
    unit.create(0, 1, revision="a")
    for rank in (0, 1):
        unit.kill(rank)
    unit.create(0, revision="b")
    unit.create(1, revision="b")
    unit.wait(10)
    assert unit.codes == {}
    assert unit.ready() == {0, 1}


def test_ranks_that_differ_are_told_once_and_start() -> None:
    unit = Unit(3)
    for rank in range(3):
        unit.create(rank, fingerprint=f"command=aa NCCL_ALGO={rank // 2}")
    unit.wait(2)
    assert unit.ready() == {0, 1, 2}
    told = [text for text in unit.said if "must be equal" in text]
    sentence = (
        "these differ from rank 0's and must be equal on all ranks: rank 2: NCCL_ALGO; compare `unitagent "
        "env` and `printenv` of rank 2 with those of rank 0; UNIT_STRICT=true would refuse them (exit 77)"
    )
    assert told == [sentence] * 3


def test_both_values_of_a_setting_of_ours_are_told() -> None:
    unit = Unit(2, strict=True)
    unit.create(0, fingerprint="COMMAND=aa UNIT_GUARD=true UNIT_LEASE_SECONDS=5")
    unit.create(1, fingerprint="COMMAND=bb UNIT_GUARD=false UNIT_LEASE_SECONDS=5 UNIT_MODE=job")
    unit.wait(2)
    assert 77 in unit.codes.values()
    told = "rank 1: COMMAND, UNIT_GUARD=false (rank 0: true), UNIT_MODE=job (rank 0: unset); compare"
    assert any(told in text and "UNIT_STRICT=true refuses them" in text for text in unit.said)


def test_a_barrier_can_time_out() -> None:
    unit = Unit(2, barrier_timeout=5.0)
    unit.create(0)
    unit.wait(7)
    assert unit.codes == {0: 124}


def test_a_store_that_was_never_reached_ends_with_69() -> None:
    unit = Unit(2, store_timeout=5.0)
    unit.cut = {0}
    unit.create(0)
    unit.wait(6)
    assert unit.codes == {0: 69}


def test_rank_0_is_ready_when_its_health_check_passes() -> None:
    unit = Unit(2, health=True, guard=True, **CALM)
    unit.create(0, 1)
    unit.wait(1)
    assert unit.ready() == set()
    unit.tell(0, HealthChecked, True)
    unit.wait(1)
    assert unit.ready() == {0, 1}
    unit.tell(0, HealthChecked, False, "timed out")
    failure = unit.agents[0].recovery.failure
    assert failure is not None
    assert failure.reason is Reason.UNHEALTHY
    assert unit.generations() == {2}


def test_a_start_that_takes_too_long_has_failed() -> None:
    unit = Unit(2, health=True, guard=True, startup=5.0, **CALM)
    unit.create(0, 1)
    unit.wait(6)
    failure = unit.agents[1].recovery.failure
    assert failure is not None
    assert failure.reason is Reason.STARTUP_TIMEOUT
    assert unit.generations() == {2}


def test_a_store_that_is_not_reached_is_told_with_the_cause_whenever_that_changes() -> None:
    unit = Unit(1, store_timeout=10.0)
    unit.cut.add(0)
    unit.create(0)
    unit.trouble = "nobody listens at 10.0.0.9:6379"
    unit.wait(5)
    unit.trouble = "wrong password"
    unit.wait(6)
    told = [text for text in unit.said if "the store has not been reached" in text]
    assert [text.partition("SECONDS): ")[2] for text in told] == [
        "nobody listens at 10.0.0.9:6379",
        "wrong password",
    ]
    assert unit.said[-1].endswith("within 10 s (UNIT_STORE_TIMEOUT_SECONDS): wrong password")
    assert unit.codes == {0: 69}


def test_without_patience_for_the_store_there_is_one_try() -> None:
    unit = Unit(1, store_timeout=0.0)
    unit.cut.add(0)
    unit.create(0)
    unit.wait(1)
    assert unit.codes == {0: 69}
    other = Unit(1, store_timeout=0.0, owns_store=True)
    other.create(0)
    other.wait(1)
    assert other.ready() == {0}


@pytest.mark.parametrize("slow", [0, 1])
@pytest.mark.parametrize("guard", [False, True])
def test_a_job_that_ends_at_once_is_done_by_who_sees_its_start_late(slow: int, guard: bool) -> None:
    unit = Unit(2, mode=Mode.JOB, guard=guard)
    unit.create(0, 1)
    late = unit.agents[slow]
    assert late.workload.gang is not None
    idle = replace(late.me, state=InstanceState.IDLE, edition=late.me.edition + 1, pid=None)
    unit.crash(1 - slow, 0)
    unit.finish(1 - slow)
    unit.take()
    fresh = initial_state(late.config, idle, unit.now).with_store(
        joined_at=unit.now, ever_answered=True, published=idle, holder=idle.incarnation
    )
    unit.agents[slow] = replace(fresh, generation=1).with_barrier(
        reached_at=late.barrier.reached_at, finding_port=1
    )
    unit.store.board.records[slow] = idle
    unit.wait(2)
    assert unit.take() == [f"{slow} spawn 1"]


def test_without_guard_who_has_yet_to_see_its_gang_start_starts_with_it_though_a_member_was_rebuilt() -> None:
    unit = Unit(3, guard=False).formed()
    late = unit.agents[0]
    roster = tuple(unit.store.board.records[rank] for rank in range(3))
    idle = replace(late.me, state=InstanceState.IDLE, edition=late.me.edition + 1, pid=None)
    fresh = initial_state(late.config, idle, unit.now).with_store(
        joined_at=unit.now, ever_answered=True, published=idle, holder=idle.incarnation
    )
    unit.agents[0] = replace(fresh, generation=1).with_barrier(
        reached_at=late.barrier.reached_at, finding_port=1, confirmed_members=roster
    )
    unit.store.board.records[0] = idle
    unit.kill(2)
    unit.create(2)
    unit.wait(12)
    assert unit.take() == ["0 spawn 1", "2 spawn 1"]
    assert unit.ready() == {0, 1, 2}


def test_a_claim_that_the_store_lost_is_given_up_when_another_has_the_rank() -> None:
    unit = Unit(2, claimed=True, **CALM)
    unit.create(0)
    unit.create(1)
    unit.wait(2)
    first = unit.agents.pop(1)
    unit.agents[1] = first
    late = Unit(2, claimed=True, **CALM)
    late.store, late.now = unit.store, unit.now
    late.elsewhere = {first.me.incarnation}
    late._lives = 7
    late.create(1, ip="10.0.0.9")
    for _ in range(12):
        unit.wait(0.5)
        late.wait(0.5)
    assert late.codes == {1: 76}
    assert "started again, it stands by or claims another" in late.said[-1]
    assert unit.ready() == {0, 1}


class Deaf(Unit):
    """A Unit whose rank 0 misses what wakes the others, once it has confirmed a gang."""

    def _others(self, rank: int) -> Iterable[int]:
        return (other for other in super()._others(rank) if other != 0 or not self.agents[0].me.gang)


def test_a_barrier_times_out_only_as_the_store_shows_it_now() -> None:
    """The others have started, and rank 0 has yet to look (seed 50355 of the critical moments)."""
    unit = Deaf(3, guard=True, lease=60.0, heartbeat=20.0, barrier_timeout=15.0)
    unit.create(0, 1)
    unit.wait(9)
    unit.create(2)
    unit.wait(30)
    assert unit.codes == {}
    assert unit.ready() == {0, 1, 2}
