"""The kernel's own count tells an OOM kill from any other SIGKILL."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.process.conftest import Agent, enter, program
from tests.waiting import until
from unitagent.workload.oom import OomCounter


@pytest.mark.root
@pytest.mark.parametrize("group", ["memory"], indirect=True)
@pytest.mark.parametrize(("flags", "status"), [([], 137), (["--child"], 1)])
def test_an_oom_kill_is_told_from_others(group: Path, tmp_path: Path, flags: list[str], status: int) -> None:
    """A child's counts as well: the main process exits by itself, and the code alone would hide why."""
    (group / "memory.limit_in_bytes").write_text("200M")
    agent = Agent(tmp_path, "--", *program("hungry.py"), *flags, preexec_fn=enter(group))
    try:
        assert agent.finish() == status
        assert (agent.event("exit")["status"], agent.event("exit")["reason"]) == (status, "oom")
    finally:
        agent.close()


@pytest.mark.root
@pytest.mark.parametrize("group", ["memory"], indirect=True)
def test_an_oom_kill_long_ago_explains_no_end(group: Path, tmp_path: Path) -> None:
    """A workload may lose a helper and go on working."""
    (group / "memory.limit_in_bytes").write_text("200M")
    hungry = [*program("hungry.py"), "--child", str(tmp_path / "end")]
    agent = Agent(tmp_path, "--oom-seconds", "0.1", "--", *hungry, preexec_fn=enter(group))
    try:
        agent.says("killed")
        looks = len(agent.events("look"))
        until(lambda: len(agent.events("look")) > looks + 10, "half a second of looks")
        (tmp_path / "end").touch()
        assert agent.finish() == 1
        assert agent.event("exit")["reason"] == "exit"
    finally:
        agent.close()


def test_any_other_sigkill_is_no_oom(tmp_path: Path) -> None:
    agent = Agent(tmp_path, "--", "sh", "-c", "kill -9 $$")
    try:
        assert agent.finish() == 128 + signal.SIGKILL
        assert agent.event("exit")["reason"] == "signal"
    finally:
        agent.close()


def pretend(
    folder: Path, groups: str, mounts: str, clock: Callable[[], float] = time.monotonic
) -> OomCounter:
    (folder / "cgroup").write_text(groups)
    (folder / "mountinfo").write_text(mounts)
    return OomCounter(folder, clock=clock)


def test_only_a_kill_of_late_counts(tmp_path: Path) -> None:
    file, now = tmp_path / "memory.events", [1000.0]
    file.write_text("oom_kill 1\n")
    counter = pretend(tmp_path, "0::/\n", f"31 23 0:28 / {tmp_path} rw - cgroup2 c rw\n", lambda: now[0])
    file.write_text("oom_kill 2\n")
    counter.take_sample()
    now[0] += 9
    assert counter.killed_recently()
    now[0] += 2
    assert not counter.killed_recently()
    file.write_text("oom_kill 3\n")
    assert counter.killed_recently()


def test_the_counter_is_read_no_more_often_than_is_needed(tmp_path: Path) -> None:
    file, now = tmp_path / "memory.events", [1000.0]
    file.write_text("oom_kill 1\n")
    counter = pretend(tmp_path, "0::/\n", f"31 23 0:28 / {tmp_path} rw - cgroup2 c rw\n", lambda: now[0])
    file.write_text("oom_kill 2\n")
    counter.sample_if_due()  # too soon, so that the kill is dated by the next one
    now[0] += 3
    counter.sample_if_due()
    now[0] += 9
    assert counter.killed_recently()
    now[0] += 2
    assert not counter.killed_recently()


@pytest.mark.parametrize(
    ("own", "root", "where"),
    [
        ("/", "/", ""),  # a container with a cgroup namespace
        ("/docker/abc", "/docker/abc", ""),  # one without: the mount shows only its group
        ("/docker/abc/sub", "/docker/abc", "sub"),
        ("/system.slice/x", "/", "system.slice/x"),  # a plain host
        ("/../other", "/kubepods/p", ""),  # nothing that can be named: the mount itself
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_where_the_counter_is(tmp_path: Path, own: str, root: str, where: str, version: int) -> None:
    """The lines are in the form of cgroups(7) and proc(5)."""
    mount = tmp_path / "with space"
    (mount / where).mkdir(parents=True)
    name = "memory.events" if version == 2 else "memory.oom_control"
    file = mount / where / name
    file.write_text("low 0\noom 3\noom_kill 2\n")
    point = str(mount).replace(" ", "\\040")
    kind = "cgroup2 cgroup2 rw" if version == 2 else "cgroup cgroup rw,memory"
    groups = f"0::{own}\n" if version == 2 else f"4:cpu,cpuacct:/x\n5:memory:{own}\n"
    counter = pretend(
        tmp_path, groups, f"22 1 0:1 / /proc rw - proc proc rw\n31 23 0:28 {root} {point} rw - {kind}\n"
    )
    assert counter.read_count() == 2
    assert not counter.killed_recently()
    file.write_text("oom_kill 3\n")
    assert counter.killed_recently()
    counter.reset_count()
    assert not counter.killed_recently()


@pytest.mark.parametrize(
    ("groups", "mounts"),
    [("", ""), ("0::/\n", ""), ("broken\n", "broken\n"), ("0::/\n", "31 23 - cgroup2\n")],
)
def test_nothing_is_claimed_without_a_counter(tmp_path: Path, groups: str, mounts: str) -> None:
    counter = pretend(tmp_path, groups, mounts)
    assert (counter.read_count(), counter.killed_recently()) == (0, False)


def test_nothing_is_claimed_without_proc(tmp_path: Path) -> None:
    assert OomCounter(tmp_path / "none").read_count() == 0
