"""What a dead agent or a killed workload left is found, and what belongs to anybody else is not touched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.process.conftest import NAMESPACE, ROOT, Agent, program
from tests.waiting import until
from unitagent.system import procfs
from unitagent.workload import leftovers
from unitagent.workload.resource_release import SharedMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Start = Callable[..., Agent]

SHM = Path("/dev/shm")  # noqa: S108 - the place itself


def alive(pid: int) -> bool:
    process = procfs.read_process(pid)
    return process is not None and process.alive


@pytest.fixture
def unit() -> str:
    return f"leftovers-{uuid.uuid4().hex}"


class Workload:
    """A main process and a child without any environment, marked as that of a given agent."""

    def __init__(self, unit: str, rank: int, marker: str) -> None:
        env = {"UNIT_ID": unit, "RANK_ID": str(rank), "UNIT_AGENT": marker, "PATH": os.environ["PATH"]}
        script = "env -i sleep 1000 & echo $!; exec sleep 1000"
        self.popen = subprocess.Popen(["sh", "-c", script], env=env, stdout=subprocess.PIPE, process_group=0)
        assert self.popen.stdout is not None
        self.pids = [self.popen.pid, int(self.popen.stdout.readline())]
        until(lambda: all(b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in self.pids), "exec")

    def close(self) -> None:
        os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()
        assert self.popen.stdout is not None
        self.popen.stdout.close()


@pytest.fixture
def workload(unit: str) -> Iterator[Callable[[int, str], Workload]]:
    made: list[Workload] = []

    def make(rank: int, marker: str) -> Workload:
        made.append(Workload(unit, rank, marker))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_dead_agents_workload_is_ended_with_its_kin(
    unit: str, workload: Callable[[int, str], Workload]
) -> None:
    """The agent's pid is in use by somebody else by now: the start time tells."""
    left = workload(0, f"old:{os.getpid()}:1")
    former = leftovers.kill_leftovers(unit, 0)
    assert (sorted(former.ended), former.left) == (sorted(left.pids), ())
    assert not any(alive(pid) for pid in left.pids)


def test_a_member_of_its_group_without_any_mark_is_ended(
    unit: str, workload: Callable[[int, str], Workload]
) -> None:
    left = workload(0, "old:999999999:1")
    lone = subprocess.Popen(["sleep", "1000"], env={}, process_group=left.popen.pid)
    assert lone.pid in leftovers.kill_leftovers(unit, 0).ended
    assert lone.wait() == -signal.SIGKILL


@pytest.mark.parametrize("marker", ["", "old", "old:1", "old:x:1", "old:1:-1", "old:1:2:3"])
def test_a_mark_that_says_nothing_ends_nobody(
    unit: str, workload: Callable[[int, str], Workload], marker: str
) -> None:
    spared = workload(0, marker)
    assert leftovers.kill_leftovers(unit, 0).ended == ()
    assert all(alive(pid) for pid in spared.pids)


def test_a_living_agents_workload_and_other_ranks_are_spared(
    unit: str, workload: Callable[[int, str], Workload]
) -> None:
    spared = workload(0, leftovers.make_marker("mine")), workload(1, "old:999999999:1")
    assert leftovers.kill_leftovers(unit, 0).ended == ()
    assert leftovers.kill_leftovers("other-unit", 1).ended == ()
    assert all(alive(pid) for one in spared for pid in one.pids)


def test_we_and_who_started_us_are_spared(unit: str) -> None:
    """An agent that was started from within a dead agent's workload does not end itself."""
    env = {"UNIT_ID": unit, "RANK_ID": "0", "UNIT_AGENT": "old:999999999:1", "PATH": os.environ["PATH"]}
    look = f"from unitagent.workload import leftovers; print(leftovers.find_leftovers({unit!r}, 0))"
    script = f"{sys.executable} -c '{look}'; true".replace("'" + unit + "'", '"' + unit + '"')
    out = subprocess.run(["sh", "-c", script], env=env, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    assert out == b"[]\n"


@pytest.mark.root
def test_another_pid_namespace_is_spared(unit: str) -> None:
    """There a pid means somebody else, so whether that agent lives cannot be told from here."""
    env = {"UNIT_ID": unit, "RANK_ID": "0", "UNIT_AGENT": "old:999999999:1", "PATH": os.environ["PATH"]}
    inner = subprocess.Popen(
        [
            *NAMESPACE,
            "env",
            *(f"{name}={value}" for name, value in env.items()),
            "sh",
            "-c",
            "echo ready; exec sleep 1000",
        ],
        stdout=subprocess.PIPE,
    )
    try:
        assert inner.stdout is not None
        assert inner.stdout.readline() == b"ready\n"
        assert leftovers.kill_leftovers(unit, 0).ended == ()
        assert inner.poll() is None
    finally:
        inner.kill()
        inner.wait()
        assert inner.stdout is not None
        inner.stdout.close()


def test_after_a_real_agents_sudden_death(unit: str, tmp_path: Path) -> None:
    agent = Agent(tmp_path, "--unit", unit, "--", *program("daemon.py"), "--stay", "--stubborn")
    try:
        agent.says("ready")
        main = agent.event("spawned")["pid"]
        agent.send(signal.SIGKILL)
        agent.finish()
        assert alive(main)
        former = leftovers.kill_leftovers(unit, 0)
        assert main in former.ended
        assert len(former.ended) == 2  # with the daemon
        assert not alive(main)
    finally:
        agent.close()


@pytest.fixture
def name() -> Iterator[str]:
    """A name for shared memory that is gone after the test."""
    name = f"unitagent-test-{uuid.uuid4().hex}"
    yield name
    for path in SHM.glob(f"*{name}*"):
        path.unlink()


def there(name: str, folder: Path = SHM) -> list[str]:
    return sorted(path.name for path in folder.glob(f"*{name}*"))


@pytest.fixture
def shm() -> Iterator[Path]:
    """Shared memory where nobody else makes files: who takes all that is new for his own finds no other's."""
    with tempfile.TemporaryDirectory(dir=SHM) as folder:
        yield Path(folder)


def test_shared_memory_in_use_at_the_stop_is_removed(tmp_path: Path, name: str) -> None:
    """Only what the workload was seen to use goes, semaphores too."""
    agent = Agent(tmp_path, "--", *program("shared.py"), name)
    try:
        agent.says("ready")
        (SHM / f"other-{name}").touch()
        agent.send(signal.SIGTERM)
        agent.finish()
        assert there(name) == [f"other-{name}"]
    finally:
        agent.close()


@pytest.mark.root
def test_shared_memory_of_a_crash(tmp_path: Path, shm: Path, name: str) -> None:
    """Seen in use while the workload worked; nobody is left to be looked at afterwards."""
    prefix = ("unshare", "--mount", "--", "sh", "-c", 'mount --bind "$0" /dev/shm && exec "$@"', str(shm))
    agent = Agent(tmp_path, "--", *program("shared.py"), name, pid1=True, prefix=prefix)
    try:
        agent.says("ready")
        until(lambda: len(agent.events("look")) > 1, "two looks since")
        looks = len(agent.events("look"))
        until(lambda: len(agent.events("look")) > looks + 1, "two looks more, one of them begun since")
        main = next(
            one
            for one in procfs.select_descendants(procfs.read_process_table(), agent.pid)
            if one.name.startswith("python")
        )
        procfs.kill_process(main)
        assert agent.finish() == 128 + signal.SIGKILL
        assert there(name, shm) == []
    finally:
        agent.close()


# A neighbour writes a model there and closes it, and another file that the workload reads.
NEIGHBOUR = "import sys; [open(f'/dev/shm/{name}', 'w').write('weights') for name in sys.argv[1:]]"
READER = """
import mmap, os, sys, time
path = f"/dev/shm/{sys.argv[1]}"
while not os.path.exists(path) or not os.path.getsize(path):
    time.sleep(0.01)
handle = os.open(path, os.O_RDONLY)
held = mmap.mmap(handle, 0, prot=mmap.PROT_READ)
print("ready", flush=True)
time.sleep(1000)
"""


@pytest.mark.root
@pytest.mark.parametrize("crash", [False, True], ids=["stop", "crash"])
@pytest.mark.parametrize("neighbour_sees_us", [False, True], ids=["own pids", "shared pids"])
def test_what_another_container_of_the_pod_made_stays(
    tmp_path: Path, shm: Path, name: str, *, crash: bool, neighbour_sees_us: bool
) -> None:
    """Both share IPC and ``/dev/shm``; the workload has the one file mapped, to read it."""
    prefix = ("unshare", "--mount", "--ipc", "--", "sh", "-c", 'mount --bind "$0" /dev/shm && exec "$@"')
    reader = [sys.executable, "-c", READER, f"read-{name}"]
    agent = Agent(tmp_path, "--", *reader, pid1=True, prefix=(*prefix, str(shm)))
    try:
        agent.event("spawned")
        inside = ["nsenter", "--target", str(agent.pid), "--mount", "--ipc"]
        inside += ["--pid"] if neighbour_sees_us else []
        files = [f"closed-{name}", f"read-{name}"]
        subprocess.run([*inside, "--", sys.executable, "-c", NEIGHBOUR, *files], check=True)
        agent.says("ready")
        main = next(
            one
            for one in procfs.select_descendants(procfs.read_process_table(), agent.pid)
            if one.name.startswith("python")
        )
        procfs.send_signal(main, signal.SIGKILL if crash else signal.SIGTERM)
        agent.finish()
        assert there(name, shm) == files
    finally:
        agent.close()


@pytest.fixture
def memory(shm: Path, name: str) -> SharedMemory:
    memory = SharedMemory(shm)
    (shm / f"before-{name}").touch()
    memory.remember_existing()
    return memory


def make(memory: SharedMemory, path: Path) -> None:
    """Be the workload that writes a file, and be seen."""
    with path.open("w"):
        memory.sample_writers([os.getpid()])


def test_what_was_there_before_stays(memory: SharedMemory, shm: Path, name: str) -> None:
    make(memory, shm / name)
    make(memory, shm / f"before-{name}")
    assert memory.remove_leftovers() == [name]
    assert there(name, shm) == [f"before-{name}"]


def test_what_anybody_has_open_stays(memory: SharedMemory, shm: Path, name: str) -> None:
    with (shm / name).open("wb"):
        memory.sample_writers([os.getpid()])
        assert memory.remove_leftovers() == []
    assert name in there(name, shm)


def test_links_and_folders_stay(memory: SharedMemory, shm: Path, name: str, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.touch()
    (shm / f"link-{name}").symlink_to(target)
    folder = shm / f"folder-{name}"
    folder.mkdir()
    make(memory, shm / f"link-{name}")
    assert memory.remove_leftovers() == []
    folder.rmdir()
    assert target.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to give a file away")
@pytest.mark.root
def test_another_users_files_stay(memory: SharedMemory, shm: Path, name: str) -> None:
    make(memory, shm / name)
    os.chown(shm / name, 12345, 12345)
    assert memory.remove_leftovers() == []


def test_a_second_stop_removes_nothing_more(memory: SharedMemory, shm: Path, name: str) -> None:
    assert memory.remove_leftovers() == []
    make(memory, shm / name)
    assert memory.remove_leftovers() == []


def test_a_folder_that_has_not_changed_is_not_listed_again(
    shm: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shm / f"before-{name}").touch()
    os.utime(shm, (1, 1))  # so that a later change has another date
    memory = SharedMemory(shm)
    memory.remember_existing()
    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", lambda _: pytest.fail("listed"))
        assert not memory.has_leftovers()
        memory.remember_existing()
    make(memory, shm / name)
    assert memory.has_leftovers()
    assert memory.remove_leftovers() == [name]
    memory.remember_existing()
    assert not memory.has_leftovers()


def test_a_machine_without_shared_memory(tmp_path: Path) -> None:
    memory = SharedMemory(tmp_path / "none")
    memory.remember_existing()
    assert memory.remove_leftovers() == []


@pytest.fixture
def holder(shm: Path, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has ``name`` and ``sem.name`` mapped, and not open."""
    with subprocess.Popen([*program("shared.py"), f"{shm.name}/{name}"], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        yield holder
        holder.kill()


def test_what_anybody_has_mapped_stays(
    memory: SharedMemory, shm: Path, name: str, holder: subprocess.Popen[bytes]
) -> None:
    memory.sample_writers([holder.pid])
    assert memory.remove_leftovers() == []
    assert name in there(name, shm)


def test_only_what_was_seen_in_use_is_the_workloads(shm: Path, name: str) -> None:
    memory = SharedMemory(shm)
    memory.remember_existing()
    with subprocess.Popen([*program("shared.py"), f"{shm.name}/{name}"], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        (shm / f"unseen-{name}").touch()
        memory.sample_writers([holder.pid, 999999999])
        holder.kill()
    assert sorted(memory.remove_leftovers()) == [f"sem.{name}", name]
    assert there(name, shm) == [f"unseen-{name}"]


def test_the_marker_names_this_process() -> None:
    incarnation, pid, ticks = leftovers.make_marker("abc").split(":")
    process = procfs.read_process(int(pid))
    assert (incarnation, int(pid)) == ("abc", os.getpid())
    assert process is not None
    assert process.ticks == int(ticks)


def test_a_process_with_a_strange_name() -> None:
    """A name may hold brackets and spaces, which is what separates the fields."""
    with subprocess.Popen(
        ["sh", "-c", "printf ') Z (1' > /proc/$$/comm; echo; exec 3<&0; read line"], stdin=-1, stdout=-1
    ) as odd:
        assert odd.stdout is not None
        odd.stdout.readline()
        process = procfs.read_process(odd.pid)
        odd.kill()
    assert process is not None
    assert (process.name, process.parent) == (") Z (1", os.getpid())
