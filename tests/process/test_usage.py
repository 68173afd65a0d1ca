"""What a process uses is read when someone asks, and a process that is gone is no error."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.process.conftest import Agent
from unitagent.workload.usage import ProcessUsage, sample_usage

# Has 2 threads, 5 more open files and 50 MiB, and has used 0.2 s of a CPU.
_BUSY = """
import sys, threading, time
threading.Thread(target=threading.Event().wait, daemon=True).start()
files = [open("/dev/null") for _ in range(5)]
memory = b"x" * (50 << 20)
while time.process_time() < 0.2:
    pass
print(len(__import__("os").listdir("/proc/self/fd")) - 1, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def busy() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process, and how many files it has open."""
    with subprocess.Popen([sys.executable, "-c", _BUSY], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
        process.kill()


def test_what_a_process_uses(busy: tuple[subprocess.Popen[str], int]) -> None:
    process, files = busy
    (usage,) = sample_usage([process.pid])
    assert (usage.pid, usage.parent, usage.threads) == (process.pid, os.getpid(), 2)
    assert usage.name.startswith("python")
    assert usage.open_files == files >= 8
    assert usage.memory_bytes > 50 << 20
    assert usage.cpu_seconds >= 0.19
    assert 0 <= usage.age_seconds < 300


def test_processes_that_are_gone_or_zombies_are_left_out() -> None:
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        found = sample_usage([999_999_999, child.pid, os.getpid()])
    assert [usage.pid for usage in found] == [os.getpid()]
    assert isinstance(found[0], ProcessUsage)


def test_psutil_is_imported_for_the_first_question_only() -> None:
    script = "import sys, unitagent.workload.usage as u; print('psutil' in sys.modules); u.sample_usage([1])"
    words = [sys.executable, "-c", f"{script}; print('psutil' in sys.modules)"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_the_processes_of_a_workload_and_no_others(start: Callable[..., Agent]) -> None:
    agent = start("--usage", "--service", "exec sleep 1000", "--", "sleep", "1000")
    (usage,) = agent.event("usage")["processes"]
    assert usage["pid"] == agent.event("spawned")["pid"]
    agent.send(15)
    agent.finish()
