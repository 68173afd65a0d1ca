"""An agent that dies without a word outside of a container, and processes that nobody can end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.local import UNITAGENT, clean, watchdog
from tests.ports import free_port
from tests.process.conftest import NAMESPACE
from tests.process.fuse import HangingFolder
from tests.processes import has_ended, kill_family
from tests.waiting import DEADLINE, until
from unitagent.system import procfs

OWN = ["--size", "1", "--rank", "0", "--rank-ip", "127.0.0.1", "--comm-ifname", "lo", "--guard"]


class Agent:
    """One ``unitagent run`` that is not PID 1."""

    def __init__(self, folder: Path, unit: str, script: str) -> None:
        self.output = folder / "output"
        words = [*OWN, "--unit", unit, "--http-address", f"127.0.0.1:{free_port()}"]
        with self.output.open("ab") as file:
            self.popen = subprocess.Popen(
                [*UNITAGENT, "run", *words, "--", "sh", "-c", script],
                env=clean(FOLDER=str(folder)), stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            )  # fmt: skip

    def said(self) -> str:
        return self.output.read_text()

    def close(self) -> None:
        kill_family(self.popen)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Agent]]:
    agents: list[Agent] = []

    def begin(script: str) -> Agent:
        agents.append(Agent(tmp_path, f"sudden-{tmp_path.name}", script))
        return agents[-1]

    yield begin
    for agent in agents:
        agent.close()


def test_what_a_killed_agent_leaves_is_ended_by_the_next_one(
    start: Callable[[str], Agent], tmp_path: Path
) -> None:
    """Its embedded store goes with it; its workload, and a daemon of that, when the next agent starts, where
    not even its watchdog was left.
    """
    pids = tmp_path / "pids"
    first = start(
        f"setsid sleep 1000 & echo $! > {pids}.new; echo $$ >> {pids}.new; mv {pids}.new {pids}; wait"
    )
    until(pids.exists, "the workload runs")
    old = [int(word) for word in pids.read_text().split()]
    below = procfs.select_descendants(procfs.read_process_table(), first.popen.pid)
    store = next(one.pid for one in below if "server" in one.name)
    os.kill(watchdog(first.popen.pid), signal.SIGKILL)
    first.popen.send_signal(signal.SIGKILL)
    first.popen.wait(DEADLINE)
    until(lambda: has_ended(store), "the store has ended")
    assert all(procfs.read_process(pid) for pid in old)
    alive = "".join(f"kill -0 {pid} && exit 9; " for pid in old)
    second = start(f"{alive} touch $FOLDER/alone; exec sleep 1000")
    until((tmp_path / "alone").exists, "the next one starts when nothing of the old one is left")
    second.popen.send_signal(signal.SIGTERM)
    assert second.popen.wait(DEADLINE) == 0
    assert "that a former agent of this rank left behind" in second.said()


@pytest.mark.root
@pytest.mark.slow
def test_what_cannot_be_killed_has_the_container_rebuilt(
    start: Callable[[str], Agent], tmp_path: Path
) -> None:
    """The agent says so and exits with 75; so does the next one, for as long as the process is there."""
    folder = tmp_path / "hanging"
    folder.mkdir()
    try:
        hanging = HangingFolder(folder)
    except OSError as error:
        pytest.skip(f"this kernel gives no FUSE: {error}")
    try:
        first = start(f"cat {folder}/file & sleep 1; exit 3")
        assert first.popen.wait(DEADLINE) == 75
        assert "SIGKILL did not end" in first.said()
        assert "(cat, state D); this container must be rebuilt" in first.said()
        second = start("exec sleep 1000")
        assert second.popen.wait(DEADLINE) == 75
        said = second.said().splitlines()[-1]
        assert said.startswith("unitagent: error: SIGKILL did not end processes of a former agent of rank 0")
    finally:
        hanging.close()


def test_a_signal_before_joining_ends_with_0_and_is_named() -> None:
    """It waits for a card that is not there."""
    words = [
        "--unit",
        "early",
        "--size",
        "2",
        "--rank",
        "1",
        "--rank-ip",
        "127.0.0.1",
        "--comm-ifname",
        "no-such-card",
    ]
    address = ["--http-address", f"127.0.0.1:{free_port()}", "--redis-url", "redis://127.0.0.1:1"]
    with subprocess.Popen(
        [*UNITAGENT, "run", *words, *address, "--", "true"], env=clean(), stdin=-3, stderr=-1, text=True
    ) as waiting:
        try:
            assert waiting.stderr is not None
            assert "no-such-card" in waiting.stderr.readline()
            waiting.send_signal(signal.SIGTERM)
            assert waiting.wait(DEADLINE) == 0
            assert "received SIGTERM before joining: stopping" in waiting.stderr.read()
        finally:
            waiting.kill()


@pytest.mark.parametrize("prefix", [[], pytest.param(NAMESPACE, marks=pytest.mark.root)])
def test_a_signal_while_it_still_starts_is_not_lost(prefix: list[str]) -> None:
    """Half of a start is imports; PID 1 would not even notice, and anybody else would be killed."""
    words = [*OWN, "--unit", "early", "--http-address", f"127.0.0.1:{free_port()}"]
    with subprocess.Popen(
        [*prefix, *UNITAGENT, "run", *words, "--", "sleep", "1000"], env=clean(), stdin=-3, stderr=-1
    ) as starting:
        try:
            pid = until(lambda: _holding(starting.pid, inside=bool(prefix)), "it holds signals back")
            os.kill(pid, signal.SIGTERM)
            assert starting.wait(DEADLINE) == 0
        finally:
            starting.kill()


def _holding(pid: int, *, inside: bool) -> int:
    """The agent's pid, once SIGTERM has come to be blocked there or is caught; ``inside`` a namespace, where
    ``unshare`` has it blocked before it becomes the agent, and a PID 1 would lose it.
    """
    below = [one.pid for one in procfs.select_descendants(procfs.read_process_table(), pid)]
    agent = (below[0] if below else 0) if inside else pid
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{agent}/status").read_text()
        if text.startswith("Name:\tunshare\n"):
            return 0
        masks = re.findall(r"Sig(?:Blk|Cgt):\s+(\w+)", text)
        return agent if any(int(mask, 16) >> signal.SIGTERM - 1 & 1 for mask in masks) else 0
    return 0


CANCELLED = """
import asyncio
from unitagent.agent import startup
from unitagent.system.log import LogContext
from unitagent.settings.resolution import resolve_settings

async def cancelled(*_):
    raise asyncio.CancelledError

startup._prepare_and_run = cancelled
found = resolve_settings({"UNIT_SIZE": "1", "RANK_ID": "0"}, {}, "host", lambda path: open(path).read())
asyncio.run(startup.run_agent(found, LogContext("u", 0)))
"""


def test_an_end_that_nobody_asked_for_is_no_success() -> None:
    words = [sys.executable, "-c", CANCELLED]
    done = subprocess.run(words, env=clean(), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "was cancelled without a signal" in done.stderr
