"""What is noticed of files that a keeper has loaded, and what is not."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from unitagent.agent import kept_files_watch
from unitagent.agent.kept_files_watch import KeptFilesWatch
from unitagent.agent.launch import Launcher
from unitagent.operator.doctor.doctor_cli import check_kept_files
from unitagent.settings.resolution import resolve_settings
from unitagent.workload.kept_files import Snapshot, explain_change, take_snapshot


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with weights, and a link to them as a model hub makes it."""
    folder = tmp_path / "model"
    (folder / "part").mkdir(parents=True)
    (folder / "part" / "a").write_text("weights")
    (folder / "link").symlink_to(folder / "part" / "a")
    (folder / "nowhere").symlink_to(folder / "gone")
    return folder


def touch(file: Path) -> None:
    os.utime(file, ns=(1, file.stat().st_mtime_ns + 1))


@pytest.mark.parametrize(
    ("change", "count"),
    [
        (lambda model: touch(model / "part" / "a"), "2 files have"),  # and what links to it
        (lambda model: (model / "b").touch(), "1 file has"),
        (lambda model: (model / "link").unlink(), "1 file has"),
        (lambda model: (model / "part" / ".lock").touch(), ""),
        (lambda model: (model / ".cache").mkdir(), ""),
        (lambda model: (model / "__pycache__").mkdir(), ""),
        (lambda model: (model / "part" / "a").read_text(), ""),
    ],
)
def test_what_counts_as_a_change(model: Path, change: Callable[[Path], object], count: str) -> None:
    before = take_snapshot([str(model)])
    change(model)
    told = explain_change(before, take_snapshot([str(model)]))
    assert told.startswith(count)
    assert bool(told) == bool(count)


def test_a_file_alone_and_one_that_is_not_there(model: Path) -> None:
    file = str(model / "part" / "a")
    assert list(take_snapshot([file])) == [file]
    with pytest.raises(FileNotFoundError):
        take_snapshot([str(model / "gone")])


def test_a_long_list_is_shortened(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / f"shard{number}").touch()
    told = explain_change({}, take_snapshot([str(tmp_path)]))
    assert told.startswith("100 files have changed")
    assert "more" in told
    assert len(told) < 2000


@pytest.mark.parametrize("loops", [False, True])
def test_a_path_that_has_gone_counts_as_changed_and_hides_no_other_change(model: Path, loops: bool) -> None:
    told: list[str] = []

    async def watch() -> None:
        watched = KeptFilesWatch([str(model / "part"), str(model / "b")], told.append)
        await begin(watched)
        watched.begin_use()
        (model / "b").write_text("new weights")
        (model / "part").rename(model / "old")
        if loops:
            (model / "part").symlink_to("part")
        await watched.look()
        watched.close()

    (model / "b").touch()
    asyncio.run(watch())
    (change,) = told
    assert f"{model}/b" in change
    assert f"{model}/part/a" in change


def test_a_look_that_fails_is_reported_once(
    model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_paths: object, **_how: bool) -> Snapshot:
        raise PermissionError(errno.EACCES, "Permission denied", "/models")

    async def watch() -> None:
        watched = KeptFilesWatch([str(model)], lambda _: None)
        await begin(watched)
        watched.begin_use()
        monkeypatch.setattr(kept_files_watch, "take_snapshot", fail)
        await watched.look()
        await watched.look()
        watched.close()

    asyncio.run(watch())
    (one,) = caplog.messages
    assert one == "whether the keeper's files have changed is not known: Permission denied: /models"


async def begin(watched: KeptFilesWatch) -> None:
    """Wait until the files were looked at for the first time."""
    while watched._before is None:  # noqa: ASYNC110 (it is a thread that changes it)
        await asyncio.sleep(0.01)


def test_nothing_is_reported_before_a_workload_uses_it_and_then_once(model: Path) -> None:
    told: list[str] = []

    async def watch() -> None:
        watched = KeptFilesWatch([str(model)], told.append)
        await begin(watched)
        (model / "b").touch()
        await watched.look()
        assert not told
        watched.begin_use()
        await watched.look()
        await watched.look()
        watched.close()

    asyncio.run(watch())
    assert told == [f"1 file has changed since the keeper loaded them: {model}/b"]


def test_a_file_server_that_hangs_holds_up_one_thread_and_no_restart(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, looks = threading.Event(), list[int]()

    def hang(_paths: object, **_how: bool) -> Snapshot:
        looks.append(1)
        if len(looks) > 1:
            released.wait()
        return {}

    monkeypatch.setattr(kept_files_watch, "take_snapshot", hang)
    monkeypatch.setattr(kept_files_watch, "_LIMIT", 0.1)
    told: list[str] = []

    async def watch() -> None:
        watched = KeptFilesWatch([str(model)], told.append)
        await begin(watched)
        watched.begin_use()
        for _ in range(5):
            await asyncio.wait_for(watched.look(), 5)
        watched.close()

    try:
        asyncio.run(watch())
    finally:
        released.set()
    assert len(looks) == 2
    assert not told


def test_an_error_that_nobody_expects_is_no_change(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def fail(_paths: object, **_how: bool) -> Snapshot:
        raise RuntimeError("for a test")

    async def watch() -> None:
        watched = KeptFilesWatch([str(model)], told.append)
        await begin(watched)
        watched.begin_use()
        monkeypatch.setattr(kept_files_watch, "take_snapshot", fail)
        await watched.look()
        watched.close()

    asyncio.run(watch())
    assert not told


@pytest.mark.parametrize(
    ("words", "files"),
    [
        (["vllm", "serve", "{}", "-tp", "2"], ["{}"]),
        (["vllm", "serve", "--model", "{}/part"], ["{}/part"]),
        (["vllm", "serve", "/not/there"], ["/not/there"]),  # it may be mounted later
        (["vllm", "serve", "organization/name"], []),
        (["python3", "-m", "sglang.launch_server", "--model-path={}"], ["{}"]),
    ],
)
def test_the_model_s_files_are_watched_where_the_keeper_is_derived(
    model: Path, words: list[str], files: list[str]
) -> None:
    given = {"UNIT_ID": "u", "UNIT_SIZE": "1", "RANK_ID": "0", "UNIT_GUARD": "true", "UNIT_KEEPER": "auto"}
    given["UNIT_FRAMEWORK"] = "sglang" if "sglang" in " ".join(words) else "vllm"
    command = [word.format(model) for word in words]

    def list_files(**more: str) -> list[str]:
        resolved = resolve_settings({}, {**given, **more}, "host", str, command=command)
        keeper = Launcher(resolved, 0, ("lo", "127.0.0.1"), "").prepare_dry_keeper()
        assert keeper is not None
        return keeper.files

    assert list_files() == [file.format(model) for file in files]
    assert list_files(UNIT_KEEPER_FILES="/a,/b") == ["/a", "/b"]


@pytest.mark.parametrize(("name", "verdict"), [("part", "ok"), ("gone", "warn"), ("empty", "warn")])
def test_the_doctor_on_files_of_keepers(model: Path, name: str, verdict: str) -> None:
    (model / "empty").mkdir()
    given = {"UNIT_ID": "u", "UNIT_SIZE": "1", "RANK_ID": "0", "UNIT_GUARD": "true", "UNIT_KEEPER": "sleep 1"}
    given |= {"UNIT_KEEPER_READY": "tcp:1", "UNIT_KEEPER_FILES": str(model / name)}
    (finding,) = check_kept_files(resolve_settings({}, given, "host", str, command=["true"]))
    assert finding.verdict == verdict
