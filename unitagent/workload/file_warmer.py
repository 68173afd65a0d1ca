"""Reads an engine's files into the page cache while this instance waits for the others.

The invariants: it reads only while no workload runs here, it takes no memory of its own, and it never makes
the kernel drop what something else needs: files that do not fit are refused before the first byte.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from unitagent.system import memory, page_cache
from unitagent.system.threads import start_daemon_thread

if TYPE_CHECKING:
    from collections.abc import Callable

READERS = 8
CHUNK = 16 * 2**20  # bytes
SHARE = 0.9  # of the available memory that the files may fill
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # what was a file may be a pipe without a writer by now
_NOWHERE = (errno.ENOENT, errno.ELOOP)
_GIB = 2**30


class WarmingState(StrEnum):
    """What is done for the files."""

    READING = "reading"
    DONE = "done"
    STOPPED = "stopped"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the files are read.

    Attributes:
        state: what is done for them.
        files: how many there are.
        total: bytes of all of them.
        read: bytes that have been read.
        resident: bytes that were in the page cache when that was last counted; None if it is not known.
        seconds: that it has taken.
        reason: why it is stopped, refused or failed.

    """

    state: WarmingState = WarmingState.READING
    files: int = 0
    total: int = 0
    read: int = 0
    resident: int | None = None
    seconds: float = 0.0
    reason: str = ""

    def describe_progress(self) -> str:
        """Say it in one sentence."""
        size = f"{self.total / _GIB:.1f} GiB in {self.files} files"
        kept = (
            ""
            if self.resident is None
            else f", of which {self.resident / _GIB:.1f} GiB are in the page cache"
        )
        match self.state:
            case WarmingState.READING:
                return (
                    f"reads {size} into the page cache: {self.read / _GIB:.1f} GiB after {self.seconds:.0f} s"
                )
            case WarmingState.DONE:
                return f"has read {size} in {self.seconds:.1f} s{kept}"
            case WarmingState.STOPPED:
                return f"has read {self.read / _GIB:.1f} of {size}: {self.reason}{kept}"
            case _:
                return f"reads nothing ahead: {self.reason}"

    def as_status(self) -> dict[str, Any]:
        """Return it for ``/status``, in bytes and seconds."""
        return {
            "state": self.state.value,
            "files": self.files,
            "total_bytes": self.total,
            "read_bytes": self.read,
            "resident_bytes": self.resident,
            "seconds": round(self.seconds, 3),
            "reason": self.reason or None,
            "message": self.describe_progress(),
        }


class FileWarmer:
    """The files of one instance. Its threads are daemons: none keeps the process from ending."""

    def __init__(
        self,
        paths: Sequence[str],
        log: Callable[[str], None],
        available: Callable[[], int | None] = memory.read_available,
    ) -> None:
        """Keep the absolute paths of files and folders; ``available``: bytes that may be used."""
        self._paths = paths
        self._log = log
        self._available = available
        self._lock = threading.Lock()
        self._chunks: Iterator[tuple[str, int, int]] = iter(())
        self._began = time.monotonic()
        self._progress = Progress()
        self._stop = threading.Event()

    @property
    def progress(self) -> Progress:
        """How far it is now."""
        now = self._progress
        reading = now.state is WarmingState.READING
        return replace(now, seconds=time.monotonic() - self._began) if reading else now

    def start(self) -> None:
        """Begin in the background."""
        try:
            start_daemon_thread(self._run, "warm-files")
        except OSError as error:
            self._end_warming(WarmingState.FAILED, str(error.strerror))

    def stop(self, reason: str) -> None:
        """End soon: each reader finishes its chunk."""
        if self._progress.state is WarmingState.READING and not self._stop.is_set():
            self._update_progress(reason=reason)
            self._stop.set()

    def _run(self) -> None:
        try:
            self._read_all(dict(find_files(self._paths)))
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            self._end_warming(WarmingState.FAILED, f"{error.strerror}{where}")
        except Exception as error:  # noqa: BLE001 (as of folders too deep for os.walk: nothing depends on it)
            self._end_warming(WarmingState.FAILED, f"internal error: {error!r}")

    def _read_all(self, sizes: dict[str, int]) -> None:
        self._update_progress(files=len(sizes), total=sum(sizes.values()))
        if reason := explain_refusal(sizes, self._available()):
            self._end_warming(WarmingState.REFUSED, reason)
            return
        self._chunks = _split_files(sizes)
        sink = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            self._share_work(sink)
        finally:
            os.close(sink)
        self._update_progress(resident=count_resident(sizes))
        unfinished = self._stop.is_set() and self._progress.read < self._progress.total
        state = WarmingState.STOPPED if unfinished or self._progress.reason else WarmingState.DONE
        self._end_warming(state, self._progress.reason)

    def _share_work(self, sink: int) -> None:
        """Read with several threads, of which this is one; with fewer where the machine has no more."""
        others = list[threading.Thread]()
        with contextlib.suppress(RuntimeError):
            while len(others) < READERS - 1:
                reader = threading.Thread(target=self._read_chunks, args=[sink], daemon=True)
                reader.start()
                others.append(reader)
        self._read_chunks(sink)
        for reader in others:
            reader.join()

    def _read_chunks(self, sink: int) -> None:
        page_cache.yield_disk()
        while not self._stop.is_set() and (chunk := self._take_chunk()):
            self._read_chunk(*chunk, sink)

    def _take_chunk(self) -> tuple[str, int, int] | None:
        with self._lock:
            return next(self._chunks, None)

    def _read_chunk(self, path: str, offset: int, length: int, sink: int) -> None:
        try:
            source = os.open(path, _OPEN)
            try:
                count = page_cache.load_range(source, sink, offset, length)
            finally:
                os.close(source)
        except FileNotFoundError:  # a download has renamed it
            return
        except OSError as error:
            self._stop.set()
            self._update_progress(reason=f"{error.strerror}: {path}")
            return
        self._update_progress(read=count)

    def _update_progress(self, *, read: int = 0, **changes: Any) -> None:
        with self._lock:
            self._progress = replace(self._progress, read=self._progress.read + read, **changes)

    def _end_warming(self, state: WarmingState, reason: str) -> None:
        self._update_progress(state=state, reason=reason, seconds=time.monotonic() - self._began)
        self._log(f"UNIT_WARM_FILES {self._progress.describe_progress()}")


def explain_refusal(sizes: dict[str, int], available: int | None) -> str:
    """Say why files of these sizes must not be read into the page cache; empty if they may.

    Args:
        sizes: bytes by path.
        available: bytes that may be used; None if that is not known.

    """
    if gpu := memory.find_unified_gpu():
        return f"the GPU ({gpu}) shares the machine's memory, where a full page cache makes loads fail"
    missing = sum(sizes.values()) - (count_resident(sizes) or 0)
    if available is None or missing <= SHARE * available:
        return ""
    need = f"{missing / _GIB:.1f} GiB of {len(sizes)} files are not in the page cache yet"
    return f"{need}, more than {SHARE:.0%} of the {available / _GIB:.1f} GiB that the memory limit leaves"


# Loaders that read past the page cache or empty it: what is read ahead serves none of them.
_BYPASSES = ("instanttensor", "runai_streamer", "--weight-loader-drop-cache-after-load")


def find_bypass(argv: Sequence[str]) -> str:
    """Return the word of a command that makes its engine load past the page cache; empty if there is none."""
    words = " ".join(argv)
    return next((word for word in _BYPASSES if word in words), "")


def find_files(paths: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Yield each regular file with its size, folders with all that is below; each file once.

    What goes while a folder is listed, as a download's parts do, and a link that leads nowhere are left out.

    Raises:
        OSError: a path does not exist, or a folder cannot be read.

    """
    known = set[tuple[int, int]]()
    for path in paths:
        for file in _walk_files(path):
            try:
                seen = os.stat(file)  # noqa: PTH116 (a symbolic link of a model hub counts as its target)
            except OSError as error:
                if file == path or error.errno not in _NOWHERE:
                    raise
                continue
            if stat.S_ISREG(seen.st_mode) and seen.st_size and (seen.st_dev, seen.st_ino) not in known:
                known.add((seen.st_dev, seen.st_ino))
                yield file, seen.st_size


def _walk_files(path: str) -> Iterator[str]:
    if not os.path.isdir(path):  # noqa: PTH112
        yield path
        return

    def fail(error: OSError) -> None:
        if error.filename == path or error.errno not in _NOWHERE:
            raise error

    for folder, folders, files in os.walk(path, onerror=fail):
        folders.sort()
        yield from (os.path.join(folder, name) for name in sorted(files))  # noqa: PTH118


def _split_files(sizes: dict[str, int]) -> Iterator[tuple[str, int, int]]:
    """Yield path, offset and length of each chunk, file by file as an engine reads them."""
    for path, size in sizes.items():
        for offset in range(0, size, CHUNK):
            yield path, offset, min(CHUNK, size - offset)


def count_resident(sizes: dict[str, int]) -> int | None:
    """Count the bytes of these files that are in the page cache; None where that cannot be known."""
    try:
        return sum(_count_resident(path, size) for path, size in sizes.items())
    except OSError:
        return None


def _count_resident(path: str, size: int) -> int:
    descriptor = os.open(path, _OPEN)
    try:
        return page_cache.count_resident(descriptor, size)
    finally:
        os.close(descriptor)
