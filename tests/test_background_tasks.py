"""Work beside the agent's loop: none of it fails without a consequence."""

from __future__ import annotations

import asyncio

from tests.listening import story, until
from unitagent.agent.background_tasks import BackgroundTasks


async def fail() -> None:
    raise KeyError("for a test")


async def be_cancelled() -> None:
    """End as work does that awaits something which somebody else has cancelled."""
    raise asyncio.CancelledError


@story
async def test_work_that_fails_or_is_cancelled_is_mended() -> None:
    tasks, mended = BackgroundTasks(), list[BaseException]()
    tasks.start_task(fail(), mended.append)
    tasks.start_task(be_cancelled(), mended.append)
    await until(lambda: len(mended) == 2)
    assert {type(error) for error in mended} == {KeyError, asyncio.CancelledError}


@story
async def test_what_ends_with_the_agent_is_not_mended() -> None:
    tasks, mended = BackgroundTasks(), list[BaseException]()
    tasks.start_task(asyncio.sleep(1000), mended.append)
    await tasks.close()
    assert not mended


@story
async def test_what_is_kept_up_is_begun_again_until_it_is_done() -> None:
    tasks, begun = BackgroundTasks(), list[int]()

    async def work() -> None:
        begun.append(len(begun))
        if len(begun) < 3:
            await fail()

    tasks.keep_running(work, 0.01)
    await until(lambda: len(begun) == 3)
    await tasks.close()
    assert len(begun) == 3
