"""Who has confirmed a gang and did not see it start, and what became of its rank meanwhile."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.core.unit import Unit
from tests.fakestore import Board, StoreState
from unitagent.core import actions as act
from unitagent.core.config import Mode
from unitagent.core.model import Beat, InstanceState
from unitagent.core.state import State, initial_state

CALM = {"backoff": (0.0,)}


def _unseen(unit: Unit, rank: int) -> State:
    """The agent of this rank as it was before it saw that all had confirmed the gang."""
    late = unit.agents[rank]
    roster = tuple(unit.store.board.records[one] for one in range(unit.size))
    idle = replace(late.me, state=InstanceState.IDLE, edition=late.me.edition + 1, pid=None)
    fresh = initial_state(late.config, idle, unit.now).with_store(
        joined_at=unit.now, ever_answered=True, published=idle, holder=idle.incarnation
    )
    fresh = replace(fresh, generation=1)
    return fresh.with_barrier(reached_at=late.barrier.reached_at, finding_port=1, confirmed_members=roster)


def test_without_guard_who_slept_through_the_start_leaves_its_rank_to_its_successor() -> None:
    """The successor runs, and is cut off from the store and from whoever slept."""
    unit = Unit(3, **CALM).formed()
    late = _unseen(unit, 1)
    unit.kill(1)
    unit.create(1, ip="10.0.0.9")
    unit.wait(12)
    assert unit.take() == ["1 spawn 1"]
    successor = unit.agents[1]
    unit.silent = {1}
    unit.agents[1] = late
    unit.wait(5)  # and not the time after which a silent holder's rank may be taken
    assert successor.up
    assert unit.take() == []


def test_without_guard_a_generation_that_died_before_rank_0_saw_it_open_is_followed_by_another() -> None:
    """Rank 0 is cut off as all have confirmed, one member dies, and one is isolated (seed 60009551)."""
    unit = Unit(3, **CALM).formed()
    late = _unseen(unit, 0)
    unit.cut = unit.silent = {0, 1, 2}
    unit.wait(8)
    assert not any(unit.agents[rank].up for rank in range(3))
    unit.kill(1)
    unit.store = StoreState()
    unit.agents[0] = late
    unit.cut = unit.silent = set()
    unit.create(1, ip="10.0.0.9")
    unit.wait(30)
    assert unit.ready() == {0, 1, 2}
    assert unit.generations() == {2}


@pytest.mark.parametrize("guard", [False, True])
def test_nobody_starts_late_with_what_the_store_only_remembers(guard: bool) -> None:
    """The store was set back to when the others had started; they have gone on, and cannot say so."""
    unit = Unit(3, guard=guard, **CALM).formed()
    late = _unseen(unit, 1)
    unit.cut = unit.silent = {0, 2}
    unit.agents[1] = late
    unit.wait(4)
    assert unit.take() == []
    unit.cut = unit.silent = set()
    unit.wait(2)
    assert unit.take() == ["1 spawn 1"]


def test_who_has_never_started_waits_for_a_heartbeat_after_an_outage_at_an_earlier_barrier() -> None:
    """The others have confirmed the next gang with it; they may have given that up, and cannot say so."""
    unit = Unit(3, guard=True, **CALM).formed()
    late = _unseen(unit, 1)
    unit.kill(1)
    unit.crash(2)
    unit.take()
    unit.cut = unit.silent = {0, 2}
    unit.agents[1] = late
    unit.wait(4)
    assert unit.agents[1].me.generation == 2
    assert unit.take() == []
    unit.cut = unit.silent = set()
    unit.wait(2)
    assert sorted(unit.take()) == ["0 spawn 2", "1 spawn 2", "2 spawn 2"]


class Forgetful(Unit):
    """Its store is set back as soon as rank 1 starts, and this rank cannot reach it then."""

    then: Board | None = None
    away = 0

    def _do(self, rank: int, action: act.Action) -> None:
        if isinstance(action, act.Spawn) and self.then is not None and rank == 1:
            self.store.restore(self.then)
            self.then, self.cut = None, {self.away}
        super()._do(rank, action)


def test_without_guard_nobody_waits_for_a_rebuilt_member_that_the_store_forgets() -> None:
    """It had yet to start when another one rejoined. The store shows again whom it replaced, and who runs
    (seed 10884 of the critical moments).
    """
    unit = Forgetful(3, **CALM)
    unit.formed()
    board = unit.store.board
    unit.then, unit.away = board.copy(), 2
    unit.cut, unit.elsewhere = {2}, {"newer"}
    board.records[2] = replace(
        board.records[2], incarnation="newer", tenure=10**15, ip="10.0.0.9", gang="", state=InstanceState.IDLE
    )
    board.holders[2], board.beats[2] = "newer", (Beat("newer", 1), unit.now)
    unit.kill(1)
    unit.create(1)
    unit.wait(3)
    assert unit.take() == ["1 spawn 1"]
    unit.cut, unit.elsewhere = set(), set()
    unit.wait(12)
    assert unit.take() == []
    assert unit.ready() == {0, 1, 2}


def test_a_store_that_shows_whom_rank_0_has_followed_at_its_address_restarts_nobody() -> None:
    """The others heard that one beat in their present contact, before it was rebuilt (seed 20292 of the
    critical moments).
    """
    unit = Forgetful(3, guard=True, **CALM)
    unit.formed()
    unit.then = unit.store.copy()
    unit.kill(0)
    unit.create(0)
    unit.wait(3)
    unit.cut = set()
    unit.wait(3)
    assert unit.generations() == {2}
    assert unit.ready() == {0, 1, 2}


def test_without_guard_nobody_rejoins_a_leader_that_the_store_only_remembers() -> None:
    """Whoever was isolated saw rank 0 beat before. Its successor, if it has one, cannot say so."""
    unit = Unit(3, lease=20.0, **CALM).formed()
    unit.cut = unit.silent = {2}
    unit.wait(21)
    assert unit.take() == ["2 stop 0"]
    unit.cut = unit.silent = {0, 1}
    unit.wait(4)
    assert unit.take() == []
    unit.cut = unit.silent = set()
    unit.wait(3)
    assert unit.take() == ["2 spawn 1"]


def test_nobody_starts_with_an_earlier_holder_while_the_later_one_may_run() -> None:
    """The store is set back to when the earlier one stood at its first barrier, and the later one hangs: only
    its watchdog ends its workload (seed 40412 of the critical moments).
    """
    unit = Unit(2, guard=True, **CALM)
    unit.create(1)
    earlier, board = unit.agents[1], unit.store.copy()
    unit.kill(1)
    unit.create(1)
    unit.create(0)
    unit.wait(10)
    assert unit.ready() == {0, 1}
    unit.take()
    unit.kill(1)
    unit.store.restore(board)
    unit.agents[1] = earlier
    unit.wait(1)
    unit.crash(0)
    unit.wait(6)
    assert [did for did in unit.take() if "spawn" in did] == []
    assert any("that held rank 1, and its workload may still run" in one for one in unit.said)
    unit.wait(6)
    assert sorted(unit.take()) == ["0 spawn 2", "1 spawn 2"]


def test_nobody_starts_with_a_member_that_confirmed_and_was_lost_since() -> None:
    """All stood there, and waited for the end of a pause (seed 42637 of the critical moments)."""
    unit = Unit(3, guard=True, **CALM)
    unit.create(0)
    unit.pause(60)
    unit.create(1, 2)
    unit.wait(5)
    unit.kill(1)
    unit.wait(60)
    assert unit.take() == []
    assert any("rank 1 (10.0.0.1) lost for" in one for one in unit.said)
    unit.create(1)
    unit.wait(2)
    assert sorted(unit.take()) == ["0 spawn 1", "1 spawn 1", "2 spawn 1"]


def test_a_member_whose_confirmation_the_store_lost_may_have_yet_to_start() -> None:
    """All had seen it; asked, it says that it has no workload (seed 50897 of the critical moments)."""
    unit = Unit(3, guard=True, **CALM)
    unit.create(0, 1, 2)
    late = _unseen(unit, 2)
    lost = replace(late.me, gang="", edition=1)
    unit.agents[2], unit.store.board.records[2] = late, lost
    for rank in (0, 1):
        records = {**unit.agents[rank].store.records, 2: lost}
        unit.agents[rank] = unit.agents[rank].with_store(records=records)
    unit.take()
    unit.cut = {2}
    unit.wait(3)
    for rank in (0, 1):  # as if they had started only now
        unit.agents[rank] = unit.agents[rank].with_workload(spawned=unit.now)
    unit.wait(4)
    unit.cut = set()
    unit.wait(2)
    assert unit.take() == ["2 spawn 1"]
    assert unit.ready() == {0, 1, 2}


def test_a_job_that_finished_without_a_rebuilt_member_starts_again_with_all() -> None:
    """Rank 0 had confirmed that gang and did not see it start (seed 56034 of the critical moments)."""
    unit = Unit(3, mode=Mode.JOB, **CALM)
    unit.create(0, 1, 2)
    late = _unseen(unit, 0)
    unit.crash(1, 0)
    unit.kill(2)
    unit.agents[0] = late
    unit.create(2, ip="10.0.0.9")
    unit.wait(30)
    assert sorted(did for did in unit.take() if "spawn 2" in did) == ["0 spawn 2", "1 spawn 2", "2 spawn 2"]


def test_a_unit_of_one_starts_after_an_outage_when_no_other_claims_its_rank() -> None:
    """Another one may have taken it, which a store that was set back forgot, and it has a heartbeat to write
    itself back (seed 56755 of the critical moments).
    """
    unit = Unit(1, **CALM).formed()
    late = _unseen(unit, 0)
    unit.agents[0] = late
    unit.wait(1)
    assert unit.take() == []
    unit.wait(2)
    assert unit.take() == ["0 spawn 1"]


def test_a_claim_from_before_an_outage_may_have_a_successor() -> None:
    """Its answer was lost, and the store shows it once more (seed 82675 of the critical moments)."""
    unit = Unit(2, **CALM).formed()
    late, board = unit.agents[1], unit.store.board
    claim = replace(late.me, state=InstanceState.WAITING, generation=0, gang="", master_port=0, pid=None)
    fresh = initial_state(late.config, claim, unit.now).with_store(ever_answered=True)
    unit.agents[1] = fresh.with_barrier(reached_at=late.barrier.reached_at)
    board.records[1] = claim
    unit.wait(1)
    assert unit.take() == []
    unit.wait(2)
    assert unit.take() == ["1 spawn 1"]


def test_without_guard_the_record_of_an_instance_with_a_larger_size_keeps_nobody_out() -> None:
    """It has come and gone (seed 820007650)."""
    unit = Unit(2, **CALM).formed()
    odd = replace(
        unit.store.board.records[1], rank=2, size=3, incarnation="odd", ip="10.0.0.9", has_left=True
    )
    unit.store.board.records[2] = odd
    unit.kill(1)
    unit.create(1)
    unit.wait(4)
    assert unit.take() == ["1 spawn 1"]
