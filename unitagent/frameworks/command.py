"""Where the engine's own arguments begin in a command that may be wrapped.

The invariants: the text of ``sh -c TEXT`` is left to :mod:`shell_text`, and the arguments of another program
are never searched: in ``python train.py --launcher torchrun``, ``torchrun`` belongs to ``train.py``. A value
that only a shell or another program knows is never mistaken for another value or for none; reading it raises
an error.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from unitagent.engine_commands import StartWords

UNKNOWN = "\0"
"""Stands for an unknown part of an argument; no real argument can contain it."""

ANY_WORDS = "\0*"
"""Begins an argument that may become any number of arguments."""

WORD_LIST = f"{ANY_WORDS}@"
"""Begins one that is meant to become several: ``"$@"``."""
_SHELLS = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh", "busybox"})
_SHELL_OPTION = re.compile(r"[-+][A-Za-z]*|--[a-z-]*")
_SHELL_FILES = frozenset({"--rcfile", "--init-file"})
_PYTHON = re.compile(r"(python|pypy)[0-9.]*")
# Long options without a value: numactl's, conda's, mpirun's, setpriv's, timeout's and uv's.
_SWITCH = re.compile(
    r"--(no-.*|localalloc|live-stream|allow-run-as-root|oversubscribe|reset-env|foreground|frozen|locked|offline)"
)


class UnreadableError(Exception):
    """Something in a command cannot be read; the text says what."""


def require_known(name: str, text: str) -> str:
    """Return the text if it is known.

    Raises:
        UnreadableError: a part of it is unknown.

    """
    if UNKNOWN in text:
        raise UnreadableError(f"the value of {name} cannot be read here")
    return text


@dataclass(frozen=True, slots=True)
class SplitCommand:
    """A user's command in two parts.

    Attributes:
        head: everything up to the engine, wrappers included.
        words: the engine's own arguments.
        file_words: arguments that it reads from a file first.

    """

    head: tuple[str, ...]
    words: tuple[str, ...]
    file_words: tuple[str, ...] = ()

    @property
    def all_words(self) -> tuple[str, ...]:
        """All effective options; the last one of a name wins, and none stands behind a lone ``--``."""
        return (*self.file_words, *itertools.takewhile("--".__ne__, self.words))

    def append_options(self, added: Sequence[str]) -> tuple[str, ...]:
        """Return the command with ``added`` as its last options, before a lone ``--``."""
        end = self.words.index("--") if "--" in self.words else len(self.words)
        return (*self.head, *self.words[:end], *added, *self.words[end:])

    def insert_options(self, added: Sequence[str]) -> tuple[str, ...]:
        """Return the command with ``added`` as its first options, for launchers that take a program."""
        return (*self.head, *added, *self.words)


def split_at_engine(argv: tuple[str, ...], starts: Sequence[StartWords]) -> SplitCommand | None:
    """Split at the first of ``starts``; None if it is absent, or an argument of another program."""
    ends = (
        at + len(start) for at in _find_programs(argv) for start in starts if _starts_engine(argv, at, start)
    )
    end = next(ends, None)
    return None if end is None or is_shell_text(argv[:end]) else SplitCommand(argv[:end], argv[end:])


def split_assumed(argv: tuple[str, ...], starts: Sequence[StartWords]) -> SplitCommand | None:
    """Split a command whose framework the user has named: the user's own wrapper passes its arguments on.

    None for the engine's own program with another subcommand (``vllm bench``).
    """
    if not argv or is_shell_text(argv):
        return None
    return split_at_engine(argv, starts) or (
        None if _is_other_subcommand(argv, starts) else SplitCommand(argv[:1], argv[1:])
    )


def _is_other_subcommand(argv: tuple[str, ...], starts: Sequence[StartWords]) -> bool:
    """Whether it is the engine's own program or module, with another subcommand."""
    modules = {start[1] for start in starts if start[0] == "-m" and len(start) > 2}  # noqa: PLR2004 (-m MODULE)
    own_module = any(word == "-m" and name in modules for word, name in itertools.pairwise(argv))
    return own_module or _program_name(argv[0]) in {start[0] for start in starts}


def is_shell_text(argv: tuple[str, ...]) -> bool:
    """Whether the program is a shell with its text as an argument."""
    return find_shell_text(argv) is not None


def find_shell_text(argv: tuple[str, ...]) -> int | None:
    """Return the index of a shell's text in a command, after any options; None if there is none."""
    starts = (at for at in _find_programs(argv) if _program_name(argv[at]) in _SHELLS)
    return next((at for start in starts if (at := _find_text(argv, start + 1)) is not None), None)


def _find_text(argv: tuple[str, ...], at: int) -> int | None:
    """Skip a shell's options as a shell does: ``-euo pipefail -c``, ``--login -c``, ``-c -e``."""
    asked = False
    while at < len(argv) and _SHELL_OPTION.fullmatch(argv[at]):
        option = argv[at]
        short = option[1:] if option[1:2] != "-" else ""
        asked = asked or (option.startswith("-") and "c" in short)
        at += 1 + (short.count("o") + short.count("O") if short else option in _SHELL_FILES)
        if option in {"-", "--"}:
            break
    return at if asked and at < len(argv) else None


def _find_programs(argv: tuple[str, ...]) -> Iterator[int]:
    """Yield the indexes at which a program may stand.

    None after a Python script, whose arguments are its own; after a Python module only another module
    (``python -m debugpy -m vllm…``).
    """
    python = module = False
    for at, word in enumerate(argv):
        if word == "-m" or not module:
            yield at
        if word.endswith(".py") and not word.startswith("-"):
            return
        module = module or (python and word == "-m")
        python = python or _PYTHON.fullmatch(_program_name(word)) is not None


def _starts_engine(argv: tuple[str, ...], at: int, start: StartWords) -> bool:
    """Whether the engine starts here; a single word may instead be the value of the option before it."""
    begins = _program_name(argv[at]) == start[0] and argv[at + 1 : at + len(start)] == start[1:]
    return begins and not (len(start) == 1 and at and _takes_value(argv[at - 1]))


def _takes_value(option: str) -> bool:
    """Whether the next argument may be the value of this one, such as ``--launcher``."""
    return option.startswith("--") and option != "--" and "=" not in option and not _SWITCH.fullmatch(option)


def _program_name(word: str) -> str:
    return PurePosixPath(word).name
