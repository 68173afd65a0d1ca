"""The collector, on real processes: what it sees, what it masks, and that nothing makes it late."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.evidence.collecting import GANG, Collection, Workload
from tests.process.fuse import HangingFolder
from unitagent.evidence import stacks
from unitagent.system import procfs

SECRET = "correct-horse-battery"  # noqa: S105 (it looks like one)
SLEEPER = [sys.executable, "-c", "import time\ndef rest(): time.sleep(1000)\nrest()"]


@pytest.fixture
def workloads() -> Iterator[list[Workload]]:
    made: list[Workload] = []
    yield made
    for one in made:
        one.close()


def gang(workloads: list[Workload], how: str, path: str = "", **variables: str) -> Workload:
    """One rank that does this."""
    workload = Workload([sys.executable, str(GANG), "0", how, path], RANK_ID="0", **variables)
    workloads.append(workload)
    return workload


def test_stacks_files_and_the_tree_are_kept(tmp_path: Path, workloads: list[Workload]) -> None:
    os.mkfifo(tmp_path / "model")
    workload = gang(workloads, "open", str(tmp_path / "model"))
    workload.wait_for_call("open_model")
    collection = Collection(tmp_path / "root", workload.popen.pid, texts={"decisions.txt": ["one", "two"]})
    found = collection.wait()
    (place,) = found["places"]
    assert place["words"].startswith("in open_model (gang.py:")
    assert place["words"].endswith(f"open of {tmp_path}/model") or os.uname().machine not in (
        "x86_64",
        "aarch64",
    )
    assert found["trouble"] == ""
    assert found["files"] == len(collection.names)
    assert {"stacks.txt", "processes.txt", "pressure.txt", "decisions.txt"} <= set(collection.names)
    assert "open_model" in collection.text("stacks.txt")
    (one,) = workload.processes
    shown = collection.text("processes.txt")
    assert f"{one.pid} (python" in shown
    assert "state S" in shown
    assert "VmRSS" in shown
    assert "MemTotal" in collection.text("pressure.txt")
    assert collection.text("decisions.txt") == "one\ntwo\n"


@pytest.mark.parametrize(
    ("how", "words"), [("spin", "in spin (gang.py:"), ("stop", "suspended (state T) in stop")]
)
def test_a_spinning_and_a_stopped_process_are_read(
    tmp_path: Path, workloads: list[Workload], how: str, words: str
) -> None:
    workload = gang(workloads, how)
    workload.wait_for_call(how)
    if how == "stop":
        workload.wait_for_state("T")
    (place,) = Collection(tmp_path, workload.popen.pid).wait()["places"]
    assert place["words"].startswith(words)
    assert place["halted"] is (how == "stop")
    assert [one.state for one in workload.processes] == ["T" if how == "stop" else "R"], (
        "it is left as it was"
    )


def test_secrets_are_masked_everywhere(tmp_path: Path, workloads: list[Workload]) -> None:
    words = [sys.executable, "-c", f"def {SECRET.replace('-', '_')}(): pass\nimport time; time.sleep(1000)"]
    workload = Workload([*words, "--api-key", SECRET], A_TOKEN=SECRET)
    workloads.append(workload)
    workload.wait_for_state("S")
    lines = [
        f"10%\r\x1b[1mloading with {SECRET}\x1b[0m",
        "redis://:hunter22@host/0",
        "hf_abcdefghijklmnopqrstuvwxyz",
    ]
    collection = Collection(tmp_path, workload.popen.pid, texts={"output.txt": lines, "decisions.txt": lines})
    collection.wait()
    assert collection.text("output.txt") == "loading with ***\nredis://***@host/0\n***\n"
    everything = collection.raw.decode() + "".join(map(collection.text, collection.names))
    for secret in (SECRET, "hunter22", "hf_abc"):
        assert secret not in everything


def test_the_output_names_the_cause(tmp_path: Path) -> None:
    lines = ["Traceback", "ModuleNotFoundError: No module named 'flash_attn'"]
    collection = Collection(tmp_path, os.getpid(), live=False, texts={"output.txt": lines})
    assert collection.wait()["cause"] == "the Python module flash_attn is not installed"
    assert set(collection.names) == {"output.txt", "pressure.txt", "report.json"}
    assert (
        json.loads(collection.text("report.json"))["cause"] == "the Python module flash_attn is not installed"
    )


def test_services_of_the_agent_are_left_out(tmp_path: Path, workloads: list[Workload]) -> None:
    workload = Workload(SLEEPER, SLEEPER)
    workloads.append(workload)
    workload.wait_for_state("S", "S")
    spared, other = (one.pid for one in workload.processes)
    found = Collection(tmp_path, workload.popen.pid, spared=[spared]).wait()
    assert [place["pid"] for place in found["places"]] == [other]


def test_without_py_spy_the_kernel_tells(tmp_path: Path, workloads: list[Workload]) -> None:
    os.mkfifo(tmp_path / "model")
    workload = gang(workloads, "open", str(tmp_path / "model"))
    workload.wait_for_call("open_model")
    bare = str(Path(sys.executable).resolve())  # no package is next to the Python of a virtual environment
    collection = Collection(tmp_path / "root", workload.popen.pid, path="/none", python=bare)
    found = collection.wait()
    assert found["places"][0]["words"].startswith("waiting in the kernel's ")
    assert "pip install py-spy" in found["trouble"]
    assert "stacks.txt" not in collection.names


def write_program(folder: Path, name: str, script: str) -> str:
    """A program that is found first; returns the PATH for it."""
    folder.mkdir()
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def test_a_report_of_the_gpus_is_kept(tmp_path: Path, workloads: list[Workload]) -> None:
    workload = gang(workloads, "wait")
    workload.wait_for_call("all_reduce")
    path = write_program(tmp_path / "bin", "nvidia-smi", 'echo "asked: $*"; echo GPU 0 >&2')
    collection = Collection(tmp_path / "root", workload.popen.pid, path=path)
    collection.wait()
    assert collection.text("nvidia-smi.txt") == "asked: -q\nGPU 0\n"


def test_a_program_that_hangs_costs_only_its_own_report(tmp_path: Path, workloads: list[Workload]) -> None:
    workload = gang(workloads, "wait")
    workload.wait_for_call("all_reduce")
    path = write_program(tmp_path / "bin", "nvidia-smi", "trap '' TERM; echo $$ >$0.pid; exec sleep 1000")
    collection = Collection(tmp_path / "root", workload.popen.pid, path=path, seconds=3)
    began = time.monotonic()
    found = collection.wait()
    assert time.monotonic() - began < 30
    assert "in all_reduce" in found["places"][0]["words"]
    pid = int((tmp_path / "bin" / "nvidia-smi.pid").read_text())
    assert procfs.read_process(pid) is None, "it was ended and reaped before the collector ended"


def test_the_agent_can_end_it(tmp_path: Path, workloads: list[Workload]) -> None:
    workload = gang(workloads, "wait")
    path = write_program(tmp_path / "bin", "nvidia-smi", "echo $$ >$0.new; mv $0.new $0.pid; exec sleep 1000")
    collection = Collection(tmp_path / "root", workload.popen.pid, path=path, seconds=1000)
    deadline = time.monotonic() + 60
    while not (tmp_path / "bin" / "nvidia-smi.pid").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    collection.popen.send_signal(signal.SIGTERM)
    collection.wait()
    pid = int((tmp_path / "bin" / "nvidia-smi.pid").read_text())
    assert procfs.read_process(pid) is None


@pytest.mark.root
def test_a_disk_that_hangs_delays_nothing_that_is_seen(tmp_path: Path, workloads: list[Workload]) -> None:
    (tmp_path / "disk").mkdir()
    workload = gang(workloads, "wait")
    workload.wait_for_call("all_reduce")
    disk = HangingFolder(tmp_path / "disk")
    try:
        collection = Collection(tmp_path / "disk" / "root", workload.popen.pid, seconds=5)
        assert collection.wait_for_report("seen") < 60
        assert b"in all_reduce" in collection.raw
    finally:
        disk.close()
        collection.popen.wait(60)


@pytest.mark.root
def test_a_process_that_is_stuck_in_the_kernel_is_named(tmp_path: Path, workloads: list[Workload]) -> None:
    (tmp_path / "disk").mkdir()
    disk = HangingFolder(tmp_path / "disk")
    try:
        workload = gang(workloads, "open", str(tmp_path / "disk" / "model"))
        assert disk.asked.wait(60)
        collection = Collection(tmp_path / "root", workload.popen.pid)
        (place,) = collection.wait()["places"]
        assert "in open_model (gang.py:" in place["words"]
        assert place["words"].endswith("open of " + str(tmp_path / "disk" / "model"))
    finally:
        disk.close()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = Collection(tmp_path / "file", os.getpid(), live=False).wait()
    assert found["trouble"].startswith("the evidence is not kept: ")
    assert found["name"] == ""


def fail_to_read(tmp_path: Path, workloads: list[Workload], said: str) -> tuple[int, Collection, str]:
    """Collect with a py-spy that says this; returns the process, the collection and its trouble."""
    workload = gang(workloads, "wait")
    workload.wait_for_call("all_reduce")
    path = write_program(tmp_path / "bin", "py-spy", f"echo '{said}'; exit 1")
    bare = str(Path(sys.executable).resolve())
    collection = Collection(tmp_path / "root", workload.popen.pid, path=path, python=bare)
    found = collection.wait()
    assert found["places"][0]["words"].startswith("waiting in the kernel's ")
    (one,) = workload.processes
    return one.pid, collection, found["trouble"]


def test_a_process_that_py_spy_cannot_read_is_told(tmp_path: Path, workloads: list[Workload]) -> None:
    pid, collection, trouble = fail_to_read(tmp_path, workloads, "Error: it is no Python\nStack backtrace: 0")
    assert trouble == f"py-spy, process {pid}: Error: it is no Python"
    assert "Error: it is no Python\n" in collection.text("stacks.txt") + "\n"


def test_a_container_that_lacks_the_right_is_told_the_remedy(
    tmp_path: Path, workloads: list[Workload]
) -> None:
    pid, _, trouble = fail_to_read(tmp_path, workloads, "Permission Denied\n\nIt looks like you are")
    assert trouble.startswith(f"py-spy may not read process {pid}, so there are no Python stacks: ")
    assert "\n" not in trouble


@pytest.mark.parametrize(
    ("capabilities", "user", "scope", "words"),
    [
        (
            "00000000a80425fb",
            0,
            "",
            "give the container the capability SYS_PTRACE (docker run --cap-add SYS_PTRACE;",
        ),
        (
            "0",
            10001,
            "0\n",
            "run the container as root with the capability SYS_PTRACE (docker run --user 0 --cap-add",
        ),
        (
            "00000000a80425fb",
            0,
            "1\n",
            "set kernel.yama.ptrace_scope=0 on the host, or give the container the",
        ),
        (
            "000001ffffffffff",
            0,
            "1\n",
            "allow process_vm_readv and ptrace in the container's seccomp profile",
        ),
    ],
)
def test_the_remedy_fits_what_is_missing(capabilities: str, user: int, scope: str, words: str) -> None:
    status = f"Name:\tx\nUid:\t{user}\t0\t0\t0\nCapEff:\t{capabilities}\n"
    assert stacks._find_remedy(status, scope).startswith(words)
