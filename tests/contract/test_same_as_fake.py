"""Any history of exchanges gets the same answers from the fake and from a real server.

The simulations run on the fake; this is why they say something about production.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.fakestore import FakeServer, FakeStore
from tests.records import exchange, failed, record
from unitagent.core.model import Charge, InstanceState, Order, OrderKind
from unitagent.store import codec

if TYPE_CHECKING:
    from tests.contract.conftest import Board
    from unitagent.core.model import Reply
    from unitagent.store.protocol import Store

RANKS, LIVES, GENERATIONS = range(3), "ab", range(4)


@dataclass(frozen=True)
class Step:
    """One thing that happens: an exchange of an agent, or something to the whole store."""

    what: str
    rank: int
    life: str
    state: InstanceState
    generation: int
    take: str
    failure: int
    judge: tuple[int, ...]

    @property
    def incarnation(self) -> str:
        return f"{self.life}{self.rank}"


STEPS = st.builds(
    Step,
    what=st.sampled_from(["put"] * 8 + ["look", "look", "order", "wipe", "reconnect", "fail over", "forge"]),
    rank=st.sampled_from(RANKS),
    life=st.sampled_from(LIVES),
    state=st.sampled_from([InstanceState.WAITING, InstanceState.IDLE]),
    generation=st.sampled_from(GENERATIONS),
    take=st.sampled_from(["", "a0", "b0", "a1"]),
    failure=st.sampled_from((-1, *GENERATIONS)),
    judge=st.lists(st.sampled_from(RANKS)).map(tuple),
)


class World:
    """One store in both kinds, and the agents that use it."""

    def __init__(self, board: Board) -> None:
        self.fake, self.board = FakeServer(), board
        self.agents: dict[str, tuple[Store, Store]] = {}
        self.saved = (self.fake.state.copy(), self._dump())
        self.numbers: tuple[list[int], list[int]] = ([], [])  # of the orders, as each kind gave them

    async def step(self, step: Step) -> None:
        match step.what:
            case "wipe":
                self.fake.state.wipe()
                self.board.wipe()
            case "fail over":
                copies = self.fake.state.copy(), self._dump()
                self.fake.state.restore(self.saved[0])
                await self._restore(self.saved[1])
                self.saved = copies
            case "order":
                await self._order(step)
            case "forge":
                self._forge(step)
            case "reconnect":
                await self._pair(step)[1].close()
            case _:
                await self._exchange(step)

    async def _order(self, step: Step) -> None:
        """What it claims about its generation and number counts for nothing."""
        wish = Order(kind=OrderKind.RESTART, generation=step.generation, number=step.rank, reason=step.life)
        pair = self._pair(step)
        expected, real = await pair[0].put_order(wish), await pair[1].put_order(wish)
        for numbers, kept in zip(self.numbers, (expected, real), strict=True):
            assert not numbers or kept.number > numbers[-1]
            numbers.append(kept.number)
        assert self._ordinal(1, real) == self._ordinal(0, expected)

    def _ordinal(self, kind: int, order: Order | None) -> Order | None:
        """The order with its place among all that were given, since its number is made by a clock."""
        return order and replace(order, number=self.numbers[kind].index(order.number))

    def _timeless(self, kind: int, reply: Reply) -> Reply:
        return replace(reply, unit_age=0.0, now=0, order=self._ordinal(kind, reply.order))

    def _forge(self, step: Step) -> None:
        """Somebody writes a name in the place of a holder, and generations that no restarts lead to."""
        assert self.board.server is not None
        board, lie = self.fake.state.board, 2**53 - 1 - step.generation
        board.holders[step.rank] = step.take or "nan"
        board.generation = lie
        forged: dict[str, str | int | bytes] = {f"h{step.rank}": step.take or "nan", "generation": lie}
        if step.failure >= 0:
            board.failure = failed(lie)
            forged["failure"] = codec.encode_failure(failed(lie))
        self.board.server.command("HSET", KEYS[0], *(word for pair in forged.items() for word in pair))

    async def _exchange(self, step: Step) -> None:
        mine = replace(
            record(step.rank, step.incarnation, step.generation),
            state=step.state,
            tenure=len(step.judge),
            netns=step.take,
            charges=tuple(Charge(generation=one, at=0.5) for one in range(step.generation)),
        )
        request = exchange(
            mine if step.what == "put" else None,
            take=step.take,
            generation=step.generation,
            failure=failed(step.failure, step.rank) if step.failure >= 0 else None,
            judge=step.judge,
        )
        pair = self._pair(step)
        expected, real = await pair[0].exchange(request), await pair[1].exchange(request)
        assert self._timeless(1, real) == self._timeless(0, expected)

    def _pair(self, step: Step) -> tuple[Store, Store]:
        pair = self.agents.get(step.incarnation)
        if pair is None:
            pair = (
                FakeStore(self.fake, step.rank, step.incarnation),
                self.board.store(step.rank, step.incarnation),
            )
            self.agents[step.incarnation] = pair
        return pair

    async def check_reading(self) -> None:
        expected, real = await FakeStore(self.fake).read(), await self.board.store().read()
        assert (real.records, real.generation) == (expected.records, expected.generation)
        assert real.failure == expected.failure
        assert self._ordinal(1, real.order) == self._ordinal(0, expected.order)
        assert set(real.ages) == set(expected.ages)
        assert (real.age is None) == (expected.age is None)

    def _dump(self) -> dict[str, bytes]:
        assert self.board.server is not None
        return {key: self.board.server.command("DUMP", key) for key in KEYS}

    async def _restore(self, dumps: dict[str, bytes]) -> None:
        """What agents see of a failover: the keys as the replica had them, behind a new connection."""
        assert self.board.server is not None
        for key, dump in dumps.items():
            self.board.server.command("DEL", key)
            if dump != b"$-1\r\n":
                self.board.server.command("RESTORE", key, 0, dump.partition(b"\r\n")[2][:-2])
        for pair in self.agents.values():
            await pair[1].close()

    async def close(self) -> None:
        for pair in self.agents.values():
            await pair[1].close()


KEYS = ("unitagent:{u}:board", "unitagent:{u}:changes")


@pytest.mark.parametrize("backend", ["redis", "valkey"], indirect=True)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=25))
def test_any_history_gets_the_same_answers(board: Board, steps: list[Step]) -> None:
    async def tell() -> None:
        world = World(board)
        for step in steps:
            await world.step(step)
        await world.check_reading()
        await world.close()

    board.wipe()
    asyncio.run(tell())
