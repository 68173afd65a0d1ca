"""What an agent does while nothing happens, counted and not timed, on a machine where much else runs."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.solo import UNIT, Solo
from tests.servers import Server, running
from tests.waiting import until
from unitagent.store.keys import KeyNames

SETTLED, BEATS = 5, 8  # heartbeats: before it is looked at, and while it is
WAKES = 6  # of all its threads, for each heartbeat; two are its timer and the store's answer
READS = 15  # of files and pipes, for each heartbeat
EXCHANGES = (
    1.75  # with the store, for each heartbeat: itself, and of rank 0 every other time a word for balancers
)
STRANGERS = 60  # processes that are none of its business


@pytest.fixture
def strangers() -> Iterator[None]:
    started = [subprocess.Popen(["sleep", "1000"]) for _ in range(STRANGERS)]
    yield
    for one in started:
        one.kill()
        one.wait()


def beats(store: Server) -> int:
    """How often the agent has beaten."""
    answer = store.command("HGET", KeyNames(UNIT).membership_table, "b0").split()
    return int(answer[2]) if len(answer) > 2 else 0


def wakes(agent: int) -> int:
    """How often its threads have gone to sleep."""
    texts = [path.read_text() for path in Path(f"/proc/{agent}/task").glob("*/status")]
    return sum(
        int(count) for text in texts for count in re.findall(r"^voluntary\S+\s+(\d+)", text, re.MULTILINE)
    )


def reads(agent: int) -> int:
    """How often it has asked the kernel to read."""
    lines = Path(f"/proc/{agent}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("syscr"))


def exchanges(store: Server) -> int:
    """How many the store has counted."""
    found = re.search(rb"cmdstat_evalsha:calls=(\d+)", store.command("INFO", "commandstats"))
    return int(found[1]) if found else 0


def done(agent: int, store: Server) -> tuple[int, ...]:
    """Heartbeats, and what else there was."""
    return beats(store), wakes(agent), reads(agent), exchanges(store)


@pytest.mark.root
@pytest.mark.usefixtures("strangers")
def test_an_idle_agent_hardly_wakes_and_hardly_reads(tmp_path: Path) -> None:
    with running(tmp_path) as store:
        solo = Solo(tmp_path, UNIT_REDIS_URL=store.url)
        try:
            solo.ready()
            begun, agent = beats(store), solo.popen.pid
            until(lambda: beats(store) >= begun + SETTLED, "it has settled")
            before = done(agent, store)
            until(lambda: beats(store) >= before[0] + BEATS, "some heartbeats")
            after = done(agent, store)
        finally:
            solo.close()
    many, woken, read, exchanged = (now - then for now, then in zip(after, before, strict=True))
    assert woken <= WAKES * many
    assert read <= READS * many
    assert exchanged <= EXCHANGES * many
