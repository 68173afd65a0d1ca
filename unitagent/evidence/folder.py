"""Where collected evidence lies: a folder for each collection, below one for each Unit and rank.

The invariants: the folder is bounded in number and bytes, the oldest collection goes first, and nobody but
this user can read it or redirect what is written. Names that come from outside never leave the folder.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MOST_COLLECTIONS = 10  # of one rank
MOST_BYTES = 64 << 20  # of one rank
ABANDONED = 7 * 86400  # seconds after which a rank that writes no more loses its folder, in the default root
MOST_OF_A_FILE = 16 << 20  # bytes
PIECE = 1 << 20  # bytes that are read at once
REPORT = "report.json"  # the file of a collection that says what was seen, in short
_LONGEST_REPORT = 128 << 10  # bytes

_NAME = re.compile(r"generation-([0-9]{1,16})\.([0-9]{8}T[0-9]{6}Z)")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DEFAULT = "unitagent-evidence"


@dataclass(frozen=True, slots=True)
class Collection:
    """One collection on disk.

    Attributes:
        at: seconds since the epoch, when it was begun.
        files: name and size of each file.

    """

    name: str
    generation: int
    at: float
    files: tuple[tuple[str, int], ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size in self.files)

    def describe(self) -> dict[str, Any]:
        """What ``/evidence`` shows of it."""
        files = [{"name": name, "bytes": size} for name, size in self.files]
        return {"name": self.name, "generation": self.generation, "at": self.at, "files": files}


def choose_root(configured: str | None, environ: Mapping[str, str]) -> tuple[str, bool]:
    """Return the folder of all evidence, and whether it is the default one, where everybody may write."""
    if configured:
        return configured, False
    return f"{environ.get('TMPDIR') or '/tmp'}/{_DEFAULT}", True  # noqa: S108 (see create_collection)


def locate_folder(root: str, unit: str, rank: int) -> Path:
    """Return the folder of one rank."""
    return Path(root) / unit / f"rank-{rank}"


def create_collection(folder: Path, generation: int, *, private: bool) -> Path:
    """Make room and a new, empty collection; ``private``: the root must belong to this user.

    Raises:
        OSError: it cannot be made, or somebody else has made the root.

    """
    root = folder.parent.parent
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if private:
        _check_owner(root)
        remove_abandoned(root, time.time() - ABANDONED)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    remove_oldest(folder, MOST_COLLECTIONS - 1)
    made = folder / f"generation-{generation}.{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    made.mkdir(mode=0o700, exist_ok=True)
    return made


def _check_owner(root: Path) -> None:
    seen = root.lstat()
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.geteuid():
        raise OSError(errno.EPERM, f"{root} is not a directory of this user; set UNIT_EVIDENCE_DIR")


def remove_oldest(folder: Path, keep: int = MOST_COLLECTIONS) -> None:
    """Remove the oldest collections until no more than these, and no more than ``MOST_BYTES``, are left."""
    left = list_collections(folder)
    while left and (len(left) > keep or sum(one.size for one in left) > MOST_BYTES):
        oldest = left.pop(0)
        shutil.rmtree(folder / oldest.name, ignore_errors=True)


def remove_abandoned(root: Path, since: float) -> None:
    """Remove the folders of ranks that have written nothing ``since`` then, seconds since the epoch."""
    for unit in root.iterdir():
        for rank in unit.iterdir() if unit.is_dir() else ():
            if rank.stat(follow_symlinks=False).st_mtime < since:
                shutil.rmtree(rank, ignore_errors=True)
        with contextlib.suppress(OSError):  # others are left
            unit.rmdir()


def list_collections(folder: Path) -> list[Collection]:
    """Return all collections of a rank, oldest first; none if there is no folder. Blocks."""
    found = []
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            match = _NAME.fullmatch(entry.name)
            if match and entry.is_dir(follow_symlinks=False):
                at = _parse_time(match[2])
                found.append(Collection(entry.name, int(match[1]), at, tuple(_list_files(entry.path))))
    return sorted(found, key=lambda one: (one.at, one.generation))


def _parse_time(text: str) -> float:
    import calendar  # noqa: PLC0415 (only here)

    try:
        return float(calendar.timegm(time.strptime(text, "%Y%m%dT%H%M%SZ")))
    except (ValueError, OverflowError):
        return 0.0


def _list_files(path: str) -> Iterator[tuple[str, int]]:
    with contextlib.suppress(OSError):
        entries = sorted(os.scandir(path), key=lambda one: one.name)
        for entry in entries:
            if _FILE.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                yield entry.name, entry.stat(follow_symlinks=False).st_size


def is_valid_name(collection: str, file: str = "file") -> bool:
    """Whether these can name a collection and a file in it."""
    return _NAME.fullmatch(collection) is not None and _FILE.fullmatch(file) is not None


def read_piece(folder: Path, collection: str, file: str, offset: int) -> bytes | None:
    """Return at most ``PIECE`` bytes of a file from ``offset``; None if there is no such file. Blocks."""
    if not is_valid_name(collection, file):
        return None
    try:
        handle = os.open(
            folder / collection / file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        )
    except OSError:
        return None
    try:
        return os.pread(handle, PIECE, offset) if stat.S_ISREG(os.fstat(handle).st_mode) else None
    except OSError:
        return None
    finally:
        os.close(handle)


def read_report(folder: Path, collection: str) -> dict[str, Any]:
    """Return what a collection says in short; empty if it says nothing that can be read. Blocks."""
    raw = read_piece(folder, collection, REPORT, 0) or b""
    try:
        report = json.loads(raw) if len(raw) <= _LONGEST_REPORT else None
    except (ValueError, RecursionError):
        report = None
    return report if isinstance(report, dict) else {}


def write_file(collection: Path, name: str, data: bytes) -> int:
    """Write a file that only this user can read, cut to its limit; return its size.

    Raises:
        OSError: the disk is full, or the folder is gone.

    """
    data = data[:MOST_OF_A_FILE]
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    path = collection / name
    path.unlink(missing_ok=True)
    with open(os.open(path, flags, 0o600), "wb") as file:  # noqa: PTH123 (a descriptor)
        file.write(data)
    return len(data)
