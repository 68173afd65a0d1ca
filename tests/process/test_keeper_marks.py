"""A keeper's processes are told from the workload's by their mark, also where they hold a GPU."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from unitagent.system import procfs
from unitagent.workload import leftovers
from unitagent.workload.environment import MARKER
from unitagent.workload.resource_release import ResourceRelease

HOLDS = "import sys, time; device = open(sys.argv[1]); print(flush=True); time.sleep(1000)"


@pytest.fixture
def holders(tmp_path: Path) -> Iterator[dict[str, int]]:
    """A process of a keeper and one of a workload of this agent, each with a GPU open; their pids."""
    mark = leftovers.make_marker("mine")
    marks = {"keeper": leftovers.make_keeper_marker(mark), "workload": mark}
    found: dict[str, int] = {}
    started = []
    for number, (name, value) in enumerate(marks.items()):
        device = tmp_path / f"gpu{number}"
        device.touch()
        words = [sys.executable, "-c", HOLDS, str(device)]
        started.append(subprocess.Popen(words, env={MARKER: value}, stdout=subprocess.PIPE))
        found[name] = started[-1].pid
    for process in started:
        assert process.stdout is not None
        process.stdout.readline()
    yield found
    for process in started:
        process.kill()
        process.communicate()


def test_a_keeper_is_no_process_of_the_workload(holders: dict[str, int]) -> None:
    table = procfs.read_process_table()
    assert [leftovers.is_kept(pid) for pid in holders.values()] == [True, False]
    assert {one.pid for one in leftovers.find_kept(table)} == {holders["keeper"]}
    assert {one.pid for one in leftovers.find_escaped(table, ())} == {holders["workload"]}
    assert leftovers.has_agent(holders["keeper"]), "a later agent of this rank would find it, too"


def test_a_gpu_that_a_keeper_holds_is_not_reported(holders: dict[str, int], tmp_path: Path) -> None:
    release = ResourceRelease(str(tmp_path / "gpu"))
    release.begin_workload(holders["workload"], ())
    release.record_usage(holders.values())
    held = release.wait_until_free(0.0)
    assert [f"process {holders['workload']}" in each for each in held.gpus] == [True]
    assert held.held_by_others == ()
