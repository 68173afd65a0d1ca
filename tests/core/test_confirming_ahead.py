"""A restart of the same instances goes through the store once: each confirms the gang with the record that
enters its generation, and what a record says only for a moment is not written.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.unit import Unit
from unitagent.core import actions as act
from unitagent.core.events import PortFound, Tick
from unitagent.core.model import InstanceState, Record


class Written(Unit):
    """Keeps what the agents write, and who has found rank 0's next port in use."""

    def __init__(self, size: int, **rules: Any) -> None:
        super().__init__(size, **rules)
        self.written: list[Record] = []
        self.taken = 0

    def _exchange(self, rank: int, request: act.Exchange) -> None:
        if request.record is not None and request.record != self.store.board.records.get(rank):
            self.written.append(request.record)
        super()._exchange(rank, request)

    def _do(self, rank: int, action: act.Action) -> None:
        if isinstance(action, act.FindPort) and self.taken:
            self._put(rank, PortFound, action.generation, self.taken, self.taken + 10)
        else:
            super()._do(rank, action)

    def formed(self) -> Written:
        super().formed()
        self.written.clear()
        return self

    def told(self) -> dict[int, list[tuple[InstanceState, int, bool]]]:
        """What each rank wrote: its state, its generation, and whether it confirmed a gang."""
        return {
            rank: [(one.state, one.generation, bool(one.gang)) for one in self.written if one.rank == rank]
            for rank in range(self.size)
        }

    def shown(self, rank: int) -> InstanceState:
        """The state of a rank as the store has it."""
        return self.store.board.records[rank].state

    def ports(self) -> set[int]:
        """The master ports with which the workloads run."""
        gangs = (state.workload.gang for state in self.agents.values())
        return {gang.master_port for gang in gangs if gang is not None}


@pytest.mark.parametrize("size", [2, 3, 8, 33])
def test_each_member_enters_and_confirms_in_one_record(size: int) -> None:
    unit = Written(size, guard=True).formed()
    unit.crash(size - 1)
    assert sorted(unit.take()) == sorted(
        [f"{rank} {word}" for rank in range(size) for word in ("stop 5", "spawn 2")]
    )
    assert unit.ready() == set(range(size))
    moments = [one for one in unit.written if one.state is InstanceState.STARTING]
    assert len(moments) <= 1  # of whoever wakes the others up
    unit.written = [one for one in unit.written if one not in moments]
    for rank, told in unit.told().items():
        ended = [(InstanceState.EXITED, 1, True)] if rank == size - 1 else []
        last = InstanceState.RUNNING if rank else InstanceState.HEALTHY
        assert told[len(ended) :] == [(InstanceState.IDLE, 2, True), (last, 2, True)]


def test_a_port_that_is_in_use_by_then_costs_one_more_round() -> None:
    unit = Written(3, guard=True, backoff=(0.0,)).formed()
    unit.taken = 25000
    unit.crash(2)
    assert unit.ports() == {25000}
    assert sorted(word for word in unit.take() if "spawn" in word) == ["0 spawn 2", "1 spawn 2", "2 spawn 2"]
    unit.taken = 0
    unit.crash(1)
    assert unit.ports() == {20003}
    assert unit.generations() == {3}


def test_a_rebuilt_member_is_confirmed_by_those_who_saw_it() -> None:
    unit = Written(3, guard=True).formed()
    unit.kill(2)
    unit.create(2)
    unit.wait(8)
    assert unit.ready() == {0, 1, 2}
    assert unit.generations() == {2}
    assert sorted(word for word in unit.take() if "spawn" in word) == ["0 spawn 2", "1 spawn 2", "2 spawn 2"]
    new = unit.agents[2].me.incarnation
    assert all(state.workload.gang.incarnations[2] == new for state in unit.agents.values())  # type: ignore[union-attr]


def test_nobody_confirms_before_the_pause_is_over() -> None:
    unit = Written(3, guard=True, backoff=(2.0,)).formed()
    unit.crash(1)
    assert not any(one.gang for one in unit.written if one.generation == 2)  # the pause comes first
    unit.wait(3)
    assert unit.ready() == {0, 1, 2}


def test_a_stop_that_takes_time_is_written() -> None:
    unit = Written(2, guard=True).formed()
    unit.slow.add(0)
    unit.crash(1)
    assert unit.shown(0) is InstanceState.HEALTHY
    unit.wait(0.25)
    assert unit.shown(0) is InstanceState.STOPPING
    unit.finish(0)
    assert unit.ready() == {0, 1}


def test_who_comes_back_to_a_barrier_waits_for_a_heartbeat_of_the_others() -> None:
    """A store that was set back shows what they confirmed once; they may run with another rank 0 now (found
    by random faults: rank 0 cut off and replaced, store set back, all workloads killed).
    """
    unit = Unit(3, guard=True).formed()
    unit.slow = {0}
    unit.crash(1)
    unit.take()
    unit.cut = {0}
    unit.finish(0)
    unit.wait(2)
    unit.cut = set()
    unit.now += 0.25
    unit.tell(0, Tick)
    assert unit.agents[0].connected
    assert "0 spawn 2" not in unit.take()
    unit.wait(2)
    assert "0 spawn 2" in unit.take()
