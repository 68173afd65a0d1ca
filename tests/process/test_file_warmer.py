"""UNIT_WARM_FILES: real files, and the kernel's own count of what is in the page cache."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.solo import Solo
from tests.process.conftest import enter
from tests.waiting import until
from unitagent.operator.doctor.doctor_cli import check_warm_files
from unitagent.setting_parsers import parse_paths
from unitagent.settings import Resolved
from unitagent.settings.resolution import resolve_settings
from unitagent.system import memory, page_cache
from unitagent.workload import file_warmer
from unitagent.workload.file_warmer import FileWarmer, Progress, WarmingState, count_resident, find_files

MIB = 2**20


def write_cold(file: Path, mib: int) -> None:
    """Write a file and drop it from the page cache."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as out:
        for _ in range(mib):
            out.write(os.urandom(MIB))
        out.flush()
        os.fsync(out.fileno())
        os.posix_fadvise(out.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder of 40 MiB, of which nothing is in the page cache; one file is there by two names."""
    folder = tmp_path / "model"
    write_cold(folder / "blobs/a", 33)
    write_cold(folder / "config", 7)
    (folder / "empty").touch()
    (folder / "a.safetensors").symlink_to("blobs/a")
    if (resident := count_resident(dict(find_files([str(folder)])))) is None or resident > 4 * MIB:
        pytest.skip(f"this file system keeps {resident} bytes")
    return folder


def warm(
    paths: list[Path], available: Callable[[], int | None] = lambda: 10**12
) -> tuple[FileWarmer, list[str]]:
    sentences: list[str] = []
    warmer = FileWarmer([*map(str, paths)], sentences.append, available)
    warmer.start()
    deadline = time.monotonic() + 60
    while not sentences and time.monotonic() < deadline:
        time.sleep(0.005)
    return warmer, sentences


def test_a_folder_is_in_the_page_cache_afterwards(model: Path) -> None:
    warmer, (sentence,) = warm([model])
    now = warmer.progress
    assert (now.state, now.files, now.total, now.read) == (WarmingState.DONE, 2, 40 * MIB, 40 * MIB)
    assert now.resident is not None
    assert now.resident > 39 * MIB
    assert sentence.startswith("UNIT_WARM_FILES has read 0.0 GiB in 2 files in ")


def test_nothing_is_held_or_copied(model: Path) -> None:
    held = Path("/proc/self/fd")
    before = len(list(held.iterdir()))
    warm([model])
    assert len(list(held.iterdir())) <= before


def test_files_that_do_not_fit_are_refused_before_the_first_byte(model: Path) -> None:
    warmer, (sentence,) = warm([model], lambda: 44 * MIB)
    assert (warmer.progress.state, warmer.progress.read) == (WarmingState.REFUSED, 0)
    assert "of 2 files are not in the page cache yet, more than 90% of" in sentence
    assert (count_resident(dict(find_files([str(model)]))) or 0) < 4 * MIB


def test_what_is_there_already_needs_no_memory(model: Path) -> None:
    warm([model])
    warmer, _ = warm([model], lambda: 4 * MIB)
    assert warmer.progress.state is WarmingState.DONE


def test_a_machine_that_does_not_say_is_no_reason_to_refuse(model: Path) -> None:
    warmer, _ = warm([model], lambda: None)
    assert warmer.progress.state is WarmingState.DONE


def test_a_gpu_that_shares_the_memory_is_one(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "find_unified_gpu", lambda: "GB10")
    warmer, (sentence,) = warm([model])
    assert warmer.progress.state is WarmingState.REFUSED
    assert "the GPU (GB10) shares the machine's memory" in sentence


def test_a_path_that_does_not_exist_is_named(tmp_path: Path) -> None:
    warmer, (sentence,) = warm([tmp_path / "none"])
    assert warmer.progress.state is WarmingState.FAILED
    assert sentence == f"UNIT_WARM_FILES reads nothing ahead: No such file or directory: {tmp_path}/none"


def test_a_link_to_nothing_keeps_the_rest_of_its_folder_from_nothing(model: Path) -> None:
    """As in a download that is not finished."""
    (model / "b.safetensors").symlink_to("blobs/b.incomplete")
    warmer, _ = warm([model])
    assert (warmer.progress.state, warmer.progress.read) == (WarmingState.DONE, 40 * MIB)


def test_what_nobody_foresaw_is_reported(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_paths: object) -> None:
        raise RecursionError("too deep")

    monkeypatch.setattr(file_warmer, "find_files", fail)
    warmer, sentences = warm([model])
    assert warmer.progress.state is WarmingState.FAILED
    assert "too deep" in sentences[0]


def test_a_file_that_cannot_be_read_is_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: int) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(page_cache, "load_range", fail)
    warmer, (sentence,) = warm([model])
    assert warmer.progress.state is WarmingState.STOPPED
    assert f"Input/output error: {model}/" in sentence


def test_what_goes_while_others_are_read_stops_nothing(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = page_cache.load_range

    def load_and_remove(*words: int) -> int:
        (model / "config").unlink(missing_ok=True)
        return load(*words)

    monkeypatch.setattr(page_cache, "load_range", load_and_remove)
    monkeypatch.setattr(file_warmer, "READERS", 1)
    warmer, _ = warm([model])
    assert warmer.progress.state is WarmingState.DONE
    assert warmer.progress.read == 33 * MIB


def test_a_file_that_becomes_a_pipe_is_not_waited_for(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = page_cache.load_range

    def load_and_replace(*words: int) -> int:
        if (model / "config").is_file():
            (model / "config").unlink()
            os.mkfifo(model / "config")
        return load(*words)

    monkeypatch.setattr(page_cache, "load_range", load_and_replace)
    monkeypatch.setattr(file_warmer, "READERS", 1)
    warmer, (sentence,) = warm([model])
    assert warmer.progress.state is WarmingState.STOPPED, sentence


def test_a_link_to_itself_is_left_out_and_named_as_a_path(model: Path) -> None:
    (model / "loop").symlink_to("loop")
    assert len(dict(find_files([str(model)]))) == 2
    with pytest.raises(OSError, match="Too many levels"):
        dict(find_files([str(model / "loop")]))


def test_without_another_thread_one_reads_alone(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def start_first(thread: threading.Thread) -> None:
        if thread.name != "warm-files":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_first)
    warmer, _ = warm([model])
    assert warmer.progress.state is WarmingState.DONE
    assert warmer.progress.read == 40 * MIB


def test_it_ends_when_the_workload_starts(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sentences: list[str] = []
    warmer = FileWarmer([str(model)], sentences.append, lambda: None)
    load = page_cache.load_range

    def load_and_stop(*words: int) -> int:
        warmer.stop("the workload started")
        return load(*words)

    monkeypatch.setattr(page_cache, "load_range", load_and_stop)
    monkeypatch.setattr(file_warmer, "READERS", 1)
    warmer.start()
    while not sentences:
        time.sleep(0.005)
    assert warmer.progress.state is WarmingState.STOPPED
    assert warmer.progress.read == file_warmer.CHUNK
    assert "the workload started" in sentences[0]
    warmer.stop("again")  # has no effect any more
    assert warmer.progress.reason == "the workload started"


def test_the_older_system_call_counts_the_same(model: Path) -> None:
    """It does not count pages that are still on their way from the disk."""
    file = model / "config"
    with file.open("rb") as source, open(os.devnull, "wb") as sink:  # noqa: PTH123
        page_cache.load_range(source.fileno(), sink.fileno(), 0, 3 * MIB)
        size, counted, deadline = file.stat().st_size, 0, time.monotonic() + 30
        while counted != page_cache.count_resident(source.fileno(), size) and time.monotonic() < deadline:
            counted = page_cache._count_mapped(source.fileno(), size)
        assert counted == page_cache.count_resident(source.fileno(), size)
        assert counted >= 3 * MIB
        assert page_cache._count_mapped(source.fileno(), 0) == 0


def test_progress_in_words() -> None:
    reading = Progress(files=3, total=2**31, read=2**30, seconds=4)
    assert reading.describe_progress() == "reads 2.0 GiB in 3 files into the page cache: 1.0 GiB after 4 s"


V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_", "9:memory:", "cgroup c rw,memory")
V2 = ("memory.max", "memory.current", "", "0::", "cgroup2 c rw")


def make_machine(root: Path, names: tuple[str, ...]) -> Path:
    """A machine with 8 GiB available, in a pod of 6 GiB that holds a container of 4 GiB."""
    limit, used, total, group, kind = names
    base = root / "cgroup"
    for file, text in {
        root / "proc/meminfo": "MemTotal: 9 kB\nMemAvailable:    8388608 kB\n",
        root / "proc/self/cgroup": f"{group}/pod/box\n",
        root / "proc/self/mountinfo": f"31 23 0:28 / {base} rw - {kind}\n",
        base / "pod" / limit: f"{6 * 2**30}\n",
        base / "pod" / used: f"{5 * 2**30}\n",
        base / "pod/memory.stat": f"rss 5\n{total}active_file {2**29}\n{total}inactive_file {2**29}\n",
        base / "pod/box" / limit: f"{4 * 2**30}\n",
        base / "pod/box" / used: f"{2**30}\n",
        base / "pod/box/memory.stat": "",
    }.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return base / "pod"


@pytest.mark.parametrize("names", [V1, V2])
def test_the_tightest_limit_counts_and_clean_pages_are_free(tmp_path: Path, names: tuple[str, ...]) -> None:
    pod = make_machine(tmp_path, names)
    assert memory.read_available(tmp_path) == 2 * 2**30
    (pod / names[0]).unlink()
    assert memory.read_available(tmp_path) == 3 * 2**30
    (pod / "box" / names[0]).write_text("max\n")
    assert memory.read_available(tmp_path) == 8 * 2**30


COLD_AND_WARM = """
import sys, time
from unitagent.workload.file_warmer import FileWarmer
sentences = []
warmer = FileWarmer(sys.argv[1:], sentences.append)
warmer.start()
while not sentences:
    time.sleep(0.01)
print(warmer.progress.state, warmer.progress.resident, sentences[0])
"""


@pytest.mark.root
@pytest.mark.parametrize("group", ["memory"], indirect=True)
@pytest.mark.parametrize(("limit", "state"), [(200, "done"), (30, "refused")])
def test_files_in_a_container_with_a_memory_limit(group: Path, model: Path, limit: int, state: str) -> None:
    """40 MiB of files: nothing is killed, whether they fit or not."""
    (group / "memory.limit_in_bytes").write_text(f"{limit}M")
    argv = [sys.executable, "-c", COLD_AND_WARM, str(model)]
    done = subprocess.run(argv, preexec_fn=enter(group), capture_output=True, text=True, check=True)
    said, resident, sentence = done.stdout.split(" ", 2)
    assert said == state, done.stdout
    if state == "refused":
        assert "GiB that the memory limit leaves" in sentence
    else:
        assert int(resident) > 39 * MIB


def test_a_kernel_that_says_nothing(tmp_path: Path) -> None:
    assert memory.read_available(tmp_path) is None
    assert memory.find_unified_gpu(tmp_path) == ""


@pytest.mark.parametrize(
    ("model", "name"), [("NVIDIA GB10", "GB10"), ("NVIDIA H200", ""), ("Orin (nvgpu)", "Orin")]
)
def test_gpus_that_share_memory(tmp_path: Path, model: str, name: str) -> None:
    folder = tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0"
    folder.mkdir(parents=True)
    (folder / "information").write_text(f"Model: \t\t {model}\nIRQ: 5\n")
    assert memory.find_unified_gpu(tmp_path) == name


@pytest.mark.parametrize(
    ("command", "word"),
    [
        (["vllm", "serve", "m", "--load-format", "runai_streamer"], "runai_streamer"),
        (["sh", "-c", "vllm serve m --load-format=instanttensor"], "instanttensor"),
        (["vllm", "serve", "m"], ""),
    ],
)
def test_loaders_that_gain_nothing(command: list[str], word: str) -> None:
    assert file_warmer.find_bypass(command) == word


def resolve(files: str, *command: str) -> Resolved:
    given = {"UNIT_ID": "u", "UNIT_SIZE": "1", "RANK_ID": "0", "UNIT_WARM_FILES": files}
    return resolve_settings({}, given, "host", str, command=command or ["true"])


@pytest.mark.parametrize(
    ("files", "command", "verdict", "says"),
    [
        ("{}", ["true"], "ok", "can be read ahead"),
        ("{}/none", ["true"], "warn", "No such file or directory: {}/none"),
        ("{}", ["vllm", "serve", "m", "--load-format", "instanttensor"], "warn", "COMMAND has instanttensor"),
    ],
)
def test_the_doctor_on_warm_files(
    tmp_path: Path, files: str, command: list[str], verdict: str, says: str
) -> None:
    (finding,) = check_warm_files(resolve(files.format(tmp_path), *command))
    assert finding.verdict == verdict
    assert says.format(tmp_path) in finding.detail


@pytest.mark.parametrize("text", ["", "a,,b", ",", "a\nb"])
def test_paths_that_are_none(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse_paths(text)


def test_an_agent_reads_ahead_until_its_workload_starts(tmp_path: Path) -> None:
    write_cold(tmp_path / "weights", 8)
    unit = Solo(tmp_path, UNIT_WARM_FILES=str(tmp_path / "weights"))
    try:
        seen = unit.ready()
        files = until(lambda: (one := unit.status()["warm_files"])["state"] != "reading" and one, "an end")
        assert files["state"] in ("done", "stopped"), files
        assert files["total_bytes"] == 8 * MIB
        assert seen["generation"] == 1
        assert 'unitagent_warm_files_bytes{kind="total"} 8.388608e+06' in unit.get("/metrics")
        assert "warm files: this instance has read" in unit.run("status")
    finally:
        unit.close()
