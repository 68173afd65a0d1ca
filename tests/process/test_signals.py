"""Which signals go where, and that none gets lost."""

from __future__ import annotations

import asyncio
import os
import signal

from unitagent.workload import signals
from unitagent.workload.signals import Birth


def test_a_signal_is_not_lost_when_the_loop_is_flooded() -> None:
    """More wake-ups than fit into the loop's socket come in one turn, then the signal."""

    async def scene() -> int:
        loop = asyncio.get_running_loop()
        arrived: asyncio.Future[int] = loop.create_future()
        signals.listen(signal.SIGUSR1, arrived.set_result)
        for _ in range(5000):
            loop.call_soon_threadsafe(int)
        os.kill(os.getpid(), signal.SIGUSR1)
        return await asyncio.wait_for(arrived, 60)

    assert asyncio.run(scene()) == signal.SIGUSR1


def test_a_signal_that_is_under_way_finds_the_reaction_of_its_arrival() -> None:
    """An agent that has joined takes signals over from its start-up: none is lost, none has two effects."""

    async def scene() -> list[str]:
        told: list[str] = []
        arrived: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        signals.listen(signal.SIGUSR1, lambda _: told.append("old"))
        os.kill(os.getpid(), signal.SIGUSR1)
        signals.listen(signal.SIGUSR1, arrived.set_result)
        await asyncio.wait_for(arrived, 60)
        return told

    assert asyncio.run(scene()) == []
    assert asyncio.run(scene()) == []  # in a loop of its own


def test_what_is_passed_on() -> None:
    passed = signals.forwardable(Birth(frozenset(), frozenset()))
    assert passed >= {signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH}
    assert passed >= {signal.SIGCONT, signal.SIGALRM, signal.SIGRTMIN, signal.SIGRTMAX}
    assert not passed & {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGKILL, signal.SIGSTOP}
    assert not passed & {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGPIPE, signal.SIGXFSZ}
    assert not passed & {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}


def test_what_was_ignored_at_birth_stays_so() -> None:
    born = Birth(frozenset(), frozenset({signal.SIGHUP, signal.SIGTTIN}))
    assert signal.SIGHUP not in signals.forwardable(born)
    assert signal.SIGTTIN not in born.defaults
    assert signal.SIGPIPE in born.defaults
