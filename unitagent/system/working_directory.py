"""The directory that this process was started in. An agent leaves it and works in ``/``, so that every volume
can be unmounted. Relative paths of the user, and COMMAND, still start from there.

The invariant: nothing waits inside ``in_start_directory``, since all threads share the working directory.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from unitagent.errors import NOT_EXECUTABLE, CommandError

_ROOT = "/"
_start_directory: list[str] = []  # where this process was started, once it has left


def leave_start_directory() -> None:
    """Go to ``/``; stay if there would be no way back (a folder that is deleted, covered or forbidden)."""
    with contextlib.suppress(OSError):
        start = os.getcwd()  # noqa: PTH109  # as PWD may not say it
        if os.path.samestat(os.stat("."), os.stat(start)) and os.access(start, os.X_OK):  # noqa: PTH116
            os.chdir(_ROOT)
            _start_directory[:] = [start]


def resolve_user_path(path: str) -> str:
    """Resolve a path of the user's against the start directory."""
    return os.path.join(*_start_directory, path)  # noqa: PTH118


@contextlib.contextmanager
def in_start_directory() -> Iterator[None]:
    """Return to the start directory for a moment; does not nest.

    Raises:
        CommandError: that folder is gone.

    """
    for start in _start_directory:
        try:
            os.chdir(start)
        except OSError as error:
            why = f"the directory that this agent was started in cannot be entered any more: {error}"
            raise CommandError(f"COMMAND cannot be executed: {why}", NOT_EXECUTABLE) from error
    try:
        yield
    finally:
        if _start_directory:
            os.chdir(_ROOT)
