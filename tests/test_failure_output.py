"""The last lines of a failed workload reach the store, also one that fails at first."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from tests.core.unit import Unit
from unitagent.agent.history_writer import FailureOutput
from unitagent.errors import StoreError


class Failing:
    """A store that does not take the first lines that it is given."""

    def __init__(self) -> None:
        self.tries: list[tuple[int, int, Sequence[str]]] = []

    async def put_output(self, generation: int, rank: int, lines: Sequence[str]) -> None:
        self.tries.append((generation, rank, lines))
        if len(self.tries) == 1:
            raise StoreError("the store does not answer in time")


def test_lines_that_the_store_did_not_take_are_offered_once_more() -> None:
    unit, store = Unit(2, guard=True).formed(), Failing()
    output = FailureOutput(cast("Any", store))
    output.remember_tail(1, ["the last words"])
    unit.crash(1)
    unit.wait(1)
    for _ in range(3):
        if (lines := output.take_output(unit.agents[1])) is not None:
            asyncio.run(output.store_output(lines))
    assert store.tries == [(1, 1, ("the last words",))] * 2
