"""What stays when the processes of a workload are gone, or when one cannot go, is waited for and said."""

from __future__ import annotations

import os
import shlex
import socket
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.ports import free_port
from tests.process.conftest import Agent, program
from tests.process.fuse import HangingFolder
from tests.waiting import DEADLINE
from unitagent.system import procfs, tcp_sockets
from unitagent.system.tcp_sockets import TcpState
from unitagent.workload.resource_release import HeldResources, ResourceRelease, find_gpu_holders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Start = Callable[..., Agent]

INHERITS = [sys.executable, "-c", "print(flush=True); input()"]


@pytest.fixture
def holdings() -> ResourceRelease:
    return ResourceRelease()


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_socket_of_the_workload_that_somebody_else_has_too(
    holdings: ResourceRelease, family: socket.AddressFamily, address: str
) -> None:
    with socket.socket(family) as ours:
        ours.bind((address, 0))
        ours.listen()
        port = ours.getsockname()[1]
        with subprocess.Popen(INHERITS, pass_fds=[ours.fileno()], stdin=-1, stdout=-1) as workload:
            assert workload.stdout is not None
            workload.stdout.readline()
            holdings.begin_workload(workload.pid, ())
            holdings.record_usage([workload.pid])
            workload.kill()
        (said,) = holdings.wait_until_free(0).ports
        assert said.startswith(f"port {port} is still in use by process {os.getpid()} (")
    assert holdings.wait_until_free(0) == HeldResources()


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_both_ways_to_learn_who_listens_agree(family: socket.AddressFamily, address: str) -> None:
    with socket.socket(family) as ours, socket.socket(family) as bound:
        for one in (ours, bound):
            one.bind((address, 0))
        ours.listen()
        link = procfs.read_link(f"/proc/self/fd/{ours.fileno()}")
        mine = (ours.getsockname()[1], link)
        for look in (
            tcp_sockets._query_listeners(family),
            tcp_sockets.list_tcp_sockets(TcpState.LISTEN),
            tcp_sockets.list_listeners(),
        ):
            found = [(one.port, one.link) for one in look]
            assert found.count(mine) == 1
            assert bound.getsockname()[1] not in {port for port, _ in found}
    assert mine not in [(one.port, one.link) for one in tcp_sockets.list_listeners()]


def test_a_port_that_was_meant_for_the_workload(holdings: ResourceRelease) -> None:
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        port = somebody.getsockname()[1]
        holdings.begin_workload(os.getpid(), range(port, port + 8))
        assert any(f"port {port} " in said for said in holdings.wait_until_free(0).ports)
        holdings.begin_workload(os.getpid(), ())  # a new workload, for which it was not
        assert not holdings.wait_until_free(0)


def test_without_a_workload_or_a_gpu_nothing_is_held(holdings: ResourceRelease) -> None:
    assert list(find_gpu_holders("/nowhere/nvidia")) == []
    assert not holdings.wait_until_free(0)
    holdings.begin_workload(os.getpid(), ())
    assert not holdings.wait_until_free(0)


@pytest.fixture
def gpu(tmp_path: Path) -> Path:
    """A device that is named as a GPU is, and is really /dev/null's kind."""
    path = tmp_path / "nvidia0"
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    return path


class Outside:
    """A server outside of the workload that starts what it is told to, as the sshd of a container does."""

    def __init__(self, folder: Path) -> None:
        self.fifo = folder / "server"
        self.said = folder / "said"
        os.mkfifo(self.fifo)
        holds = shlex.join(program("holds.py"))
        self.service = f"read mark words < {self.fifo}; env $mark {holds} $words > {self.said}; true"

    def workload(self, words: str, *own: str, marked: bool = True) -> list[str]:
        """A workload that has the server hold this, and holds that itself; it may hand on its environment."""
        mark = "UNIT_AGENT=$UNIT_AGENT" if marked else "NOBODY=1"
        script = f"echo {mark} {words} > {self.fifo}; until grep -q . {self.said}; do sleep .05; done"
        return ["sh", "-c", f"{script}; exec {shlex.join(program('holds.py'))} {shlex.join(own)}"]


@pytest.fixture
def outside(tmp_path: Path) -> Outside:
    return Outside(tmp_path)


@pytest.mark.root
def test_a_gpu_that_stays_held_is_said(start: Start, gpu: Path, outside: Outside) -> None:
    devices = str(gpu).removesuffix("0")
    words = outside.workload(f"- {gpu}", "-", str(gpu))
    agent = start("--gpus", devices, "--service", outside.service, "--grace", "5", "--", *words)
    agent.says("ready")
    agent.send(15)
    assert agent.finish() == 99
    said = agent.event("stopped")["stuck"]
    assert said.startswith(f"the workload is gone, but {gpu} is still held by process ")
    assert "(python" in said


@pytest.mark.root
def test_who_is_not_of_the_workload_is_told_and_keeps_nothing_from_starting(
    start: Start, gpu: Path, outside: Outside
) -> None:
    devices = str(gpu).removesuffix("0")
    words = outside.workload(f"- {gpu}", "-", str(gpu), marked=False)
    release = ("--release-seconds", str(DEADLINE * 10))  # nobody waits for it
    agent = start("--gpus", devices, *release, "--service", outside.service, "--grace", "5", "--", *words)
    agent.says("ready")
    agent.send(15)
    assert agent.finish() == 128 + 15
    assert agent.event("stopped")["stuck"] is None
    said = agent.output()[1]
    assert f"the workload is gone, but {gpu} is still held by process " in said
    assert "), which does not belong to it" in said


@pytest.mark.root
@pytest.mark.parametrize("device", ["nvidiactl", "other0"])
def test_what_is_no_gpu_of_the_workload_does_not_matter(
    start: Start, gpu: Path, outside: Outside, device: str
) -> None:
    other = gpu.with_name(device)
    other.touch()
    devices = str(gpu).removesuffix("0")
    words = outside.workload(f"- {other}", "-", str(gpu))
    agent = start("--gpus", devices, "--service", outside.service, "--grace", "5", "--", *words)
    agent.says("ready")
    agent.send(15)
    agent.finish()
    assert agent.event("stopped")["stuck"] is None


@pytest.mark.root
def test_a_monitor_from_before_does_not_matter(start: Start, gpu: Path) -> None:
    devices = str(gpu).removesuffix("0")
    with subprocess.Popen([*program("holds.py"), "-", str(gpu)], stdout=-1) as monitor:
        assert monitor.stdout is not None
        monitor.stdout.readline()
        assert [device for _, device in find_gpu_holders(devices)] == [str(gpu)]
        agent = start("--gpus", devices, "--", *program("holds.py"), "-", str(gpu))
        agent.says("ready")
        agent.send(15)
        agent.finish()
        monitor.kill()
    assert agent.event("stopped")["stuck"] is None


def test_a_port_that_stays_is_said_and_no_reason_to_give_up(start: Start, outside: Outside) -> None:
    port = free_port()
    words = outside.workload(f"{port} -", "-", "-")
    agent = start("--ports", str(port), "--service", outside.service, "--grace", "5", "--", *words)
    agent.says("ready")
    agent.send(15)
    agent.finish()
    assert agent.event("stopped")["stuck"] is None
    assert f"the workload is gone, but port {port} is still in use by process" in agent.output()[1]


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[HangingFolder]:
    folder = tmp_path / "hanging"
    folder.mkdir()
    try:
        hanging = HangingFolder(folder)
    except OSError as error:
        pytest.skip(f"this kernel gives no FUSE: {error}")
    yield hanging
    hanging.close()


@pytest.mark.root
def test_a_process_that_hangs_in_the_kernel_is_said(hanging: HangingFolder, tmp_path: Path) -> None:
    """State D: no signal reaches it before the file system answers."""
    words = ["sh", "-c", f"echo ready; exec cat {hanging.folder}/file"]
    agent = Agent(tmp_path, "--kill-seconds", "0.5", "--grace", "0.2", "--", *words)
    try:
        agent.says("ready")
        assert hanging.asked.wait(DEADLINE)
        agent.send(15)
        assert "SIGKILL did not end" in agent.event("stopped")["stuck"]
        assert "(cat, state D)" in agent.event("stopped")["stuck"]
        assert agent.finish() == 99
    finally:
        hanging.close()
        agent.close()
