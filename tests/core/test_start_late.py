"""Who has confirmed a gang and did not see it start, and what became of its rank meanwhile."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.core.unit import Unit
from tests.fakestore import StoreState
from unitagent.core.model import InstanceState
from unitagent.core.state import State, initial_state

CALM = {"backoff": (0.0,)}


def _unseen(unit: Unit, rank: int) -> State:
    """The agent of this rank as it was before it saw that all had confirmed the gang."""
    late = unit.agents[rank]
    roster = tuple(unit.store.board.records[one] for one in range(unit.size))
    idle = replace(late.me, state=InstanceState.IDLE, edition=late.me.edition + 1, pid=None)
    fresh = initial_state(late.config, idle, unit.now).with_store(
        joined=unit.now, ever_answered=True, published=idle, holder=idle.incarnation
    )
    fresh = replace(fresh, generation=1)
    return fresh.with_barrier(reached=late.barrier.reached, finding_port=1, confirmed=roster)


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


def test_without_guard_nobody_rejoins_a_leader_that_the_store_only_remembers() -> None:
    """Whoever was isolated saw rank 0 beat before. Its successor, if it has one, cannot say so."""
    unit = Unit(3, **CALM).formed()
    unit.cut = unit.silent = {2}
    unit.wait(8)
    assert unit.take() == ["2 stop 0"]
    unit.cut = unit.silent = {0, 1}
    unit.wait(4)
    assert unit.take() == []
    unit.cut = unit.silent = set()
    unit.wait(2)
    assert unit.take() == ["2 spawn 1"]
