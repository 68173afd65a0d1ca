"""What a barrier costs grows no faster than its ranks: each rank exchanges as often in a large Unit as in a
small one, and all are woken up as rarely.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.core.unit import Unit
from unitagent.core import actions as act
from unitagent.core.events import StoreFailed

SMALL, LARGE = 32, 128
MOST_PUSHES = 4  # the failure, the last arrival, the last confirmation, the last start
MOST_EXCHANGES = 12  # of a rank: what it writes, what it is woken for, and a heartbeat or two


class Counted(Unit):
    """Counts exchanges, and those that wake all others up.

    Attributes:
        deaf: ranks that hear no answer to what they write at the barrier of generation 2.

    """

    def __init__(self, size: int, **rules: Any) -> None:
        super().__init__(size, **rules)
        self.counts: Counter[str] = Counter()
        self.deaf: set[int] = set()

    def formed(self) -> Counted:
        super().formed()
        return self

    def _exchange(self, rank: int, request: act.Exchange) -> None:
        self.counts["exchanges"] += 1
        self.counts["pushes"] += request.notify
        if rank in self.deaf and request.record is not None and request.record.generation > 1:
            self.store.exchange(rank, request.record.incarnation, request, self.now)
            self._put(rank, StoreFailed, "its answer was lost")
        else:
            super()._exchange(rank, request)


def form(unit: Counted) -> None:
    unit.create(*range(unit.size))


def lose_a_workload(unit: Counted) -> None:
    unit.crash(unit.size // 2)


def lose_an_instance(unit: Counted) -> None:
    unit.kill(unit.size // 2)
    unit.create(unit.size // 2)


def count(size: int, *steps: Callable[[Counted], None]) -> Counter[str]:
    """What the last step costs, until all serve again."""
    unit = Counted(size, guard=True, backoff=(0.0,))
    for step in steps:
        unit.counts.clear()
        step(unit)
        unit.wait(1.25)
        assert unit.ready() == set(range(size))
    return unit.counts


@pytest.mark.parametrize(
    "steps",
    [(form,), (form, lose_a_workload), (form, lose_an_instance)],
    ids=lambda steps: steps[-1].__name__,
)
def test_each_rank_exchanges_as_often_and_few_changes_wake_all_others(
    steps: tuple[Callable[[Counted], None], ...],
) -> None:
    small, large = (count(size, *steps) for size in (SMALL, LARGE))
    assert max(small["pushes"], large["pushes"]) <= MOST_PUSHES
    assert large["exchanges"] / LARGE <= small["exchanges"] / SMALL + 1
    assert large["exchanges"] / LARGE <= MOST_EXCHANGES


def test_who_writes_again_what_the_store_has_wakes_nobody() -> None:
    """The store has rank 2's record, and its answer was lost; rank 0 came after it."""
    unit = Counted(3, guard=True, backoff=(2.0,)).formed()
    unit.deaf = {2}
    unit.crash(1)
    unit.deaf.clear()
    assert not unit.agents[2].connected
    unit.counts.clear()
    unit.wait(1)
    assert unit.agents[2].connected
    assert unit.counts["exchanges"] > 0
    assert unit.counts["pushes"] == 0
    unit.wait(2)
    assert unit.ready() == {0, 1, 2}
