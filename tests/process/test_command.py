"""127 and 126, said before an instance joins."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from unitagent.errors import CommandError
from unitagent.workload import command


def script(path: Path, text: str, mode: int = 0o755) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def refusal(word: str, path: str = "/bin") -> CommandError:
    with pytest.raises(CommandError) as caught:
        command.check_command([word], {"PATH": path})
    return caught.value


def test_found_on_the_path_of_the_workload(tmp_path: Path) -> None:
    wanted = script(tmp_path / "tool", "#!/bin/sh\n")
    assert command.locate_program("tool", {"PATH": f"/nowhere:{tmp_path}"}) == wanted
    assert command.check_command(["tool", "a b"], {"PATH": str(tmp_path)}) == ["tool", "a b"]


def test_a_later_executable_wins_over_an_earlier_plain_file(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    script(tmp_path / "a/tool", "", 0o644)
    wanted = script(tmp_path / "b/tool", "#!/bin/sh\n")
    assert command.locate_program("tool", {"PATH": f"{tmp_path}/a:{tmp_path}/b"}) == wanted


def test_a_binary(tmp_path: Path) -> None:
    assert command.locate_program(sys.executable, {}) == sys.executable


def test_an_empty_path_is_the_systems_default() -> None:
    assert command.check_command(["sh"], {"PATH": ""}) == ["sh"]


@pytest.mark.parametrize("word", ["no-such-tool", "/no/such/tool", "./no-such-tool"])
def test_not_found(word: str) -> None:
    error = refusal(word)
    assert (error.exit_code, word in str(error)) == (127, True)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (
            ["vllm serve m"],
            "one word with spaces: remove the quotes around the whole command, or run it in a shell: sh -c",
        ),
        (["cd", "/src", "&&", "ls"], "it uses shell syntax; run it in a shell: sh -c"),
        (["no-such-tool", "|", "tee"], "it uses shell syntax"),
        (["A=1", "vllm"], r"start with env \(env A=1 COMMAND\)"),
        (["--size", "2"], "put options of the agent before --"),
    ],
)
def test_what_a_person_meant(words: list[str], hint: str) -> None:
    with pytest.raises(CommandError, match=f"{words[0]!r} not found: .*{hint}") as caught:
        command.check_command(words, {"PATH": "/bin"})
    assert caught.value.exit_code == 127


def test_a_long_path_is_shortened() -> None:
    said = str(refusal("no-such-tool", ":".join(f"/no/{each}" for each in range(40))))
    assert "/no/0:/no/1:" in said
    assert said.endswith("and 32 more)")


@pytest.mark.parametrize(
    ("text", "mode", "why"),
    [
        ("#!/bin/sh\n", 0o644, "chmod"),
        ("echo no first line\n", 0o755, "#!INTERPRETER"),
        ("", 0o755, "#!INTERPRETER"),
        ("#!/no/such/shell -e\n", 0o755, "'/no/such/shell' is missing"),
        ("#!\n", 0o755, "interpreter ''"),
        ("#!/bin/sh\r\nexit 0\r\n", 0o755, "carriage return"),
    ],
)
def test_not_executable(tmp_path: Path, text: str, mode: int, why: str) -> None:
    error = refusal(script(tmp_path / "tool", text, mode))
    assert error.exit_code == 126
    assert why in str(error)


def test_a_directory(tmp_path: Path) -> None:
    error = refusal(str(tmp_path))
    assert (error.exit_code, "directory" in str(error)) == (126, True)


@pytest.fixture
def _nobody() -> Iterator[None]:
    """Look at files as a user without rights: access(2) asks the real user id."""
    root = os.geteuid() == 0
    if root:
        os.setreuid(65534, 0)
    yield
    if root:
        os.setreuid(0, 0)


@pytest.mark.usefixtures("_nobody")
def test_a_folder_that_may_not_be_searched(tmp_path: Path) -> None:
    script(tmp_path / "tool", "#!/bin/sh\n")
    tmp_path.chmod(0)
    assert refusal(str(tmp_path / "tool")).exit_code == 127


def test_a_word_that_is_not_known_yet_is_left_to_the_spawn() -> None:
    assert command.check_command(["./start-{RANK_ID}.sh"], {}) == ["./start-{RANK_ID}.sh"]


@pytest.mark.parametrize("argv", [[], [""]])
def test_nothing_to_run(argv: list[str]) -> None:
    with pytest.raises(CommandError, match="no COMMAND"):
        command.check_command(argv, {})
