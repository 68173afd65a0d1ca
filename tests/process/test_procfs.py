"""A table of processes: kinship in it, and what it costs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from unitagent.system import procfs
from unitagent.system.procfs import Process, has_known_origin

SOME = 20  # processes that come and go, and the looks at the count itself


def table(*pairs: tuple[int, int]) -> dict[int, Process]:
    return {pid: Process(pid, "p", "S", parent, 1, 0) for pid, parent in pairs}


@pytest.mark.parametrize(
    ("pid", "known"),
    [
        (1, True),
        (2, True),
        (9, True),  # it was brought into this namespace of pids from outside
        (4, False),  # its parent, 3, came and went while the table was made
        (5, False),
    ],
)
def test_whose_a_process_is_can_be_told_when_all_ancestors_were_seen(pid: int, known: bool) -> None:
    assert has_known_origin(table((1, 0), (2, 1), (4, 3), (5, 4), (9, 0)), pid) is known


def test_a_look_at_all_processes_costs_one_read_of_each() -> None:
    """Of a stop that is all there is to wait for."""
    procfs.read_process_table()
    before = reads()
    processes = procfs.read_process_table()
    assert reads() - before <= len(processes) + SOME


# Has a child of its own, one of a thread that waits, and many threads.
_BEGET = """
import subprocess, sys, threading
def beget():
    with subprocess.Popen(["sleep", "1000"]): print("begot", flush=True)
for _ in range(2): threading.Thread(target=beget, daemon=True).start()
sys.stdin.read()
"""


@contextmanager
def parent() -> Iterator[int]:
    """A process with two children, each of another thread; its pid."""
    with subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", _BEGET],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0,
    ) as one:  # fmt: skip
        assert one.stdout is not None
        assert [one.stdout.readline() for _ in range(2)] == [b"begot\n"] * 2
        try:
            yield one.pid
        finally:
            os.killpg(one.pid, signal.SIGKILL)


def test_a_family_is_found_whichever_thread_begot_it() -> None:
    with parent() as pid:
        family = procfs.find_descendants(pid)
        assert [one.parent for one in family] == [pid, pid]
        assert {one.pid for one in procfs.find_descendants(os.getpid())} >= {
            pid,
            *(one.pid for one in family),
        }
        assert pid not in {one.pid for one in procfs.find_descendants(os.getpid(), {pid})}


def test_a_family_that_is_large_is_found_whole() -> None:
    """The kernel gives a list of so many in pieces."""
    many = 800
    script = f"for _ in $(seq {many}); do sleep 1000 & done; echo begot; wait"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, process_group=0) as one:
        assert one.stdout is not None
        assert one.stdout.readline() == b"begot\n"
        try:
            assert len(procfs.find_descendants(one.pid)) == many
        finally:
            os.killpg(one.pid, signal.SIGKILL)


def test_where_the_kernel_lists_no_children_a_family_is_found_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with parent() as pid:
        listed = {one.pid for one in procfs.find_descendants(pid)}
        monkeypatch.setattr(procfs, "_kernel_lists_children", lambda: False)
        assert {one.pid for one in procfs.find_descendants(pid)} == listed


def test_what_others_run_costs_a_family_nothing() -> None:
    with parent() as pid:
        before = reads()
        procfs.find_descendants(pid)
        alone = reads() - before
        strangers = [subprocess.Popen(["sleep", "1000"]) for _ in range(SOME)]
        try:
            before = reads()
            procfs.find_descendants(pid)
            assert reads() - before == alone
        finally:
            for one in strangers:
                one.kill()
                one.wait()


def reads() -> int:
    """How often this thread has asked the kernel to read."""
    lines = Path("/proc/thread-self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("syscr:"))
