"""In which order those who wait have their turn."""

from __future__ import annotations

import asyncio

from tests.probes.loops import in_loop, until
from unitagent.probes.admission import FairQueue, Lane


def asked(turns: FairQueue, said: list[str], *names: str) -> None:
    """Ask for each name; its first letter is the address."""
    for name in names:
        turns.enqueue_request(name[0], name, lambda name=name: said.append(name))  # type: ignore[misc]


@in_loop
async def test_addresses_take_turns_and_each_keeps_its_order() -> None:
    turns, said = FairQueue(), list[str]()
    asked(turns, said, "a1", "a2", "a3", "b1", "c1", "c2", "a1")
    await until(lambda: len(said) == 6)
    assert said == ["a1", "b1", "c1", "a2", "c2", "a3"]


@in_loop
async def test_there_is_one_in_each_turn_of_the_loop() -> None:
    turns, said = FairQueue(), list[str]()
    asked(turns, said, *(f"a{number}" for number in range(10)))
    for number in range(10):
        assert len(said) == number
        await asyncio.sleep(0)
    assert len(said) == 10


@in_loop
async def test_who_has_gone_has_none() -> None:
    turns, said = FairQueue(), list[str]()
    asked(turns, said, "a1", "b1", "b2")
    for name in ("a1", "b1", "b1", "nobody"):
        turns.discard_request(name[0], name)
    await until(lambda: said)
    asked(turns, said, "a2")
    await until(lambda: len(said) == 2)
    assert said == ["b2", "a2"]


@in_loop
async def test_a_crowd_in_one_lane_keeps_no_other_lane_waiting() -> None:
    turns, said = FairQueue(), list[str]()
    asked(turns, said, *(f"{letter}1" for letter in "abcdefgh"))
    turns.enqueue_request("z", "alive?", lambda: said.append("alive?"), Lane.LIVENESS)
    turns.enqueue_request("y", "ours", lambda: said.append("ours"), Lane.OWN)
    await until(lambda: len(said) == 10)
    assert said[:4] == ["a1", "alive?", "ours", "b1"]
