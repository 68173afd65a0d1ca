"""The file that ``--watch`` keeps, and the command that runs after each change.

The invariant: a reader sees either the old or the new file, never a part; the command is retried until it
succeeds, one at a time, and no process is left behind.
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
_WRITABLE, _KEPT_MODE, _ANY = 0o022, 0o755, 0  # mode bits: writable by others; kept from the old file; none
_COMMAND_TIMEOUT = 60.0  # seconds that the command may take
_RETRY_PAUSE = 5.0  # seconds before a command that failed is tried again
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
        """Whether the command must run, for a change or a retry."""
        return self._command is not None and self._due is not None and time.monotonic() >= self._due

    def write_if_changed(self, text: str) -> bool:
        """Write this text to the file; returns false if the file already has it.

        Raises:
            ConfigurationError: the file cannot be read or written.

        """
        try:
            if self._is_ours() and self._read_text() == text:
                return False
            self._replace_file(text)
        except OSError as error:
            raise ConfigurationError(
                f"--watch={str(self.path)!r}: must be a file in a directory that this user can write to, "
                f"since the file is replaced as a whole ({error.strerror or error})"
            ) from error
        self._due = time.monotonic()
        return True

    def run_command(self) -> str:
        """Run the command and return why it failed, or an empty text. Blocks; the file may change
        meanwhile.
        """
        self._due = None
        trouble = self._run_once()
        if not trouble or self._ended:
            return ""
        self._due = self._due or time.monotonic() + _RETRY_PAUSE
        return f"--on-change {self._command!r}: {trouble}; retrying"

    def kill_command(self) -> None:
        """Kill the command that runs, or is about to run, with everything that it started."""
        self._ended = True
        if self._running is not None:
            _kill_group(self._running)

    def _run_once(self) -> str:
        try:
            self._running = running = _start_shell(self._command or "")
        except OSError as error:
            return f"cannot be started: {error.strerror or error}"
        if self._ended:
            _kill_group(running)
        try:
            code = running.wait(_COMMAND_TIMEOUT)
        except subprocess.TimeoutExpired:
            _kill_group(running)
            running.wait()
            return f"killed after {_COMMAND_TIMEOUT:g} s"
        return f"exit code {code}" if code else ""

    def _read_text(self) -> str | None:
        try:
            return self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None

    def _replace_file(self, text: str) -> None:
        """Move a complete file into place: Envoy only watches moves, and no reader may see a part."""
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
        """Keep who may read the old file, if that is ours; others may never write."""
        return self.path.stat().st_mode & _KEPT_MODE if self._is_ours(_ANY) else _MODE

    def _is_ours(self, forbidden: int = _WRITABLE) -> bool:
        """Whether it is a regular file of this user that nobody else may write to."""
        try:
            status = self.path.lstat()
        except OSError:
            return False
        return (
            stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & forbidden
        )


def _start_shell(command: str) -> subprocess.Popen[bytes]:
    """Start a shell command in its own process group, so that everything it starts can be killed."""
    env = {name: text for name, text in os.environ.items() if name not in _SECRET}
    return subprocess.Popen(
        ["/bin/sh", "-c", command], env=env, stdin=subprocess.DEVNULL, start_new_session=True
    )


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is None:  # after it exited, its group may belong to a service that it started
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
