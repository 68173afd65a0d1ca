"""Warm starts at the edges: many descriptors, a huge environment, a terminal, little memory, many times."""

from __future__ import annotations

import os
import pty
import resource
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.process.conftest import AS_SUBREAPER, enter
from tests.process.test_warm import MIRROR, SPAWNS, Start, compare, look, outcome
from unitagent.workload.warm_gate import MOST_DESCRIPTORS

RESTARTS = int(os.environ.get("UNITAGENT_WARM_RESTARTS", "12"))
END = "raise SystemExit(3)"


@contextmanager
def many_descriptors(count: int) -> Iterator[list[int]]:
    """Open so many, with the numbers that a process gets that is handed them."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], 4096), before[1]))
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(count)]
    try:
        yield opened
    finally:
        for number in opened:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@AS_SUBREAPER
def test_as_many_descriptors_as_the_kernel_passes_at_once(start: Start, tmp_path: Path) -> None:
    with many_descriptors(MOST_DESCRIPTORS - 3) as opened:
        (cold,) = look(start, tmp_path, sys.executable, MIRROR, warm=False, pass_fds=opened)
        (warm,) = look(start, tmp_path, sys.executable, MIRROR, warm=True, pass_fds=opened)
    assert len(warm["main"]["descriptors"]) >= MOST_DESCRIPTORS
    assert compare(cold, warm) == []


@AS_SUBREAPER
def test_more_descriptors_than_that_start_cold(start: Start) -> None:
    with many_descriptors(300) as opened:
        how = outcome(start("--warm", "json", "--", sys.executable, "-c", END, pass_fds=opened))
    assert how["why"] == "it inherits 303 descriptors"


@AS_SUBREAPER
def test_a_huge_environment(start: Start, tmp_path: Path) -> None:
    env = {**os.environ, **{f"HUGE_{number}": str(number % 10) * 100_000 for number in range(15)}}
    (cold,) = look(start, tmp_path, sys.executable, MIRROR, warm=False, env=env)
    (warm,) = look(start, tmp_path, sys.executable, MIRROR, warm=True, env=env)
    assert compare(cold, warm) == []


@AS_SUBREAPER
def test_a_variable_of_every_kind_of_text(start: Start, tmp_path: Path) -> None:
    env = {
        **os.environ,
        "LINES": "a\nb\x01",
        "EQUALS": "a=b=",
        "BYTES": "\udcff\udcfe",
        "EMPTY": "",
        "É": "€",
    }
    (cold,) = look(start, tmp_path, sys.executable, MIRROR, warm=False, env=env)
    (warm,) = look(start, tmp_path, sys.executable, MIRROR, warm=True, env=env)
    assert compare(cold, warm) == []


@pytest.mark.parametrize("own_session", [False, True], ids=["stdout alone", "the session's"])
def test_a_terminal(start: Start, tmp_path: Path, own_session: bool) -> None:
    """With one of its own the workload is lent it, as a shell does with a job."""
    found: list[dict[str, Any]] = []
    for warm in (False, True):
        master, slave = pty.openpty()
        try:
            more: dict[str, Any] = {"stdout": slave, "stderr": slave}
            if own_session:
                more |= {"stdin": slave, "prefix": ("setsid", "--ctty")}
            options = ["--inherit-stderr"]
            found += look(start, tmp_path, sys.executable, MIRROR, warm=warm, options=options, **more)
        finally:
            os.close(master)
            os.close(slave)
    for seen in found:
        assert [isatty for _, isatty, _ in seen["main"]["descriptors"].values()] == [own_session, True, True]
        for process in ("main", "child"):
            del seen[process]["session"]  # that of the agent, which is another one each time
    assert compare(found[0], found[1]) == []


@pytest.mark.root
@pytest.mark.parametrize("group", ["memory"], indirect=True)
def test_a_gate_fits_where_its_engine_does(start: Start, tmp_path: Path, group: Path) -> None:
    (group / "memory.limit_in_bytes").write_text("200M")
    more: dict[str, Any] = {"preexec_fn": enter(group)}
    (cold,) = look(start, tmp_path, sys.executable, MIRROR, warm=False, **more)
    (warm,) = look(start, tmp_path, sys.executable, MIRROR, warm=True, **more)
    assert compare(cold, warm) == []


@pytest.mark.root
@pytest.mark.parametrize("group", ["memory"], indirect=True)
def test_a_gate_that_does_not_fit_is_the_first_to_go(start: Start, tmp_path: Path, group: Path) -> None:
    """The workload is the larger one, which would make it the kernel's choice."""
    (group / "memory.limit_in_bytes").write_text("300M")
    (tmp_path / "big.py").write_text("kept = bytearray(b'x') * (100 << 20)")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), *sys.path))}
    grow = "import big, time; del big.kept; kept = bytearray(b'x') * (230 << 20)"
    program = f"{grow}; time.sleep(2); raise SystemExit(3)"
    options = ["--warm", "big", "--oom-seconds", "0.5"]
    agent = start(*options, "--", sys.executable, "-c", program, env=env, preexec_fn=enter(group))
    assert outcome(agent)["warm"]
    assert agent.event("exit")["reason"] == "exit"
    assert "warm start: its gate was killed by signal 9 (SIGKILL)" in agent.output()[1]


@pytest.mark.root
@pytest.mark.parametrize("group", ["memory"], indirect=True)
def test_without_memory_for_a_gate_starts_are_cold(start: Start, tmp_path: Path, group: Path) -> None:
    (group / "memory.limit_in_bytes").write_text("150M")
    (tmp_path / "big.py").write_text("kept = bytearray(b'x') * (300 << 20)")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), *sys.path))}
    command = ["--", sys.executable, "-c", END]
    agent = start("--warm", "big", *command, env=env, preexec_fn=enter(group))
    assert "SIGKILL" in outcome(agent)["why"]
    assert agent.event("exit")["reason"] == "exit"


def test_a_gate_does_not_grow(start: Start) -> None:
    """The workload spawns in each of its lives."""
    agent = start("--warm", "json", "--again", str(RESTARTS), "--", sys.executable, SPAWNS, "nested")
    assert outcome(agent, 0)["warm"]
    assert all(how["warm"] for how in agent.events("start"))
    last = agent.events("use")[-1]["gate"]
    seen = [one for one in agent.events("use") if one["gate"] == last][2:]
    assert len(seen) >= RESTARTS - 3
    assert {one["files"] for one in seen} == {4}
    assert {one["threads"] for one in seen} == {1}
    assert len({one["agent"]["files"] for one in seen}) == 1
    third = len(seen) // 3
    first, latest = (
        statistics.median(one["memory"] for one in part) for part in (seen[:third], seen[-third:])
    )
    assert latest - first < 200, [one["memory"] for one in seen]  # KiB
