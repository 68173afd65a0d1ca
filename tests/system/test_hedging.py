"""Attempts beside each other: the first result counts, and none goes on when it is there."""

from __future__ import annotations

import asyncio

import pytest

from tests.listening import story
from unitagent.system.hedging import run_hedged

AT_ONCE, NEVER = 0.001, 3600.0


@story
async def test_a_prompt_attempt_stays_alone() -> None:
    begun = 0

    async def attempt() -> str:
        nonlocal begun
        begun += 1
        await asyncio.sleep(0)
        return "done"

    assert await run_hedged(attempt, NEVER) == "done"
    assert begun == 1


@story
async def test_a_later_attempt_wins_and_the_others_are_cancelled_before_it_returns() -> None:
    begun, cancelled = 0, []

    async def attempt() -> int:
        nonlocal begun
        begun += 1
        mine = begun
        if mine < 3:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(mine)
                raise
        return mine

    assert await run_hedged(attempt, AT_ONCE) == 3
    assert sorted(cancelled) == [1, 2]


@story
async def test_an_only_attempt_that_fails_is_told_at_once() -> None:
    async def attempt() -> None:
        raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        await run_hedged(attempt, NEVER)


@story
async def test_a_failure_is_not_told_while_another_attempt_is_under_way() -> None:
    begun = 0
    failed = asyncio.Event()

    async def attempt() -> int:
        nonlocal begun
        begun += 1
        if begun == 1:
            await failed.wait()
            return 1
        failed.set()
        raise OSError("broken")

    assert await run_hedged(attempt, AT_ONCE) == 1


@story
async def test_when_all_have_failed_the_last_one_is_told() -> None:
    begun = 0
    both = asyncio.Event()

    async def attempt() -> None:
        nonlocal begun
        begun += 1
        mine = begun
        if mine == 2:
            both.set()
        await both.wait()
        raise OSError(f"attempt {mine}")

    with pytest.raises(OSError, match="attempt"):
        await run_hedged(attempt, AT_ONCE)
    assert begun >= 2


@story
async def test_who_gives_up_leaves_nothing_under_way() -> None:
    cancelled = asyncio.Event()

    async def attempt() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await run_hedged(attempt, NEVER)
    assert cancelled.is_set()
