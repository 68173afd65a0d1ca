"""Checks that COMMAND exists and can run, before the instance joins: a typo must not restart a Unit.

The exit codes are those of a shell: 127 for not found, 126 for found but not executable.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from unitagent.core.exits import ExitCode
from unitagent.errors import CommandError
from unitagent.workload.environment import has_placeholder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_FOLDERS = 8  # of PATH shown in a message
_OF_SHELLS = frozenset(
    {"cd", "export", "source", ".", "set", "ulimit", "exec", "eval", "if", "for", "while", "{", "("}
)
_JOINING = frozenset({"&&", "||", "|", ";", "&", ">", "2>&1"})
_HEAD = 256  # bytes that the kernel reads of a file to find out how to run it (BINPRM_BUF_SIZE)


def check_command(argv: Sequence[str], env: Mapping[str, str], name: str = "COMMAND") -> list[str]:
    """Check that ``argv`` can be run in the environment ``env``, and return it unchanged; a message calls it
    by ``name``.

    A first word with a placeholder is not known yet, so the spawn checks it.

    Raises:
        CommandError: with the exit code 127 or 126 and the reason.

    """
    if not argv or not argv[0]:
        raise CommandError(
            "no COMMAND given: use `unitagent run -- COMMAND [ARG...]`", ExitCode.CONFIGURATION
        )
    if not has_placeholder(argv[0]):
        try:
            locate_program(argv[0], env)
        except CommandError as error:
            hint = _suggest_remedy(argv) if error.exit_code == ExitCode.NOT_FOUND else ""
            why = str(error).removeprefix("COMMAND")
            raise CommandError(f"{name}{why}{hint}", error.exit_code) from None
    return list(argv)


def _suggest_remedy(argv: Sequence[str]) -> str:
    """Suggest what the user may have meant by a first word that is not a program; empty if unclear."""
    first, shell = argv[0], "run it in a shell: sh -c '…'"
    if first.startswith("-"):
        return "; it starts with -: put options of the agent before --, and COMMAND after it"
    if any(letter.isspace() for letter in first):
        return f"; it is one word with spaces: remove the quotes around the whole command, or {shell}"
    if first.partition("=")[0].isidentifier() and "=" in first:
        return f"; it sets a variable: start with env (env {first} COMMAND), or {shell}"
    if first in _OF_SHELLS or _JOINING.intersection(argv):
        return f"; it uses shell syntax; {shell}"
    return ""


def locate_program(word: str, env: Mapping[str, str]) -> str:
    """Return the path of the program that ``word`` means, looked up on the ``PATH`` of ``env`` like in a
    shell.

    Raises:
        CommandError: it is not found, or cannot be executed.

    """
    files = []
    for path in (word,) if "/" in word else _list_candidates(word, env):
        if os.access(path, os.X_OK) and Path(path).is_file():
            _check_format(path)
            return path
        if os.access(path, os.F_OK):
            files.append(path)
    if files:
        why = "it is a directory" if Path(files[0]).is_dir() else "it has no execute permission (chmod +x)"
        raise CommandError(f"COMMAND {word!r} cannot be executed: {why}", ExitCode.NOT_EXECUTABLE)
    where = "there is no such file" if "/" in word else f"it is not on PATH ({_shorten_path(_get_path(env))})"
    raise CommandError(f"COMMAND {word!r} not found: {where}", ExitCode.NOT_FOUND)


def explain_spawn_error(word: str, error: OSError | ValueError) -> CommandError:
    """Explain to the user why the kernel refused to run the program that :func:`locate_program` found."""
    missing = isinstance(error, FileNotFoundError)
    why = "its interpreter or loader is missing" if missing else str(error)
    return CommandError(f"COMMAND {word!r} cannot be executed: {why}", ExitCode.NOT_EXECUTABLE)


def _shorten_path(path: str) -> str:
    """Return the first folders, as many as fit into a message."""
    folders = path.split(os.pathsep)
    shown = os.pathsep.join(folders[:_FOLDERS])
    return shown if len(folders) <= _FOLDERS else f"{shown} and {len(folders) - _FOLDERS} more"


def _get_path(env: Mapping[str, str]) -> str:
    return env.get("PATH") or os.defpath


def _list_candidates(word: str, env: Mapping[str, str]) -> Iterator[str]:
    return (str(Path(folder or ".") / word) for folder in _get_path(env).split(os.pathsep))


def _check_format(path: str) -> None:
    """Detect ENOEXEC and a missing interpreter early; any binary is left to the kernel."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return  # execute permission without read permission is fine
    if head.startswith(b"#!"):
        _check_interpreter(path, head.partition(b"\n")[0][2:])
    elif not head or b"\0" not in head:
        raise CommandError(
            f"COMMAND {path!r} cannot be executed: not a binary, and its first line is not #!INTERPRETER",
            ExitCode.NOT_EXECUTABLE,
        )


def _check_interpreter(path: str, line: bytes) -> None:
    words = line.strip(b" \t").split(None, 1)
    name = os.fsdecode(words[0]) if words else ""
    if line.endswith(b"\r"):
        why = f"its first line {os.fsdecode(line)!r} ends in a carriage return (use Unix line endings)"
    elif not os.access(name, os.X_OK):
        why = f"its interpreter {name!r} is missing or not executable"
    else:
        return
    raise CommandError(f"COMMAND {path!r} cannot be executed: {why}", ExitCode.NOT_EXECUTABLE)
