"""Is COMMAND there and can it run? Asked before the instance joins: a typo must not restart a Unit.

The answers are a shell's: 127 for not found, 126 for found but not executable.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from unitagent.core.exits import Code
from unitagent.errors import CommandError
from unitagent.workload.environment import has_placeholder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_HEAD = 256  # the kernel reads no more of a file to find out how to run it (BINPRM_BUF_SIZE)


def resolve(argv: Sequence[str], env: Mapping[str, str]) -> list[str]:
    """Check that ``argv`` can be run in the environment ``env`` and return it as given.

    A first word with a placeholder is not known yet and is left to the spawn.

    Raises:
        CommandError: with the exit code 127 or 126 and a sentence that says why.

    """
    if not argv or not argv[0]:
        raise CommandError("no COMMAND given: write `unitagent run -- COMMAND [ARG...]`", Code.CONFIGURATION)
    if not has_placeholder(argv[0]):
        locate(argv[0], env)
    return list(argv)


def locate(word: str, env: Mapping[str, str]) -> str:
    """Return the path of the file that ``word`` means, looking it up on the ``PATH`` of ``env`` like a shell.

    Raises:
        CommandError: as :func:`resolve`.

    """
    candidates = [word] if "/" in word else _on_path(word, env)
    found = [path for path in candidates if os.access(path, os.F_OK)]
    runnable = [path for path in found if os.access(path, os.X_OK) and Path(path).is_file()]
    if runnable:
        _check_format(runnable[0])
        return runnable[0]
    if found:
        why = "it is a directory" if Path(found[0]).is_dir() else "it has no execute permission (chmod +x)"
        raise CommandError(f"COMMAND {word!r} cannot be executed: {why}", Code.NOT_EXECUTABLE)
    where = "there is no such file" if "/" in word else f"it is not on PATH ({_path(env)})"
    raise CommandError(f"COMMAND {word!r} not found: {where}", Code.NOT_FOUND)


def refused(word: str, error: OSError | ValueError) -> CommandError:
    """Say in a user's words why the kernel would not run what :func:`locate` had found."""
    if isinstance(error, FileNotFoundError):
        why = "a program that it needs to start (its interpreter or loader) is missing"
    else:
        why = str(error)
    return CommandError(f"COMMAND {word!r} cannot be executed: {why}", Code.NOT_EXECUTABLE)


def _path(env: Mapping[str, str]) -> str:
    return env.get("PATH") or os.defpath


def _on_path(word: str, env: Mapping[str, str]) -> list[str]:
    return [str(Path(folder or ".") / word) for folder in _path(env).split(os.pathsep)]


def _check_format(path: str) -> None:
    """Find out what would be ENOEXEC or a missing interpreter; a binary of any kind is left to the kernel."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return  # execute permission without read permission is fine
    if head.startswith(b"#!"):
        _check_interpreter(path, head.partition(b"\n")[0][2:])
    elif not head or b"\0" not in head:
        raise CommandError(
            f"COMMAND {path!r} cannot be executed: it is no program and its first line is not #!INTERPRETER",
            Code.NOT_EXECUTABLE,
        )


def _check_interpreter(path: str, line: bytes) -> None:
    words = line.strip(b" \t").split(None, 1)
    name = os.fsdecode(words[0]) if words else ""
    if line.endswith(b"\r"):
        why = f"its first line {os.fsdecode(line)!r} ends in a carriage return (use Unix line ends)"
    elif not os.access(name, os.X_OK):
        why = f"its interpreter {name!r} is missing or not executable"
    else:
        return
    raise CommandError(f"COMMAND {path!r} cannot be executed: {why}", Code.NOT_EXECUTABLE)
