"""The file of the Unit's secrets, looked at again and again: a secret is changed while everything runs.

The invariant: a file never takes a Unit apart. What cannot be taken changes nothing and is told once: no
secret, half of one, or none of those that the other ranks know. Nothing that is told has a secret in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from unitagent import setting_parsers
from unitagent.errors import RefusalError
from unitagent.system import working_directory
from unitagent.system.keyring import MAX_SECRETS, MIN_SECRET_BYTES, Keyring
from unitagent.system.daemon_thread import run_in_daemon_thread

_log = logging.getLogger(__name__)

HEARTBEATS, LONGEST = 5, 5.0  # between two looks: so many, and never more seconds
SETTLED = 0.3  # seconds that a change has to stay as it is: it may be half written
_MOST = 65536  # bytes worth reading
_ACCEPTED = (
    f"1 to {MAX_SECRETS} lines of printable text, each of at least {MIN_SECRET_BYTES} bytes, and one of "
    "them a secret that is accepted already"
)
Say = Callable[[str], None]
Follow = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class FileContent:
    """What a look at the file gave: its secrets, or why it has none to take."""

    secrets: tuple[str, ...] = field(default=(), repr=False)
    trouble: str = ""


class SecretFile:
    """Keeps a ring of keys as its file says.

    Args:
        path: of the file; None where there is none, and nothing ever changes.
        keys: the ring, made of the secrets that the file had.
        say: tells a person of a change.
        warn: tells a person of what cannot be taken.

    """

    def __init__(
        self, path: str | None, keys: Keyring, say: Say = _log.info, warn: Say = _log.warning
    ) -> None:
        place = path and working_directory.resolve_user_path(path)
        self._path = place if place and _is_plain(place) else None
        self._keys = keys
        self._say, self._warn = say, warn
        self._known: FileContent | None = None  # as it was last taken, or refused and told
        self._refused = False
        self._candidate: FileContent | None = None  # as it was seen once
        self._followers: list[Follow] = []

    def add_follower(self, follow: Follow) -> None:
        """Call this after each look as well: for who has something to do when the keys have changed."""
        self._followers.append(follow)

    @contextlib.asynccontextmanager
    async def watch_in_background(self, heartbeat: float) -> AsyncIterator[SecretFile]:
        """Look for the time of a block, every few heartbeats."""
        pause = min(HEARTBEATS * heartbeat, LONGEST)
        task = asyncio.create_task(self._watch_file(pause)) if self._path is not None else None
        try:
            yield self
        finally:
            if task is not None:
                task.cancel()
                await asyncio.wait([task])

    async def check_file(self) -> bool:
        """Look once; whether what is there now has to be seen once more, soon, to count."""
        if self._path is None:
            return False
        path = self._path
        seen = await run_in_daemon_thread(lambda: read_secrets(path))
        self._candidate, before = seen, self._candidate
        if seen == self._known:
            return False
        if seen != before:
            return True
        self._accept_secrets(seen)
        return False

    async def _watch_file(self, pause: float) -> None:
        while True:
            try:
                soon = await self.check_file()
                for follow in self._followers:
                    await follow()
            except Exception as error:  # noqa: BLE001  # whatever it is, it must not be for ever, nor unseen
                soon = False
                _log.error("internal error: %r", error)
            await asyncio.sleep(SETTLED if soon else pause)

    def _accept_secrets(self, seen: FileContent) -> None:
        trouble = seen.trouble
        if not trouble and not self._keys.has_any(seen.secrets):
            trouble = "has none of the secrets that are accepted now, so that nobody else might know any"
        self._known, (refused, self._refused) = seen, (self._refused, bool(trouble))
        if trouble:
            self._warn(
                f"UNIT_SECRET_FILE={self._path!r} {trouble}; the secrets that it had before go on being "
                f"accepted; accepted is {_ACCEPTED}; correct the file"
            )
        elif self._keys.replace(seen.secrets):
            number = len(self._keys)
            told = (
                "1 secret is accepted" if number == 1 else f"{number} secrets are accepted, signing with each"
            )
            self._say(f"UNIT_SECRET_FILE changed: {told}")
        elif refused:
            self._say("UNIT_SECRET_FILE has the accepted secrets again")


def read_secrets(path: str) -> FileContent:
    """Read the secrets in a file. Blocks, but for no pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:  # noqa: PTH123  # a descriptor, not a path
            raw = file.read(_MOST) or b""  # None: a pipe that is held open and empty
        return FileContent(setting_parsers.parse_secrets(raw.decode()))
    except OSError as error:
        return FileContent(trouble=f"cannot be read ({error.strerror})")
    except UnicodeDecodeError:
        return FileContent(trouble="is no UTF-8 text")
    except RefusalError as error:
        return FileContent(trouble=f"is not accepted ({error})")
    except ValueError:
        return FileContent(trouble="is empty")


def _is_plain(path: str) -> bool:
    """Whether it can be read again: a pipe, which a shell makes of a command, has its content once."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116
    except OSError:
        return True  # it may come back
