"""Where evidence lies: bounded, private, and nothing else can be read through it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from unitagent.evidence import folder


@pytest.fixture
def rank(tmp_path: Path) -> Path:
    return folder.locate_folder(str(tmp_path / "root"), "unit", 3)


def make(rank: Path, generation: int, size: int = 10) -> Path:
    """A collection, dated by its generation."""
    made = folder.create_collection(rank, generation, private=True)
    folder.write_file(made, "a.txt", b"x" * size)
    dated = rank / f"generation-{generation}.20260101T{generation:06d}Z"
    return made.rename(dated)


def test_what_is_written_is_listed_and_read(rank: Path) -> None:
    made = folder.create_collection(rank, 7, private=True)
    folder.write_file(made, "stacks.txt", b"0123456789")
    (one,) = folder.list_collections(rank)
    assert (one.generation, one.name, one.files, one.size) == (7, made.name, (("stacks.txt", 10),), 10)
    assert abs(one.at - time.time()) < 60
    assert folder.read_piece(rank, made.name, "stacks.txt", 4) == b"456789"
    assert folder.read_piece(rank, made.name, "stacks.txt", 10) == b""


def test_only_this_user_can_read_it(rank: Path) -> None:
    made = folder.create_collection(rank, 7, private=True)
    folder.write_file(made, "a.txt", b"x")
    modes = [path.stat().st_mode & 0o077 for path in (rank.parent.parent, rank, made, made / "a.txt")]
    assert modes == [0, 0, 0, 0]


def test_the_oldest_goes_first(rank: Path) -> None:
    for generation in range(1, folder.MOST_COLLECTIONS + 3):
        make(rank, generation)
    kept = [one.generation for one in folder.list_collections(rank)]
    assert kept == list(range(3, folder.MOST_COLLECTIONS + 3))


def test_many_bytes_go_as_well(rank: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "MOST_BYTES", 250)
    for generation in (1, 2, 3):
        make(rank, generation, 100)
    folder.remove_oldest(rank)
    assert [one.generation for one in folder.list_collections(rank)] == [2, 3]


def test_a_file_has_a_limit(rank: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "MOST_OF_A_FILE", 5)
    made = folder.create_collection(rank, 1, private=True)
    assert folder.write_file(made, "a", b"0123456789") == 5


@pytest.mark.parametrize(
    ("collection", "file"),
    [
        ("..", "a"),
        ("generation-1.20260101T000001Z", "../a.txt"),
        ("generation-1.20260101T000001Z", ".hidden"),
        ("generation-1.20260101T000001Z", "link"),
        ("generation-1.20260101T000001Z", "pipe"),
        ("generation-1.20260101T000001Z", "folder"),
        ("generation-1.20260101T000001Z", "none"),
        ("generation-1.20260101T000001Z/..", "a"),
        ("", ""),
    ],
)
def test_nothing_else_is_read(rank: Path, collection: str, file: str) -> None:
    made = make(rank, 1)
    (rank / "a").write_text("secret")
    (made / "link").symlink_to(rank / "a")
    os.mkfifo(made / "pipe")
    (made / "folder").mkdir()
    (made / ".hidden").write_text("x")
    assert folder.read_piece(rank, collection, file, 0) is None
    assert [one.files for one in folder.list_collections(rank)] == [(("a.txt", 10),)]


def test_a_link_is_not_written_through(rank: Path, tmp_path: Path) -> None:
    made = make(rank, 1)
    target = tmp_path / "target"
    target.write_text("untouched")
    (made / "b.txt").symlink_to(target)
    folder.write_file(made, "b.txt", b"x")
    assert target.read_text() == "untouched"


def test_a_root_that_somebody_else_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="UNIT_EVIDENCE_DIR"):
        folder.create_collection(tmp_path / "root" / "unit" / "rank-0", 1, private=True)
    assert folder.create_collection(tmp_path / "root" / "unit" / "rank-0", 1, private=False)


def test_abandoned_ranks_of_the_default_root_go(rank: Path) -> None:
    make(rank, 1)
    old = folder.locate_folder(str(rank.parent.parent), "gone", 0)
    make(old, 1)
    os.utime(old, (1, 1))
    folder.create_collection(rank, 2, private=True)
    assert not old.parent.exists()
    assert len(folder.list_collections(rank)) == 2


def test_the_default_is_below_the_temporary_folder() -> None:
    assert folder.choose_root(None, {}) == ("/tmp/unitagent-evidence", True)  # noqa: S108
    assert folder.choose_root(None, {"TMPDIR": "/x"}) == ("/x/unitagent-evidence", True)
    assert folder.choose_root("/y", {}) == ("/y", False)


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"[" * 100_000, b'{"a": "' + b"x" * 200_000 + b'"}', b"\xff"]
)
def test_a_report_that_is_none_says_nothing(rank: Path, raw: bytes) -> None:
    made = make(rank, 1)
    assert folder.read_report(rank, made.name) == {}
    folder.write_file(made, folder.REPORT, raw)
    assert folder.read_report(rank, made.name) == {}
    folder.write_file(made, folder.REPORT, b'{"cause": "a full disk"}')
    assert folder.read_report(rank, made.name) == {"cause": "a full disk"}
    assert folder.read_report(rank, "..") == {}
