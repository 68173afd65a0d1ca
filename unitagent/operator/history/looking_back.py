"""``unitagent events`` and ``unitagent timeline``: read a Unit's history from its store, and tell it."""

from __future__ import annotations

import argparse
import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

from unitagent.agent.secret_rotation import SecretFile
from unitagent.core.history import Moment
from unitagent.errors import ConfigurationError, StoreError
from unitagent.keys import Keyring
from unitagent.legible import tell, warn
from unitagent.operator.history import events
from unitagent.operator.history.spans import Timeline, timeline
from unitagent.operator.watching import store_url
from unitagent.settings import Settings
from unitagent.store.address import Address, Directions
from unitagent.store.history import History
from unitagent.store.redis import RedisStore

_ASK = 2.0  # seconds for the store's answer
_EVERY = 0.5  # seconds between two looks


class Reader:
    """Reads on from where it was; each moment once."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._last = b""
        self._seen: set[tuple[str, int]] = set()
        self.now = 0.0

    async def news(self) -> list[Moment]:
        """All moments since the last time, oldest first."""
        found: list[Moment] = []
        while (page := await self._history.read(self._last)).last != self._last:
            self._last = page.last
            found += filter(self._is_new, page.moments)
        self.now = page.now
        return events.ordered(found)

    def _is_new(self, moment: Moment) -> bool:
        """Whether this is no repetition: what a store was slow to take may have been told twice."""
        name = moment.incarnation, moment.number
        new = name not in self._seen
        self._seen.add(name)
        return new


def show(settings: Settings, namespace: argparse.Namespace) -> int:
    """Print the history, and with ``--follow`` what goes on happening."""
    asyncio.run(_show(settings, namespace.since, events.as_json if namespace.json else events.line,
                      follow=namespace.follow))  # fmt: skip
    return 0


async def _show(
    settings: Settings, since: float | None, words: Callable[[Moment], str], *, follow: bool
) -> None:
    keys = settings.keys
    file = SecretFile(settings.secret_file, keys, _say, _say)
    history = History(settings.unit, _url(settings, keys), timeout=_ASK, warn=_say)
    reader = Reader(history)
    try:
        moments = await _all(settings, reader)
        async with file.watch_in_background(settings.heartbeat):
            while True:
                for moment in moments:
                    if since is None or moment.at >= since:
                        tell(words(moment))
                if not follow:
                    return
                moments = await _following(reader)
    finally:
        await history.close()


async def _all(settings: Settings, reader: Reader) -> list[Moment]:
    moments = await reader.news()
    if not moments:
        _say(f"the store has no history of Unit {settings.unit}")
    return moments


async def _following(reader: Reader) -> list[Moment]:
    """What happens next, however long the store is away meanwhile."""
    away = ""
    while True:
        await asyncio.sleep(_EVERY)
        try:
            moments = await reader.news()
        except StoreError as error:
            if not away:
                _say(f"{error}; trying again")
            away = str(error)
        else:
            if away:
                _say("the store answers again")
            return moments


def draw(settings: Settings, namespace: argparse.Namespace) -> int:
    """Print the timeline, or write it to a file as a picture."""
    line = asyncio.run(_timeline(settings, namespace.since))
    if namespace.svg is None:
        from unitagent.operator.history.chart import chart  # noqa: PLC0415

        if line.ranks:
            tell(chart(settings.unit, line, shutil.get_terminal_size().columns))
        return 0
    from unitagent.operator.history.picture import picture  # noqa: PLC0415

    try:
        Path(namespace.svg).write_text(picture(settings.unit, line), encoding="utf-8")
    except OSError as error:
        why = f"accepted is the path of a file to write ({error.strerror})"
        raise ConfigurationError(f"--svg={namespace.svg!r}: {why}") from error
    return 0


async def _timeline(settings: Settings, since: float | None) -> Timeline:
    keys = settings.keys
    url = _url(settings, keys)
    history = History(settings.unit, url, timeout=_ASK, warn=_say)
    store = RedisStore(settings.unit, url, timeout=_ASK, keys=keys, warn=_say)
    try:
        reader = Reader(history)
        moments = await _all(settings, reader)
        board = await store.read()
    finally:
        await history.close()
        await store.close()
    silent = {
        rank: reader.now - age
        for rank, age in board.ages.items()
        if age > settings.lease and rank in board.records and not board.records[rank].left
    }
    return timeline(moments, silent, reader.now, since)


def _url(settings: Settings, keys: Keyring) -> Directions:
    """Where the store is, asked at each connect: an embedded one goes where rank 0 goes."""

    def ask() -> str | Address:
        return store_url(settings, keys)()

    return ask


def _say(text: str) -> None:
    warn(text)
