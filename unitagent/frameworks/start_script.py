"""A start script of the user's: what it does with the flags that it is given, and the text to look into."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

_SHELLS = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh"})
_SHEBANG = re.compile(r"#!.*\b(sh|bash|dash|ash|zsh|ksh)\b")
_USED = re.compile(r"\$\{?[@*1-9]|RANK")  # its arguments, or a rank that it finds by itself
_MOST = 1 << 16  # bytes of a script that are read


class Script(NamedTuple):
    """A shell script that can be read.

    Attributes:
        argv: its name and its arguments.

    """

    text: str
    argv: tuple[str, ...]

    @property
    def as_text(self) -> tuple[str, ...]:
        """The command line that gives its text to a shell."""
        return ("sh", "-c", self.text, *self.argv)


def read_script(argv: Sequence[str], folder: str | None) -> Script | None:
    """Read the shell script that a command runs; None if it is none, or cannot be read.

    Args:
        argv: ``./serve.sh …``, or ``bash serve.sh …``.
        folder: where it is run; None where that is not known.

    """
    run_by_shell = PurePosixPath(argv[0]).name in _SHELLS
    at = next((at for at in range(run_by_shell, len(argv)) if argv[at][:1] != "-"), None)
    if at is None or (folder is None and not argv[at].startswith("/")):
        return None
    try:
        with Path(folder or "/", argv[at]).open("rb") as file:
            content = file.read(_MOST)
    except OSError:
        return None
    text = content.decode(errors="replace")
    is_read = (run_by_shell or _SHEBANG.match(text)) and "\0" not in text and len(content) < _MOST
    return Script(text, tuple(argv[at:])) if is_read else None


def drops_flags(argv: Sequence[str], folder: str | None) -> bool:
    """Whether a shell script is run that uses no arguments and knows no rank. Of what cannot be read, or is
    no script, that is not said.
    """
    script = read_script(argv, folder)
    return script is not None and _USED.search(script.text) is None
