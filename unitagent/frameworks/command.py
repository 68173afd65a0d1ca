"""Where the engine's own words begin in a command that may be wrapped.

The invariant: the text of ``sh -c TEXT`` is the user's program and is never touched. Such a command gets its
rank by the variables of the workload and by the placeholders (``{RANK_ID}`` …) in TEXT.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHELLS = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh", "busybox"})
_TEXT_OPTION = re.compile(r"-[a-z]*c")

Start = tuple[str, ...]
"""Words that start an engine; the first may stand behind a path: ``("vllm", "serve")``."""


@dataclass(frozen=True, slots=True)
class Command:
    """A user's command in two parts.

    Attributes:
        head: everything up to the engine itself, wrappers included.
        words: the engine's own arguments.

    """

    head: tuple[str, ...]
    words: tuple[str, ...]

    def appended(self, added: Sequence[str]) -> tuple[str, ...]:
        """Return the command with ``added`` as its last options: behind a lone ``--`` they would be none."""
        end = self.words.index("--") if "--" in self.words else len(self.words)
        return (*self.head, *self.words[:end], *added, *self.words[end:])

    def inserted(self, added: Sequence[str]) -> tuple[str, ...]:
        """Return the command with ``added`` as its first options, for launchers that take a program."""
        return (*self.head, *added, *self.words)


def recognize(argv: tuple[str, ...], starts: Sequence[Start]) -> Command | None:
    """Split at the first of ``starts``; None if there is none, or if it is a shell's text."""
    ends = (at + len(start) for at in range(len(argv)) for start in starts if _begins(argv[at:], start))
    end = next(ends, None)
    return None if end is None or is_shell_text(argv[:end]) else Command(argv[:end], argv[end:])


def vouched(argv: tuple[str, ...], starts: Sequence[Start]) -> Command | None:
    """Split a command of which the user said what it is: a wrapper of their own passes its arguments on."""
    if not argv or is_shell_text(argv):
        return None
    return recognize(argv, starts) or Command(argv[:1], argv[1:])


def is_shell_text(argv: Sequence[str]) -> bool:
    """Whether the program is a shell with its program text as an argument."""
    pairs = itertools.pairwise(argv)
    return any(_program(word) in _SHELLS and _TEXT_OPTION.fullmatch(option) for word, option in pairs)


def _begins(argv: tuple[str, ...], start: Start) -> bool:
    return _program(argv[0]) == start[0] and argv[1 : len(start)] == start[1:]


def _program(word: str) -> str:
    return PurePosixPath(word).name
