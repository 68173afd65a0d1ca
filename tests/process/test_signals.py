"""Which signals go where, and that none gets lost."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

from tests.process.conftest import ROOT
from unitagent.workload import signals
from unitagent.workload.signals import InheritedSignals


def test_a_signal_is_not_lost_when_the_loop_is_flooded() -> None:
    """More wake-ups than fit into the loop's socket come in one turn, then the signal."""

    async def scene() -> int:
        loop = asyncio.get_running_loop()
        arrived: asyncio.Future[int] = loop.create_future()
        signals.handle_signal(signal.SIGUSR1, arrived.set_result)
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
        signals.handle_signal(signal.SIGUSR1, lambda _: told.append("old"))
        os.kill(os.getpid(), signal.SIGUSR1)
        signals.handle_signal(signal.SIGUSR1, arrived.set_result)
        await asyncio.wait_for(arrived, 60)
        return told

    assert asyncio.run(scene()) == []
    assert asyncio.run(scene()) == []  # in a loop of its own


def test_what_is_passed_on() -> None:
    passed = signals.select_forwarded(InheritedSignals(frozenset(), frozenset()))
    assert passed >= {signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH}
    assert passed >= {signal.SIGCONT, signal.SIGALRM, signal.SIGRTMIN, signal.SIGRTMAX}
    assert not passed & {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGKILL, signal.SIGSTOP}
    assert passed >= {signal.SIGPIPE, signal.SIGXFSZ}
    assert not passed & {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
    assert not passed & {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}


def test_what_was_ignored_at_birth_stays_so() -> None:
    born = InheritedSignals(frozenset(), frozenset({signal.SIGHUP, signal.SIGTTIN}))
    assert signal.SIGHUP not in signals.select_forwarded(born)
    assert signal.SIGTTIN not in born.defaults
    assert signal.SIGPIPE in born.defaults


_OWN = """
import asyncio, os, resource, signal, tempfile, threading
from unitagent.workload import signals

def break_something():
    ear, write_fd = os.pipe()
    os.close(ear)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(b".")
        for handle in (write_fd, file.fileno()):
            try:
                os.write(handle, b".")
            except OSError as error:
                print(type(error).__name__)

async def scene():
    heard = asyncio.Queue()
    signals.install_handlers(signals.read_inherited_signals(), on_stop=print, forward=heard.put_nowait)
    break_something()
    thread = threading.Thread(target=break_something)
    thread.start()
    await asyncio.to_thread(thread.join)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        os.kill(os.getpid(), number)
        print(await asyncio.wait_for(heard.get(), 60))
    print(heard.qsize())

asyncio.run(scene())
"""


_IGNORED_AT_BIRTH = """
import asyncio, os, signal, threading
from unitagent.workload import signals

spawn = os.posix_spawn

def stop_and_spawn(*words, **how):
    os.kill(os.getpid(), signal.SIGTERM)
    return spawn(*words, **how)

async def scene():
    heard = asyncio.Queue()
    born = signals.read_inherited_signals()
    signals.install_handlers(born, on_stop=heard.put_nowait, forward=print)
    await asyncio.to_thread(threading.get_ident)  # it stays, and must not swallow the signal
    os.posix_spawn = stop_and_spawn
    pid = born.spawn_process("/bin/sh", ["sh", "-c", "kill -TERM $$; exit 3"], {}, [])
    print(await asyncio.wait_for(heard.get(), 60), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

signal.signal(signal.SIGTERM, signal.SIG_IGN)
asyncio.run(scene())
"""


def test_a_stop_signal_that_was_ignored_at_birth_is_heard_while_a_workload_starts_that_ignores_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _IGNORED_AT_BIRTH], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(int(signal.SIGTERM)), "3"]


def test_our_own_broken_connections_are_no_signals_for_the_workload() -> None:
    """Nor are our files that grow too large; what somebody sends is."""
    done = subprocess.run([sys.executable, "-c", _OWN], cwd=ROOT, capture_output=True, text=True, check=True)
    own = ["BrokenPipeError", "OSError"]
    assert done.stdout.split() == [*own, *own, str(int(signal.SIGPIPE)), str(int(signal.SIGXFSZ)), "0"]
