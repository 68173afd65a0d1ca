"""Which Python program a command runs, followed through PATH, the first line of a script, and ``env``.

The invariant: what is found is what the kernel would execute, word for word; any other command is left alone,
with the reason.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unitagent.errors import CommandError
from unitagent.workload import command

Kind = Literal["file", "module", "command"]

_PYTHON = re.compile(r"python[0-9.]*")
_HEAD = 4096  # bytes of a script that may name its interpreter
# pip writes this where the path of the interpreter is too long for the kernel, or has a space.
_TRAMPOLINE = re.compile(rb"#!/bin/sh\n'''exec' (\S+|\"[^\"\n]+\") \"\$0\" \"\$@\"\n' '''\n")
_ENV = ("/usr/bin/env", "/bin/env")
_SHORT = frozenset("bBdEIOPqRsSuv")  # options that take no value
_WITH_VALUE = frozenset("WX")
_LONG = "--check-hash-based-pycs"


class UnresolvedError(Exception):
    """The command runs no Python program that is known; the text says why."""


@dataclass(frozen=True, slots=True)
class PythonCommand:
    """A command line of Python in its parts.

    Attributes:
        interpreter: its path.
        words: the whole command line, as the program sees it.
        options: how many words come before the program, the interpreter's own included.
        kind: what ``target`` is; a ``file`` is a script.
        arguments: what follows the target.
        name: the kernel's name for the process.

    """

    interpreter: str
    words: tuple[str, ...]
    options: int
    kind: Kind
    target: str
    arguments: tuple[str, ...]
    name: str

    @property
    def argv(self) -> tuple[str, ...]:
        """``sys.argv`` at the start of the program."""
        first = {"file": self.target, "module": "-m", "command": "-c"}[self.kind]
        return (first, *self.arguments)

    def find_first_path(self, folder: str) -> str:
        """Return the first entry of ``sys.path``, for a command that is started in ``folder``."""
        if self.kind == "file":
            return os.path.dirname(os.path.realpath(os.path.join(folder, self.target)))  # noqa: PTH118, PTH120
        return folder if self.kind == "module" else ""


def resolve_warm(argv: Sequence[str], env: Mapping[str, str], modules: Sequence[str]) -> PythonCommand:
    """Find the Python program of a command that is to start from a process which has imported ``modules``.

    Raises:
        UnresolvedError: it cannot.

    """
    command = resolve_python(argv, env)
    if not modules:
        raise UnresolvedError("no modules are known that it imports: set UNIT_WARM_MODULES")
    return command


def resolve_python(argv: Sequence[str], env: Mapping[str, str]) -> PythonCommand:
    """Find the Python program that a command runs; relative paths start from the working directory.

    Raises:
        UnresolvedError: it runs none, or one whose command line is not understood.

    """
    path = _locate_program(argv[0], env)
    words, name = tuple(argv), Path(path).name
    if not _is_binary(path):
        path, words, name = _follow_script(path, words, env)
    if not _PYTHON.fullmatch(Path(path).name):
        raise UnresolvedError(f"COMMAND runs {Path(path).name}, and no Python")
    return _split_words(path, words, name)


def _locate_program(word: str, env: Mapping[str, str]) -> str:
    try:
        return command.locate_program(word, env)
    except CommandError as error:
        raise UnresolvedError(str(error)) from error


def _is_binary(path: str) -> bool:
    return not _read_head(path).startswith(b"#!")


def _read_head(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(_HEAD)
    except OSError as error:
        raise UnresolvedError(str(error)) from error


def _follow_script(
    path: str, words: tuple[str, ...], env: Mapping[str, str]
) -> tuple[str, tuple[str, ...], str]:
    """Return interpreter, command line and name of a script, as the kernel and ``env`` make them."""
    head = _read_head(path)
    if trampoline := _TRAMPOLINE.match(head):
        interpreter = os.fsdecode(trampoline[1]).strip('"')
        return interpreter, (interpreter, path, *words[1:]), Path(interpreter).name
    first = os.fsdecode(head.partition(b"\n")[0][2:]).strip(" \t").split(None, 1)
    if first[0] in _ENV and len(first) > 1:
        inner = first[1].strip()
        inner_words = _split_like_env(inner[2:], path) if inner.startswith("-S") else [inner]
        interpreter = _locate_program(inner_words[0], env) if inner_words else ""
        if not interpreter or "=" in inner_words[0] or not _is_binary(interpreter):
            raise UnresolvedError(f"the first line of {path} is not understood")
        return interpreter, (*inner_words, path, *words[1:]), Path(interpreter).name
    if not _is_binary(first[0]):
        raise UnresolvedError(f"the interpreter of {path} is a script")
    return first[0], (*first, path, *words[1:]), Path(path).name


def _split_like_env(text: str, path: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UnresolvedError(f"the first line of {path}: {error}") from error


def _split_words(path: str, words: tuple[str, ...], name: str) -> PythonCommand:
    """Read Python's own options as Python does."""
    at = 1
    while at < len(words) and words[at].startswith("-") and words[at] != "-":
        word = words[at]
        if word == _LONG:
            at += 2
            continue
        for place, letter in enumerate(word[1:], 2):
            if letter in "mc":
                return _make_inline(path, words, at, place, name)
            if letter in _WITH_VALUE:
                at += place == len(word)  # the value is the next word
                break
            if letter not in _SHORT:
                raise UnresolvedError(f"Python's option {word} is not known to start warm")
        at += 1
    if at >= len(words) or words[at] == "-":
        raise UnresolvedError("it names no script and no module")
    if not _may_be_script(words[at]) or words[at].endswith((".pyc", ".zip", ".pyz", ".pex")):
        raise UnresolvedError(f"{words[at]} is not a script in plain text")
    return PythonCommand(path, words, at, "file", words[at], words[at + 1 :], name)


def _may_be_script(path: str) -> bool:
    """Whether this is a file that can be read twice; also if there is none, which Python explains best."""
    return os.path.isfile(path) or not (path == "" or os.path.exists(path))  # noqa: PTH110, PTH113


def _make_inline(path: str, words: tuple[str, ...], at: int, place: int, name: str) -> PythonCommand:
    """Make the command of ``-m MODULE``, ``-mMODULE`` or the same with ``-c``."""
    word = words[at]
    kind: Kind = "module" if word[place - 1] == "m" else "command"
    if place != 2:  # noqa: PLR2004  # options and -m in one word: no gate can keep the first without the last
        raise UnresolvedError(f"Python's option {word} is not known to start warm")
    attached = word[place:]
    if not attached and at + 1 >= len(words):
        raise UnresolvedError("it names no script and no module")
    target = attached or words[at + 1]
    rest = words[at + 1 if attached else at + 2 :]
    return PythonCommand(path, words, at, kind, target, rest, name)
