"""The file systems that this process sees, from ``/proc/self/mountinfo`` (proc_pid_mountinfo(5))."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")

_LINE = re.compile(r"\S+ \S+ \S+ (?P<root>\S+) (?P<point>\S+) .*?- (?P<kind>\S+) \S+ (?P<options>\S+)$")
_ESCAPE = re.compile(r"\\([0-7]{3})")  # a space, tab, newline or backslash


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount.

    Attributes:
        root: the folder of its file system that is mounted.
        point: where.
        kind: type of the file system.
        options: of the file system.

    """

    root: str
    point: str
    kind: str
    options: str


def read_mounts(file: Path = MOUNTS) -> Iterator[Mount]:
    """Read all mounts, in the order in which they were made.

    Raises:
        OSError: the file cannot be read.

    """
    for line in file.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        if found := _LINE.match(line):
            yield Mount(*map(_unescape_word, found.groups()))


def _unescape_word(word: str) -> str:
    return _ESCAPE.sub(lambda octal: chr(int(octal[1], 8)), word)


def find_file_system(path: Path, file: Path = MOUNTS) -> str:
    """Return the type of the file system that holds ``path``; empty where the kernel does not say."""
    try:
        kinds = {Path(mount.point): mount.kind for mount in read_mounts(file)}
    except OSError:
        return ""
    real = Path(os.path.realpath(path))  # Path.resolve raises RuntimeError for a link to itself
    above = [point for point in kinds if real.is_relative_to(point)]
    return kinds[max(above, key=lambda point: len(point.parts))] if above else ""
