"""The files that a keeper has loaded: whether they are still what they were when it started.

Size and time of change tell, not contents: weights are large. What an engine writes beside them is left out:
hidden files and folders, and Python's caches.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from unitagent.core.model import shorten_list

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)

Snapshot = dict[str, tuple[int, int]]  # path -> bytes, and nanoseconds of its last change


def take_snapshot(paths: Sequence[str], *, gone_ok: bool = False) -> Snapshot:
    """Look at each of these files, and at all files below these folders. Blocks.

    ``gone_ok``: a path that does not exist any more is left out, as a file of a folder is.

    Raises:
        OSError: one of the paths does not exist, or cannot be read.

    """
    return dict(entry for path in paths if not (gone_ok and _is_gone(path)) for entry in _look_at(path))


def _is_gone(path: str) -> bool:
    try:
        os.stat(path)  # noqa: PTH116
    except OSError as error:
        return error.errno in _GONE
    return False


def _look_at(path: str) -> Iterator[tuple[str, tuple[int, int]]]:
    if not os.path.isdir(path):  # noqa: PTH112
        found = os.stat(path)  # noqa: PTH116
        yield path, (found.st_size, found.st_mtime_ns)
        return
    for folder, folders, names in os.walk(path):
        folders[:] = filter(_is_watched, folders)
        for name in filter(_is_watched, names):
            file = os.path.join(folder, name)  # noqa: PTH118
            try:
                found = os.stat(file)  # noqa: PTH116 (a symbolic link of a model hub counts as its target)
            except OSError:  # it has gone meanwhile, or leads nowhere
                continue
            yield file, (found.st_size, found.st_mtime_ns)


def _is_watched(name: str) -> bool:
    return not name.startswith(".") and name != "__pycache__"


def explain_change(before: Mapping[str, tuple[int, int]], now: Mapping[str, tuple[int, int]]) -> str:
    """Say which files differ; empty if none does."""
    changed = sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path))
    if not changed:
        return ""
    count = "1 file has" if len(changed) == 1 else f"{len(changed)} files have"
    return f"{count} changed since the keeper loaded them: {', '.join(shorten_list(changed))}"
