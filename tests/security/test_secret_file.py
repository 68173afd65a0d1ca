"""What a look at the file of the secrets makes of it: nothing is lost by it, and nothing told of a secret."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.listening import story
from unitagent import setting_parsers
from unitagent.agent import secret_rotation
from unitagent.agent.secret_rotation import SecretFile
from unitagent.system.keyring import MAX_SECRETS, Keyring

OLD, NEW, THIRD = "5f1d0c9a7b3e4682" * 2, "90b2c7d41ea86f35" * 2, "c0ffee00c0ffee00" * 2


class Looked:
    """A file, the ring that follows it, and all that was said."""

    def __init__(self, path: Path, *secrets: str) -> None:
        self.path, self.said, self.warned = path, [""][:0], [""][:0]
        self.keys = Keyring(*secrets)
        self.file = SecretFile(str(path), self.keys, self.said.append, self.warned.append)

    async def settle(self) -> None:
        """Look until what is there has been seen twice."""
        while await self.file.check_file():
            pass

    def has(self, *secrets: str) -> bool:
        return self.keys.signing == Keyring(*secrets).signing


@pytest.fixture
def looked(tmp_path: Path) -> Looked:
    path = tmp_path / "secret"
    path.write_text(OLD + "\n")
    return Looked(path, OLD)


@story
async def test_a_change_is_taken_when_it_was_seen_twice(looked: Looked) -> None:
    await looked.settle()
    looked.path.write_text(f"{OLD}\n{NEW}\n")
    assert await looked.file.check_file()
    assert looked.has(OLD)
    assert not await looked.file.check_file()
    assert looked.has(OLD, NEW)
    looked.path.write_text(f"\r\n  {NEW}\r\n")
    await looked.settle()
    assert looked.has(NEW)
    assert looked.said == [
        "UNIT_SECRET_FILE changed: 2 secrets are accepted, signing with each",
        "UNIT_SECRET_FILE changed: 1 secret is accepted",
    ]
    assert not looked.warned


@story
async def test_what_is_half_written_is_waited_for(looked: Looked) -> None:
    """In place, and slowly: at one look the file is empty, at another half of a line is long enough."""
    await looked.settle()
    for text in ("", OLD[:20], f"{OLD}\n", f"{OLD}\n{NEW[:20]}"):
        looked.path.write_text(text)
        await looked.file.check_file()
        assert looked.has(OLD)
    looked.path.write_text(f"{OLD}\n{NEW}")
    await looked.settle()
    assert looked.has(OLD, NEW)
    assert not looked.warned


@story
async def test_a_folder_that_is_swapped_as_kubernetes_does_it_is_followed(tmp_path: Path) -> None:
    """The time of the file may well be the same."""
    for name, text in (("a", OLD), ("b", f"{OLD}\n{NEW}")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "secret").write_text(text)
        os.utime(tmp_path / name / "secret", (1, 1))
    (tmp_path / "data").symlink_to("a")
    (tmp_path / "secret").symlink_to("data/secret")
    looked = Looked(tmp_path / "secret", OLD)
    await looked.settle()
    (tmp_path / "next").symlink_to("b")
    (tmp_path / "next").rename(tmp_path / "data")
    await looked.settle()
    assert looked.has(OLD, NEW)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


BAD: dict[str, Callable[[Path], object]] = {
    "is empty": lambda path: path.write_text("\n \n"),
    "is not accepted (line 1 has 15 bytes, needs 16)": lambda path: path.write_text(OLD[:15]),
    "is not accepted (line 3 has 15 bytes, needs 16)": lambda path: path.write_text(f"{OLD}\n\n{NEW[:15]}\n"),
    "is not accepted (line 2 has unprintable characters)": lambda path: path.write_text(f"{OLD}\n{NEW}\0"),
    "is not accepted (got 4 lines, at most 3)": lambda path: path.write_text(
        "\n".join(f"{OLD}{n}" for n in range(4))
    ),
    "has none of the secrets accepted now": lambda path: path.write_text(NEW),
    "is not UTF-8 text": lambda path: path.write_bytes(b"\xff\xfe" * 40),
    "cannot be read (No such file or directory)": lambda path: path.unlink(),
    "cannot be read (Is a directory)": _folder,
}


@pytest.mark.parametrize("why", BAD)
@story
async def test_what_cannot_be_taken_changes_nothing_and_is_told_once(looked: Looked, why: str) -> None:
    await looked.settle()
    BAD[why](looked.path)
    for _ in range(3):
        await looked.settle()
    assert looked.has(OLD)
    (told,) = looked.warned
    assert told.startswith(f"UNIT_SECRET_FILE='{looked.path}' {why}")
    assert f"the file must have 1 to {MAX_SECRETS} lines of printable text of at least 16 bytes each" in told
    assert not any(secret[:15] in told for secret in (OLD, NEW))
    if looked.path.is_dir():
        looked.path.rmdir()
    looked.path.write_text(OLD)
    await looked.settle()
    assert looked.said == ["UNIT_SECRET_FILE is valid again"]
    BAD[why](looked.path)
    await looked.settle()
    assert looked.warned == [told, told]


@pytest.mark.parametrize("text", ["x" * 16, f"{OLD}\n", f"\n{OLD}\n\n{NEW}\n", f"{OLD}\n{NEW}\n{THIRD}"])
def test_up_to_three_lines_are_accepted(text: str) -> None:
    assert setting_parsers.parse_secrets(text) == tuple(text.split())


def test_one_secret_twice_is_one() -> None:
    assert setting_parsers.parse_secrets(f"{OLD}\n{OLD}") == (OLD,)
    assert len(Keyring(OLD, OLD)) == 1


@story
async def test_a_pipe_is_not_read_again(tmp_path: Path) -> None:
    """A shell makes one of ``<(command)``; its secret came once."""
    os.mkfifo(tmp_path / "pipe")
    looked = Looked(tmp_path / "pipe", OLD)
    await looked.settle()
    assert looked.has(OLD)
    assert not looked.warned


def test_a_pipe_that_somebody_holds_open_is_empty(tmp_path: Path) -> None:
    pipe = tmp_path / "secret"
    os.mkfifo(pipe)
    held = os.open(pipe, os.O_RDWR)
    try:
        assert secret_rotation.read_secrets(str(pipe)).trouble == "is empty"
    finally:
        os.close(held)
