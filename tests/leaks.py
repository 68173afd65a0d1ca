"""Processes that a test run left behind, found by a mark that the environment hands down."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

_CURRENT = b"PYTEST_CURRENT_TEST="
PATIENCE = 30.0  # seconds in which what is ending may end


class Leaks:
    """Marks what this process starts from now on.

    Attributes:
        mark: an assignment that no other process has in its environment.

    """

    def __init__(self, mark: str) -> None:
        self.mark = mark
        name, _, value = mark.partition("=")
        os.environ[name] = value

    def left(self) -> list[str]:
        """Return what is still alive after some patience, as "pid command (started in test)"."""
        deadline = time.monotonic() + PATIENCE
        while (found := self._alive()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return found

    def end(self) -> None:
        """End what is alive, agents with all that is theirs: an interrupted worker ends no fixture."""
        self._signal(signal.SIGTERM)
        if self.left():
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        for folder in self._folders():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(folder.name), number)

    def _alive(self) -> list[str]:
        return [_shown(folder) for folder in self._folders()]

    def _folders(self) -> list[Path]:
        folders = [folder for folder in Path("/proc").iterdir() if folder.name.isdecimal()]
        return [folder for folder in folders if folder.name != str(os.getpid()) and self._marked(folder)]

    def _marked(self, folder: Path) -> bool:
        try:
            environment = (folder / "environ").read_bytes()
        except OSError:  # ended meanwhile, or another user's
            return False
        return self.mark.encode() in environment.split(b"\0")


def _shown(folder: Path) -> str:
    try:
        words = (folder / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return folder.name
    started = _name_test(folder)
    return f"{folder.name} {b' '.join(words).decode(errors='replace')[:100]}{started}"


def _name_test(folder: Path) -> str:
    """Say which test started a process, by the variable that pytest sets; empty if it was not handed down."""
    try:
        entries = (folder / "environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    found = (entry.removeprefix(_CURRENT) for entry in entries if entry.startswith(_CURRENT))
    return "".join(f" (started in {name.decode(errors='replace')})" for name in found)
