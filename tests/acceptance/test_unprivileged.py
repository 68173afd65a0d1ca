"""An agent needs no privilege: everything works as user nobody without a single capability."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.local import clean, command_line
from tests.ports import free_port
from tests.processes import kill_family
from tests.waiting import DEADLINE, until
from unitagent.system import procfs

pytestmark = pytest.mark.root  # to have privileges to drop

ROOT = Path(__file__).parents[2]
SHM = Path("/dev/shm")  # noqa: S108 - the place itself
NOBODY = 65534
DROP = [
    "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--bounding-set=-all",
    "--inh-caps=-all", "--no-new-privs", "--",
]  # fmt: skip
PID1 = ["--pid", "--fork", "--kill-child", "--mount-proc"]
DAEMON = "setsid sh -c 'exec 9>/dev/shm/$LEFT-$RANK_ID; exec sleep 1001' &"
WORKLOAD = f'grep CapEff /proc/self/status >> "$SEEN"; {DAEMON} exec sleep 1000'


class Unprivileged:
    """``unitagent WORDS`` as nobody; repository and interpreter are bound to where nobody may enter."""

    def __init__(self, folder: Path, *words: str, pid1: bool = False, command: tuple[str, ...] = ()) -> None:
        self.seen, self.output = folder / "seen", folder / "output"
        self.port, self.pid1 = free_port(), pid1
        self.name = f"unprivileged-{self.port}"
        binds = {ROOT: folder / "repository", Path(sys.base_prefix): folder / "python"}
        for target in binds.values():
            target.mkdir()
        mounts = [f"mount --bind {source} {target}" for source, target in binds.items()]
        script = " && ".join([*mounts, f"cd {folder}", 'exec "$@"'])
        inside = ["unshare", "--mount", *(PID1 if pid1 else []), "sh", "-c", script, "sh", *DROP]
        interpreter = folder / "python" / "bin" / Path(os.path.realpath(sys.executable)).name
        address = ["--http-address", f"127.0.0.1:{self.port}"]
        agent = [str(interpreter), "-B", "-m", "unitagent", *words, *address, "--"]
        agent += command or ("sh", "-c", WORKLOAD)
        packages = folder / "repository" / Path(sysconfig.get_path("purelib")).relative_to(ROOT)
        path = f"{folder / 'repository'}:{packages}"
        libraries = str(folder / "python" / "lib")
        env = clean(
            PYTHONPATH=path, LD_LIBRARY_PATH=libraries, SEEN=str(self.seen), LEFT=self.name
        )  # fmt: skip
        with self.output.open("wb") as file:
            self.popen = subprocess.Popen([*inside, *agent], env=env, stdin=-3, stdout=file, stderr=file)

    def ready(self, above: int = 0) -> dict[str, Any]:
        """Wait until it serves in a generation above this one; its status then."""
        return until(lambda: self._ready(above), f"ready above generation {above}")

    def _ready(self, above: int) -> dict[str, Any]:
        assert self.popen.poll() is None, self.output.read_text()
        with contextlib.suppress(OSError):
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/status", timeout=5) as answer:
                seen: dict[str, Any] = json.load(answer)
            return seen if seen["ready"] and seen["generation"] > above else {}
        return {}

    def sleeping(self, seconds: int) -> list[int]:
        """Pids of the workload's processes that sleep for so long."""
        words = f"sleep\0{seconds}\0"
        below = procfs.select_descendants(procfs.read_process_table(), self.popen.pid)
        return [one.pid for one in below if command_line(one.pid) == words]

    def shared(self) -> list[Path]:
        """What the workloads made in shared memory, a file for each rank."""
        return list(SHM.glob(f"{self.name}-*"))

    def stop(self) -> int:
        """SIGTERM to PID 1, or to who stands for it; the exit code."""
        first = self.popen.pid
        if self.pid1:
            first = next(
                one.pid for one in procfs.read_process_table().values() if one.parent == self.popen.pid
            )
        os.kill(first, signal.SIGTERM)
        return self.popen.wait(DEADLINE)

    def close(self) -> None:
        kill_family(self.popen)


Start = Callable[..., Unprivileged]


@pytest.fixture
def start() -> Iterator[Start]:
    made: list[Unprivileged] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chown(folder, NOBODY, NOBODY)
        folder.chmod(0o755)

        def begin(*words: str, pid1: bool = False, command: tuple[str, ...] = ()) -> Unprivileged:
            made.append(Unprivileged(folder, *words, pid1=pid1, command=command))
            return made[-1]

        yield begin
        for one in made:
            one.close()


def works(unit: Unprivileged, size: int) -> None:
    """It forms, restarts after a kill, leaves nothing behind, and ends with 0."""
    generation = unit.ready()["generation"]
    until(lambda: len(unit.sleeping(1001)) == len(unit.shared()) == size, "the daemons use shared memory")
    until(lambda: len(unit.seen.read_text().split()) == 2 * size, "the workloads tell their rights")
    until(lambda: len(unit.sleeping(1000)) == size, "the workloads run")
    assert {line.split()[1] for line in unit.seen.read_text().splitlines()} == {"0" * 16}
    old = [*unit.sleeping(1000), *unit.sleeping(1001)]
    assert len(old) == 2 * size
    assert {Path(f"/proc/{pid}").stat().st_uid for pid in old} == {NOBODY}
    os.kill(old[0], signal.SIGKILL)
    failure = unit.ready(generation)["failure"]
    assert (failure["reason"], failure["signal"]) == ("signal", 9)
    until(lambda: len(unit.sleeping(1001)) == size, "the daemons are there again")
    new = [*unit.sleeping(1000), *unit.sleeping(1001)]
    assert not set(old) & set(new)
    assert unit.stop() == 0, unit.output.read_text()
    assert not any(procfs.read_process(pid) for pid in new)
    assert not unit.shared()


def test_a_whole_unit(start: Start) -> None:
    works(start("local", "--size", "2", "--guard"), 2)


def test_pid_1_of_a_container(start: Start) -> None:
    own = ["--size", "1", "--rank", "0", "--rank-ip", "127.0.0.1", "--comm-ifname", "lo", "--guard"]
    works(start("run", *own, pid1=True), 1)


@pytest.mark.parametrize("pid1", [False, True], ids=["subreaper", "pid1"])
def test_a_warm_start_needs_no_privilege(start: Start, pid1: bool) -> None:
    own = ["--size", "1", "--rank", "0", "--rank-ip", "127.0.0.1", "--comm-ifname", "lo", "--guard"]
    warm = ["--warm", "first", "--warm-modules", "json,decimal", "--backoff-seconds", "0"]
    program = "import decimal, time; time.sleep(1000)"
    command = ("/usr/bin/python3", "-c", program)
    unit = start("run", *own, *warm, pid1=pid1, command=command)
    for generation in (0, 1):
        begun = unit.ready(generation)["start"]
        assert begun["kind"] == "warm", begun
        until(lambda: unit.ready()["start"]["next"]["kind"] == "warm", "the next one is forked")
        family = procfs.select_descendants(procfs.read_process_table(), unit.popen.pid)
        (main,) = (one for one in family if command_line(one.pid) == "\0".join((*command, "")))
        assert Path(f"/proc/{main.pid}").stat().st_uid == NOBODY
        procfs.kill_process(main)
    assert unit.ready(2)["start"]["kind"] == "warm"
    assert unit.stop() == 0, unit.output.read_text()
