"""Somebody looks at an incident with his own tools (``kubectl exec POD -- nvtop``) while a Unit restarts."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.solo import Solo
from tests.processes import kill_family
from tests.waiting import DEADLINE, until
from unitagent.system import procfs

pytestmark = pytest.mark.root  # for a /dev with a GPU, which is a file here

ROOT = Path(__file__).parents[2]
DEV = """
mount -t tmpfs tmpfs /dev && mkdir /dev/shm && ln -s /proc/self/fd /dev/fd && touch /dev/nvidia0
mknod /dev/null c 1 3 && mknod /dev/zero c 1 5 && mknod /dev/urandom c 1 9 && exec "$@"
"""
PID1 = ("--pid", "--fork", "--kill-child", "--mount-proc")
# A helper that inherits the GPU, so that there is somebody to look at when the main process ends.
DAEMON = "exec 3</dev/nvidia0; sleep 1000 &"


class Incident:
    """A Unit of one with a GPU, and a tool beside its workload."""

    def __init__(self, folder: Path, *, pid1: bool) -> None:
        inside = ("unshare", "--mount", *(PID1 if pid1 else ()), "--", "sh", "-c", DEV, "sh")
        given = {"PYTHONPATH": str(ROOT), "DAEMON": DAEMON}
        self.solo = Solo(
            folder, "--backoff-seconds", "0", "--restart-grace-seconds", "0.2", prefix=inside, **given
        )
        self.pid1 = pid1
        self.generation = self.solo.ready()["generation"]
        until(self.workload, "the workload runs")
        words = ["nsenter", "--target", str(self.agent), "--mount", *(["--pid"] if pid1 else []), "--"]
        tool = "exec 3</dev/nvidia0; echo looks; exec sleep 1000"
        self.tool = subprocess.Popen([*words, "sh", "-c", tool], stdin=-3, stdout=-1, env={})
        assert self.tool.stdout is not None
        assert self.tool.stdout.readline() == b"looks\n"

    @property
    def agent(self) -> int:
        if not self.pid1:
            return self.solo.popen.pid
        return next(
            one.pid for one in procfs.read_process_table().values() if one.parent == self.solo.popen.pid
        )

    def workload(self) -> list[int]:
        """Pids of its main process and of its helper."""
        return [
            one.pid
            for one in procfs.select_descendants(procfs.read_process_table(), self.agent)
            if one.name == "sleep"
        ]

    def told(self) -> None:
        text = self.solo.output.read_text()
        assert "the workload is gone, but /dev/nvidia0 is still held by process" in text
        assert "(sleep), which does not belong to it" in text

    def stop(self) -> int:
        procfs.send_signal(procfs.read_process_table()[self.agent], signal.SIGTERM)
        return self.solo.popen.wait(DEADLINE)

    def close(self) -> None:
        kill_family(self.tool)
        assert self.tool.stdout is not None
        self.tool.stdout.close()
        self.solo.close()


@pytest.fixture
def incident(tmp_path: Path) -> Iterator[Callable[..., Incident]]:
    made: list[Incident] = []

    def begin(*, pid1: bool) -> Incident:
        made.append(Incident(tmp_path, pid1=pid1))
        return made[-1]

    yield begin
    for one in made:
        one.close()


@pytest.mark.parametrize("pid1", [True, False], ids=["pid1", "subreaper"])
def test_a_crash_is_followed_by_a_restart_in_place(incident: Callable[..., Incident], *, pid1: bool) -> None:
    unit = incident(pid1=pid1)
    main = min(unit.workload(), key=lambda pid: procfs.read_process_table()[pid].group != pid)
    procfs.kill_process(procfs.read_process_table()[main])
    unit.solo.ready(unit.generation)
    unit.told()
    assert unit.tool.poll() is None
    assert unit.stop() == 0


def test_a_stop_ends_with_0(incident: Callable[..., Incident]) -> None:
    unit = incident(pid1=True)
    assert unit.stop() == 0
    unit.told()
