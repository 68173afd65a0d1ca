"""Whole lives of a workload under an agent of one, as a subreaper and as PID 1.

The cases are those that every init for containers has to meet, and those of an agent that must not leave
anything.
"""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.ports import free_port
from tests.process.conftest import AS_SUBREAPER, NAMESPACE, ROOT, Agent, enter, program
from tests.waiting import DEADLINE, until
from unitagent.system import procfs
from unitagent.workload import signals

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Start = Callable[..., Agent]


@pytest.mark.parametrize("prefix", [[], pytest.param(NAMESPACE, marks=pytest.mark.root)])
def test_every_exit_code_of_256_children_at_once(prefix: list[str]) -> None:
    """And no turn of the loop is taken up by them: heartbeats and probes have theirs in between."""
    out = subprocess.run(
        [*prefix, sys.executable, "-m", "tests.process.sweep"], cwd=ROOT, check=True, stdout=subprocess.PIPE
    ).stdout
    told = json.loads(out)
    assert told["codes"] == {str(code): code for code in range(256)}
    assert told["most"] <= 64


@pytest.mark.parametrize("code", [0, 3])
def test_the_workloads_code_is_ours(start: Start, code: int) -> None:
    assert start("--", "sh", "-c", f"exit {code}").finish() == code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_the_workload_by_sigterm(start: Start, number: int) -> None:
    agent = start("--", "sh", "-c", "echo ready; exec sleep 1000")
    agent.says("ready")
    agent.send(number)
    assert agent.finish() == 128 + signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2])
def test_other_signals_are_the_workloads(start: Start, number: int) -> None:
    agent = start("--", "sh", "-c", "ulimit -c 0; echo ready; exec sleep 1000")
    agent.says("ready")
    agent.send(number)
    assert agent.finish() == 128 + number


def test_all_forwardable_signals_arrive(start: Start) -> None:
    agent = start("--", *program("signals.py"))
    agent.says("ready")
    for number in sorted(signals.select_forwarded(signals.read_inherited_signals())):
        agent.send(number)
        agent.says(str(int(number)))
    agent.send(signal.SIGTERM)
    assert agent.finish() == 128 + signal.SIGTERM


HEARD = "trap : USR1; (trap 'echo heard; exit' USR1; echo ready; while :; do sleep .1; done) & wait; wait"


def test_the_whole_group_is_signalled(start: Start) -> None:
    """The shell passes nothing on: its child hears of SIGUSR1 only because the group does."""
    agent = start(
        "--", "sh", "-c", HEARD
    )  # fmt: skip
    agent.says("ready")
    agent.send(signal.SIGUSR1)
    agent.says("heard")
    assert agent.finish() == 0


def test_the_terminals_stop_signals_do_not_stop_us(start: Start) -> None:
    agent = start("--", "sh", "-c", "echo ready; exec sleep 1000")
    agent.says("ready")
    for number in (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
        agent.send(number)
    agent.send(signal.SIGTERM)
    assert agent.finish() == 128 + signal.SIGTERM


def test_a_hundred_orphans_are_reaped(start: Start) -> None:
    agent = start("--", *program("orphans.py"))
    agent.says("ready")
    me = agent.pid
    until(
        lambda: (
            len([p for p in procfs.read_process_table().values() if p.parent == me and p.state == "Z"]) == 0
            and len([p for p in procfs.read_process_table().values() if p.parent == me]) == 1
        ),
        "all orphans reaped, only the main process left",
    )
    agent.send(signal.SIGTERM)
    agent.finish()
    assert agent.event("stopped")["strangers"] == 100


@pytest.mark.parametrize("flags", [[], ["--stay"], ["--stubborn"], ["--stay", "--stubborn"]])
def test_a_daemon_goes_with_its_workload(start: Start, flags: list[str]) -> None:
    """A setsid daemon is out of the group; a polite one has its grace, a stubborn one is killed after it."""
    grace = "0.3" if "--stubborn" in flags else "60"
    agent = start("--grace", grace, "--", *program("daemon.py"), *flags)
    agent.says("ready")
    if "--stay" in flags:
        agent.send(signal.SIGTERM)
    assert agent.finish() == (128 + signal.SIGTERM if "--stay" in flags else 0)
    stopped = agent.event("stopped")
    assert (stopped["stuck"], stopped["left"]) == (None, [])


def test_a_workload_deaf_to_sigterm_is_killed_after_the_grace(start: Start) -> None:
    agent = start("--grace", "0.3", "--", *program("stubborn.py"))
    agent.says("ready")
    agent.send(signal.SIGTERM)
    assert agent.finish() == 128 + signal.SIGKILL
    assert agent.event("stopped")["seconds"] >= 0.3


def test_a_second_signal_skips_the_grace(start: Start) -> None:
    agent = start("--grace", "1000", "--", *program("stubborn.py"))
    agent.says("ready")
    agent.send(signal.SIGTERM)
    agent.event("stopping")
    agent.send(signal.SIGINT)
    assert agent.finish() == 128 + signal.SIGKILL


def test_a_stopped_workload_hears_sigterm(start: Start) -> None:
    agent = start("--grace", "1000", "--", "sh", "-c", "echo ready; kill -STOP $$")
    agent.says("ready")
    main = until(
        lambda: [p for p in procfs.read_process_table().values() if p.parent == agent.pid and p.state == "T"],
        "stop",
    )
    assert len(main) == 1
    agent.send(signal.SIGTERM)
    assert agent.finish() == 128 + signal.SIGTERM


def test_a_fork_bomb_that_left_the_group_is_ended(start: Start) -> None:
    agent = start("--grace", "0.1", "--", *program("bomb.py"))
    agent.says("ready")
    agent.finish()
    stopped = agent.event("stopped")
    assert (stopped["stuck"], stopped["left"]) == (None, [])


def test_a_service_child_is_spared(start: Start) -> None:
    """It lives on, with its own children, through two workloads and their stops."""
    agent = start(
        "--service",
        "sleep 1000; true",
        "--again",
        "1",
        "--grace",
        "0.2",
        "--",
        *program("daemon.py"),
        "--stubborn",
    )
    agent.finish()
    assert [event["services"] for event in agent.events("stopped")] == [1, 1]
    assert [event["left"] for event in agent.events("stopped")] == [[], []]


def test_the_end_of_a_service_child_is_told(start: Start) -> None:
    agent = start("--service", "exit 5", "--", "sleep", "1000")
    assert agent.event("service")["status"] == 5
    agent.send(signal.SIGTERM)
    agent.finish()


def test_children_from_before_are_nobodys_workload(tmp_path: Path) -> None:
    """``entrypoint.sh`` starts a daemon and execs the agent: our child, and none of our business."""
    events = tmp_path / "events"
    harness = f"exec {sys.executable} -m tests.process.harness --events {events} -- true"
    pid_file = tmp_path / "pid"
    script = f"sleep 1000 & echo $! > {pid_file}; {harness}"
    assert subprocess.run(["sh", "-c", script], cwd=ROOT, timeout=DEADLINE, check=False).returncode == 0
    daemon = int(pid_file.read_text())
    alive = procfs.read_process(daemon)
    os.kill(daemon, signal.SIGKILL)
    assert alive is not None
    assert alive.alive


def test_the_workload_is_born_as_we_were(start: Start) -> None:
    """What was blocked and ignored for us arrives at the workload so, and nothing of our own does."""

    def prepare() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])
        for number in (signal.SIGUSR2, signal.SIGTTIN, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)

    agent = start("--", "cat", "/proc/self/status", preexec_fn=prepare)
    assert agent.finish() == 0
    state = {name: int(value, 16) for name, value in re.findall(r"(Sig...):\s+(\w+)", agent.output()[0])}
    bits = {
        name: {n for n in range(1, 65) if state[name] >> (n - 1) & 1}
        for name in ("SigBlk", "SigIgn", "SigCgt")
    }
    assert bits["SigBlk"] == {signal.SIGWINCH}
    assert bits["SigIgn"] - {32, 33} == {signal.SIGUSR2, signal.SIGTTIN, signal.SIGQUIT}
    assert bits["SigCgt"] == set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("blocked", [False, True])
def test_a_stop_signal_counts_however_the_agent_was_started(
    tmp_path: Path, number: signal.Signals, blocked: bool
) -> None:
    """A shell without job control starts what it runs in the background with SIGINT ignored."""

    def prepare() -> None:
        signal.signal(number, signal.SIG_IGN)
        if blocked:
            signal.pthread_sigmask(signal.SIG_BLOCK, [number])

    status = tmp_path / "status"
    script = f"cat /proc/self/status >{status}.new; mv {status}.new {status}; exec sleep 1000"
    address = f"127.0.0.1:{free_port()}"
    where = ("--size", "1", "--rank", "0", "--unit", f"u{os.getpid()}", "--comm-ifname", "lo")
    grace = ("--stop-grace-seconds", "1")  # the workload was born with the signal ignored, and ignores it
    agent = subprocess.Popen(
        [sys.executable, "-m", "unitagent", "run", *where, *grace, "--http-address", address, "--",
         "sh", "-c", script],
        cwd=ROOT, preexec_fn=prepare, stderr=subprocess.DEVNULL,  # noqa: PLW1509 (there are none)
    )  # fmt: skip
    try:
        until(status.exists, "the workload starts")
        agent.send_signal(number)
        assert agent.wait(DEADLINE) == 0
    finally:
        agent.kill()
    ignored = int(re.search(r"SigIgn:\s+(\w+)", status.read_text())[1], 16)  # type: ignore[index]
    assert ignored >> (number - 1) & 1, "the workload starts as the agent was started"


def test_a_signal_ignored_at_birth_is_not_passed_on(start: Start) -> None:
    agent = start(
        "--", *program("signals.py"), preexec_fn=lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    )
    agent.says("ready")
    agent.send(signal.SIGUSR1)
    agent.send(signal.SIGUSR2)
    agent.says(str(int(signal.SIGUSR2)))
    agent.send(signal.SIGTERM)
    agent.finish()
    assert str(int(signal.SIGUSR1)) not in agent.output()[0].split()


def test_only_the_standard_files_are_inherited(start: Start) -> None:
    agent = start("--", "ls", "/proc/self/fd")
    agent.finish()
    assert agent.output()[0].split() == ["0", "1", "2", "3"]  # the last is the listing itself


def test_stdin_and_the_working_directory_are_ours(start: Start) -> None:
    agent = start("--", "sh", "-c", "pwd; cat", stdin=subprocess.PIPE)
    assert agent.popen.stdin is not None
    agent.popen.stdin.write(b"through\n")
    agent.popen.stdin.close()
    agent.popen.stdin = None
    agent.finish()
    assert agent.output()[0].split() == [str(ROOT), "through"]


@AS_SUBREAPER
@pytest.mark.parametrize(("word", "code"), [("/no/such/tool", 127), ("/etc/passwd", 126), ("/", 126)])
def test_a_command_that_cannot_run(start: Start, word: str, code: int) -> None:
    agent = start("--", word)
    assert agent.finish() == code
    assert agent.output()[1].startswith(f"unitagent: error: COMMAND {word!r}")


def test_a_workload_can_be_run_again_and_again(start: Start) -> None:
    agent = start("--again", "5", "--", "sh", "-c", "setsid sleep 1000 & echo word >&2; exit 4")
    assert agent.finish() == 4
    assert [event["tail"] for event in agent.events("exit")] == [["word"]] * 6
    assert [event["left"] for event in agent.events("stopped")] == [[]] * 6


# Python's own handler would not do: a SIGINT between the print and the read is seen after the read.
ASKING = """
import os, signal
signal.signal(signal.SIGINT, signal.SIG_DFL)
print("said", input(), os.tcgetpgrp(0) == os.getpgrp(), os.isatty(2), flush=True)
input()
"""


def test_the_terminal_is_lent_and_taken_back(start: Start) -> None:
    """The workload reads what is typed, Ctrl-C is its own, and afterwards the terminal is ours again."""
    ours, theirs = pty.openpty()
    agent = start(
        "--inherit-stderr", "--", sys.executable, "-c", ASKING,
        prefix=("setsid", "--ctty"), stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    os.write(ours, b"hello\n")
    read_terminal(ours, "said hello True True")
    os.write(ours, b"\x03")
    stopped = agent.event("stopped")
    assert agent.finish() == 128 + signal.SIGINT
    assert stopped["foreground"]
    os.close(ours)


def test_a_terminal_that_is_not_in_our_hands_is_left_alone(start: Start) -> None:
    """In the background of somebody's shell, stdin is a terminal but not ours to lend."""
    ours, theirs = pty.openpty()
    agent = start("--", "sh", "-c", "echo ready; exec sleep 1000", stdin=theirs)
    os.close(theirs)
    agent.says("ready")
    agent.send(signal.SIGTERM)
    assert agent.finish() == 128 + signal.SIGTERM
    os.close(ours)


def read_terminal(terminal: int, wanted: str) -> str:
    text, deadline = "", time.monotonic() + DEADLINE
    while wanted not in text:
        ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"no {wanted!r} in {text!r}"
        text += os.read(terminal, 4096).decode()
    return text


@pytest.mark.root
@pytest.mark.parametrize("group", ["freezer"], indirect=True)
def test_who_outlives_sigkill_is_reported(group: Path, tmp_path: Path) -> None:
    """A frozen process is as deaf as one that hangs in a driver: the stop ends, and says who is left."""
    agent = Agent(
        tmp_path, "--kill-seconds", "0.5", "--grace", "0.2", "--", "sh", "-c", "echo ready; exec sleep 1000"
    )
    try:
        agent.says("ready")
        pid = agent.event("spawned")["pid"]
        until(
            lambda: getattr(procfs.read_process(pid), "name", "") == "sleep", "the shell has become another"
        )
        (group / "cgroup.procs").write_text(str(pid))
        (group / "freezer.state").write_text("FROZEN")
        agent.send(signal.SIGTERM)
        assert "(sleep, state " in agent.event("stopped")["stuck"]
    finally:
        (group / "freezer.state").write_text("THAWED")
        agent.close()


@pytest.mark.root
@pytest.mark.parametrize("group", ["pids"], indirect=True)
def test_a_stop_needs_no_free_thread(group: Path, tmp_path: Path) -> None:
    """A workload has used up all the processes and threads that we may have; it is ended all the same."""
    (group / "pids.max").write_text("30")
    agent = Agent(tmp_path, "--grace", "0.2", "--", *program("greedy.py"), preexec_fn=enter(group))
    try:
        agent.says("ready")
        agent.send(signal.SIGTERM)
        assert agent.finish() == 128 + signal.SIGKILL
        assert agent.event("stopped")["left"] == []
    finally:
        agent.close()
