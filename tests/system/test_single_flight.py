"""Blocking calls beside the loop: one of each at a time, whose answer is not lost and not kept for long."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from tests.listening import story, until
from unitagent.system.threads import SingleFlight


class Calls:
    """A call that is made again and again, and gives how often it was made; it waits while it is ``shut``."""

    def __init__(self) -> None:
        self.made = 0
        self.trouble: OSError | None = None
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self) -> int:
        self.made += 1
        number = self.made
        self.gate.wait(60)
        if self.trouble is not None:
            raise self.trouble
        return number


async def give_up(flights: SingleFlight, call: Calls) -> None:
    """Begin a call and do not wait for its answer."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await flights.run("key", call)


async def end(flights: SingleFlight, call: Calls) -> None:
    """Let the call under way end."""
    call.gate.set()
    await until(lambda: not flights.is_under_way("key"))


@story
async def test_what_is_answered_at_once_is_asked_anew_each_time() -> None:
    flights, call = SingleFlight(), Calls()
    assert [await flights.run("key", call) for _ in range(5)] == [1, 2, 3, 4, 5]


@story
async def test_all_who_wait_get_the_same_answer() -> None:
    flights, call = SingleFlight(), Calls()
    call.gate.clear()
    waiting = [asyncio.create_task(flights.run("key", call)) for _ in range(5)]
    await give_up(flights, call)
    await end(flights, call)
    assert await asyncio.gather(*waiting) == [1] * 5
    assert await flights.run("another", call) == 2


@story
async def test_an_answer_that_nobody_waited_for_is_the_next_ones() -> None:
    flights, call = SingleFlight(), Calls()
    call.gate.clear()
    await give_up(flights, call)
    assert flights.is_under_way("key")
    await end(flights, call)
    assert await flights.run("key", call) == 1


@story
async def test_a_slow_answer_serves_for_a_while() -> None:
    flights, call = SingleFlight(), Calls()
    call.gate.clear()
    for _ in range(8):  # longer than an answer that counts as quick
        await give_up(flights, call)
    await end(flights, call)
    assert [await flights.run("key", call) for _ in range(5)] == [1] * 5
    answer = 1
    async with asyncio.timeout(30):
        while answer == 1:  # but not for ever
            await asyncio.sleep(0.01)
            answer = await flights.run("key", call)
    assert answer == 2


@story
async def test_a_failure_is_told_once() -> None:
    flights, call = SingleFlight(), Calls()
    call.gate.clear()
    call.trouble = OSError("nobody knows the name")
    await give_up(flights, call)
    await end(flights, call)
    with pytest.raises(OSError, match="nobody knows"):
        await flights.run("key", call)
    call.trouble = None
    assert await flights.run("key", call) == 2


def test_a_call_that_hangs_does_not_delay_the_end_of_the_loop() -> None:
    call = Calls()
    call.gate.clear()
    before = time.monotonic()
    asyncio.run(give_up(SingleFlight(), call))
    assert time.monotonic() - before < 10
    call.gate.set()  # the thread ends after its loop, and nobody minds
