"""The folder that this process was started in, and how an agent leaves it: an agent works in ``/``, so that
it keeps no volume from being unmounted. What a user wrote means from there nevertheless: relative paths, and
COMMAND.

The invariant: whoever has returned does not wait there, since a folder is that of all threads.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from unitagent.core.exits import ExitCode
from unitagent.errors import CommandError

_ROOT = "/"
_left: list[str] = []  # where this process was started, once it has left


def leave() -> None:
    """Go to ``/``; stay where there would be no way back: a folder that is deleted, covered or forbidden."""
    with contextlib.suppress(OSError):
        start = os.getcwd()  # noqa: PTH109  # as PWD may not say it
        if os.path.samestat(os.stat("."), os.stat(start)) and os.access(start, os.X_OK):  # noqa: PTH116
            os.chdir(_ROOT)
            _left[:] = [start]


def absolute(path: str) -> str:
    """Return what a path of the user's means, wherever this process works now."""
    return os.path.join(*_left, path)  # noqa: PTH118


@contextlib.contextmanager
def returned() -> Iterator[None]:
    """Be where this process was started, for a moment; does not nest.

    Raises:
        CommandError: that folder is gone.

    """
    for start in _left:
        try:
            os.chdir(start)
        except OSError as error:
            why = f"the folder that this agent was started in cannot be entered any more: {error}"
            raise CommandError(f"COMMAND cannot be executed: {why}", ExitCode.NOT_EXECUTABLE) from error
    try:
        yield
    finally:
        if _left:
            os.chdir(_ROOT)
