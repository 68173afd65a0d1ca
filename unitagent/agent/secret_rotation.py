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
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from unitagent import folder, values
from unitagent.core.model import ranks
from unitagent.errors import RefusalError
from unitagent.keys import LEAST_SECRET, MOST_SECRETS, Keyring
from unitagent.system.daemon_thread import run_in_daemon_thread

if TYPE_CHECKING:
    from unitagent.agent.loop import Agent
    from unitagent.store.redis import RedisStore

_log = logging.getLogger(__name__)

HEARTBEATS, LONGEST = 5, 5.0  # between two looks: so many, and never more seconds
SETTLED = 0.3  # seconds that a change has to stay as it is: it may be half written
_MOST = 65536  # bytes worth reading
_ACCEPTED = (
    f"1 to {MOST_SECRETS} lines of printable text, each of at least {LEAST_SECRET} bytes, and one of them a "
    "secret that is accepted already"
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
        place = path and folder.absolute(path)
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
        return FileContent(values.secrets(raw.decode()))
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


class SecretAgreement:
    """Makes an agent's change of its keys known at once, and tells when all ranks have made the same."""

    def __init__(self, agent: Agent, store: RedisStore, keys: Keyring) -> None:
        self._agent, self._store, self._keys = agent, store, keys
        self._edition = keys.edition
        self._is_reported = True
        self._strangers: frozenset[int] = frozenset()

    async def check_agreement(self) -> None:
        """Look whether the keys have changed, here or elsewhere."""
        self._warn_of_strangers()
        if self._edition != self._keys.edition:
            self._edition = self._keys.edition
            self._is_reported = False
            self._agent.request_exchange()  # my record, signed anew, before anybody waits for it
        elif self._store.unlike:
            self._is_reported = False
        elif not self._is_reported and self._store.unlike is not None and self._has_all_records():
            self._is_reported = True
            _log.info("all ranks of this Unit accept the same secrets now (%d)", len(self._keys))

    def report_status(self) -> dict[str, Any] | None:
        """As ``/status`` has it; None where there is no secret."""
        if not self._keys:
            return None
        unlike = self._store.unlike
        return {
            "accepted": len(self._keys),
            "differing": None if unlike is None else sorted(unlike),
            "strangers": sorted(self._store.foreign),
        }

    def _warn_of_strangers(self) -> None:
        """Say it when a step was made before all ranks had made the one before."""
        strangers, self._strangers = self._strangers, self._store.foreign
        if self._strangers - strangers:
            _log.warning("%s", _explain_strangers(sorted(self._strangers), self._agent.state.rules.rank))

    def _has_all_records(self) -> bool:
        """Whether the store has a record of each rank: of one that has yet to come nobody knows."""
        state = self._agent.state
        return len(state.store.records.keys() | {state.rules.rank}) == state.rules.size


def _explain_strangers(strangers: Sequence[int], mine: int) -> str:
    has = "has" if len(strangers) == 1 else "have"
    return (
        f"{ranks(strangers)} {has} no secret in common with rank {mine}: what runs goes on, but they will "
        "not meet at the next barrier; add the secrets of the others to UNIT_SECRET_FILE, and take the "
        "former one out only when all ranks have both"
    )
