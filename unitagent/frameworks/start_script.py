"""What a start script of the user's does with the arguments that it is given."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

_SHELLS = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh"})
_SHEBANG = re.compile(rb"#!.*\b(sh|bash|dash|ash|zsh|ksh)\b")
_HANDED_ON = re.compile(rb"\$\{?[@*1-9]")
_MOST = 1 << 16  # bytes of a script that are read


def hands_arguments_on(argv: Sequence[str], folder: str | None) -> bool | None:
    """Whether the shell script that is run uses its arguments; None where it is none that can be read.

    Args:
        argv: ``./serve.sh …``, or ``bash serve.sh …``.
        folder: where it is run; None where that is not known.

    """
    run_by_shell = PurePosixPath(argv[0]).name in _SHELLS
    words = [word for word in argv[1:] if not word.startswith("-")] if run_by_shell else list(argv)
    if not words or (folder is None and not words[0].startswith("/")):
        return None
    try:
        with Path(folder or "/", words[0]).open("rb") as file:
            text = file.read(_MOST)
    except OSError:
        return None
    if not (run_by_shell or _SHEBANG.match(text)) or b"\0" in text or len(text) == _MOST:
        return None
    return _HANDED_ON.search(text) is not None
