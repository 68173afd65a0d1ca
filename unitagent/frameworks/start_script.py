"""What a start script of the user's does with the flags that it is given as arguments."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

_SHELLS = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh"})
_SHEBANG = re.compile(rb"#!.*\b(sh|bash|dash|ash|zsh|ksh)\b")
_USED = re.compile(rb"\$\{?[@*1-9]|RANK")  # its arguments, or a rank that it finds by itself
_MOST = 1 << 16  # bytes of a script that are read


def drops_flags(argv: Sequence[str], folder: str | None) -> bool:
    """Whether a shell script is run that uses no arguments and knows no rank. Of what cannot be read, or is
    no script, that is not said.

    Args:
        argv: ``./serve.sh …``, or ``bash serve.sh …``.
        folder: where it is run; None where that is not known.

    """
    run_by_shell = PurePosixPath(argv[0]).name in _SHELLS
    words = [word for word in argv[1:] if not word.startswith("-")] if run_by_shell else list(argv)
    if not words or (folder is None and not words[0].startswith("/")):
        return False
    try:
        with Path(folder or "/", words[0]).open("rb") as file:
            text = file.read(_MOST)
    except OSError:
        return False
    is_read = (run_by_shell or _SHEBANG.match(text)) and b"\0" not in text and len(text) < _MOST
    return bool(is_read) and _USED.search(text) is None
