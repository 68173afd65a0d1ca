"""The file that ``--watch`` keeps, and the command that is told of a change.

The invariant: a reader sees the old file or the new one, whole; a change is told until the command takes it,
by one command at a time, none of which is left behind.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import tempfile
import time
from pathlib import Path

from unitagent.errors import ConfigurationError

_MODE = 0o644  # others read it
_WRITABLE, _KEPT, _ANY = 0o022, 0o755, 0  # bits: for others to write, to keep of a former file, none
_LONGEST = 60.0  # seconds that the command may take
_AGAIN = 5.0  # seconds before a command that failed is tried again
_SECRET = ("UNIT_REDIS_URL", "UNIT_SECRET")


class WatchedFile:
    """A file, and the command to run after each change of it."""

    def __init__(self, path: Path, command: str | None) -> None:
        self.path = path
        self._command = command
        self._due: float | None = None
        self._running: subprocess.Popen[bytes] | None = None
        self._ended = False

    @property
    def due(self) -> bool:
        """Whether the command is to be run, for a change or once more."""
        return self._command is not None and self._due is not None and time.monotonic() >= self._due

    def write_if_changed(self, text: str) -> bool:
        """Have the file say this; false when it does so already.

        Raises:
            ConfigurationError: it cannot be read or written.

        """
        try:
            if self._is_ours() and self._read_text() == text:
                return False
            self._replace_file(text)
        except OSError as error:
            raise ConfigurationError(
                f"--watch {self.path}: {error.strerror or error}; accepted is a file in a folder that "
                "this user may write to, since it is replaced as a whole"
            ) from error
        self._due = time.monotonic()
        return True

    def run_command(self) -> str:
        """Run the command; returns why it failed, or nothing. Blocks; the file may change meanwhile."""
        self._due = None
        trouble = self._run_once()
        if not trouble or self._ended:
            return ""
        self._due = self._due or time.monotonic() + _AGAIN
        return f"--on-change {self._command!r}: {trouble}; it is tried again"

    def kill_command(self) -> None:
        """Kill the command that runs, or is about to, with all that it started."""
        self._ended = True
        if self._running is not None:
            _kill_group(self._running)

    def _run_once(self) -> str:
        try:
            self._running = running = _start_shell(self._command or "")
        except OSError as error:
            return f"it could not be started: {error.strerror or error}"
        if self._ended:
            _kill_group(running)
        try:
            code = running.wait(_LONGEST)
        except subprocess.TimeoutExpired:
            _kill_group(running)
            running.wait()
            return f"it took more than {_LONGEST:g} s and was killed"
        return f"it ended with code {code}" if code else ""

    def _read_text(self) -> str | None:
        try:
            return self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None

    def _replace_file(self, text: str) -> None:
        """Move a whole file into place: Envoy looks at moves only, and nobody may see half of one."""
        number, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        try:
            with open(number, "w", encoding="utf-8") as file:  # noqa: PTH123  # a descriptor, not a path
                file.write(text)
                os.fchmod(number, self._choose_mode())
            os.replace(name, self.path)  # noqa: PTH105
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)  # noqa: PTH108
            raise

    def _choose_mode(self) -> int:
        """Who may read it is said by the former file, if that was ours; nobody else may write."""
        return self.path.stat().st_mode & _KEPT if self._is_ours(_ANY) else _MODE

    def _is_ours(self, forbidden: int = _WRITABLE) -> bool:
        """Whether it is a plain file of this user that nobody else may write to."""
        try:
            found = self.path.lstat()
        except OSError:
            return False
        return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & forbidden


def _start_shell(command: str) -> subprocess.Popen[bytes]:
    """Start a line of the shell, in a group of its own, that can be ended with all it started."""
    env = {name: text for name, text in os.environ.items() if name not in _SECRET}
    return subprocess.Popen(
        ["/bin/sh", "-c", command], env=env, stdin=subprocess.DEVNULL, start_new_session=True
    )


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is None:  # else its group may be that of a service it has started
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
