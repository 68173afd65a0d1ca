"""Rotation of the Unit's secrets while it runs: the file is checked again and again, and all ranks must
agree.

The invariants: a file never splits a Unit. Content that cannot be accepted (no secret, half of one, or none
that the other ranks know) changes nothing and is logged once. Each step of a rotation has to wait until all
ranks have made the step before; whether they have is read from their records, never guessed. Nothing waits
for it, and no message contains a secret.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from unitagent import setting_parsers
from unitagent.core.model import format_ranks
from unitagent.errors import RefusalError
from unitagent.system import working_directory
from unitagent.system.keyring import MAX_SECRETS, MIN_SECRET_BYTES, Keyring
from unitagent.system.threads import run_in_thread_or_here

if TYPE_CHECKING:
    from unitagent.agent.loop import Agent
    from unitagent.store.redis_store import RedisStore

_log = logging.getLogger(__name__)

HEARTBEATS, LONGEST = 5, 5.0  # heartbeats between two checks, and at most this many seconds
SETTLED = 0.3  # seconds that a change must be stable, since the file may be half written
_MAX_FILE = 65536  # bytes worth reading
_ACCEPTED = (
    f"1 to {MAX_SECRETS} lines of printable text of at least {MIN_SECRET_BYTES} bytes each, at least one of "
    "them a secret that is already accepted"
)
Say = Callable[[str], None]
Follow = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class FileContent:
    """The content of the file: its secrets, or why they cannot be accepted."""

    secrets: tuple[str, ...] = field(default=(), repr=False)
    trouble: str = ""


class SecretFile:
    """Keeps a keyring equal to its file.

    Args:
        path: path of the file; None if there is no file, so that nothing ever changes.
        keys: the keyring, made of the secrets that the file had.
        say: logs a change.
        warn: logs content that cannot be accepted.

    """

    def __init__(
        self, path: str | None, keys: Keyring, say: Say = _log.info, warn: Say = _log.warning
    ) -> None:
        place = path and working_directory.resolve_user_path(path)
        self._path = place if place and _is_plain(place) else None
        self._keys = keys
        self._say, self._warn = say, warn
        self._known: FileContent | None = None  # the content last accepted, or refused and logged
        self._refused = False
        self._candidate: FileContent | None = None  # content seen once
        self._followers: list[Follow] = []

    def add_follower(self, follow: Follow) -> None:
        """Call ``follow`` after each check, to react to changed keys."""
        self._followers.append(follow)

    @contextlib.asynccontextmanager
    async def watch_in_background(self, heartbeat: float) -> AsyncIterator[SecretFile]:
        """Check the file every few heartbeats for the duration of the block."""
        pause = min(HEARTBEATS * heartbeat, LONGEST)
        task = asyncio.create_task(self._watch_file(pause)) if self._path is not None else None
        try:
            yield self
        finally:
            if task is not None:
                task.cancel()
                await asyncio.wait([task])

    async def check_file(self) -> bool:
        """Check the file once; return whether new content has to be seen again, soon, to count."""
        if self._path is None:
            return False
        path = self._path
        seen = await run_in_thread_or_here(lambda: read_secrets(path))
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
            except Exception as error:  # noqa: BLE001  # any error is logged, and the next check is made
                soon = False
                _log.error("internal error: %r", error)
            await asyncio.sleep(SETTLED if soon else pause)

    def _accept_secrets(self, seen: FileContent) -> None:
        trouble = seen.trouble
        if not trouble and not self._keys.has_any(seen.secrets):
            trouble = "has none of the secrets accepted now, so the other ranks might know none of them"
        self._known, (refused, self._refused) = seen, (self._refused, bool(trouble))
        if trouble:
            self._warn(
                f"UNIT_SECRET_FILE={self._path!r} {trouble}; the previous secrets stay "
                f"accepted; the file must have {_ACCEPTED}"
            )
        elif self._keys.replace_secrets(seen.secrets):
            number = len(self._keys)
            message = (
                "1 secret is accepted" if number == 1 else f"{number} secrets are accepted, signing with each"
            )
            self._say(f"UNIT_SECRET_FILE changed: {message}")
        elif refused:
            self._say("UNIT_SECRET_FILE is valid again")


def read_secrets(path: str) -> FileContent:
    """Read the secrets in a file. Blocks, but never on a pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:  # noqa: PTH123  # a descriptor, not a path
            raw = file.read(_MAX_FILE) or b""  # None: a pipe that is open and empty
        return FileContent(setting_parsers.parse_secrets(raw.decode()))
    except OSError as error:
        return FileContent(trouble=f"cannot be read ({error.strerror})")
    except UnicodeDecodeError:
        return FileContent(trouble="is not UTF-8 text")
    except RefusalError as error:
        return FileContent(trouble=f"is not accepted ({error})")
    except ValueError:
        return FileContent(trouble="is empty")


def _is_plain(path: str) -> bool:
    """Whether the file can be read again: a pipe, which a shell makes of a command, delivers its content
    once.
    """
    try:
        return stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116
    except OSError:
        return True  # it may come back


class SecretAgreement:
    """Publishes a change of this agent's keys at once, and logs when all ranks have made the same change."""

    def __init__(self, agent: Agent, store: RedisStore, keys: Keyring) -> None:
        self._agent, self._store, self._keys = agent, store, keys
        self._edition = keys.edition
        self._is_reported = True
        self._strangers: frozenset[int] = frozenset()

    async def check_agreement(self) -> None:
        """Check whether the keys have changed, here or on another rank."""
        self._warn_of_strangers()
        if self._edition != self._keys.edition:
            self._edition = self._keys.edition
            self._is_reported = False
            self._agent.request_exchange()  # write my record with the new signature at once
        elif self._store.differing_ranks:
            self._is_reported = False
        elif not self._is_reported and self._store.differing_ranks is not None and self._has_all_records():
            self._is_reported = True
            _log.info("all ranks of this Unit accept the same secrets now (%d)", len(self._keys))

    def report_status(self) -> dict[str, Any] | None:
        """Return the part of ``/status`` about secrets; None if there is no secret."""
        if not self._keys:
            return None
        unlike = self._store.differing_ranks
        return {
            "accepted": len(self._keys),
            "differing": None if unlike is None else sorted(unlike),
            "strangers": sorted(self._store.unverified_ranks),
        }

    def _warn_of_strangers(self) -> None:
        """Warn when a step was made before all ranks had made the step before."""
        strangers, self._strangers = self._strangers, self._store.unverified_ranks
        if self._strangers - strangers:
            _log.warning("%s", _explain_strangers(sorted(self._strangers), self._agent.state.config.rank))

    def _has_all_records(self) -> bool:
        """Whether the store has a record of each rank: nothing is known of a rank that has not joined yet."""
        state = self._agent.state
        return len(state.store.records.keys() | {state.config.rank}) == state.config.size


def _explain_strangers(strangers: Sequence[int], mine: int) -> str:
    has = "has" if len(strangers) == 1 else "have"
    return (
        f"{format_ranks(strangers)} {has} no secret in common with rank {mine}: the running workload "
        "continues, but they cannot meet at the next barrier; add the missing secrets to UNIT_SECRET_FILE, "
        "and remove the old one only when all ranks have both"
    )
