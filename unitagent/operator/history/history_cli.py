"""``unitagent events`` and ``unitagent timeline``: read a Unit's history from its store and print it."""

from __future__ import annotations

import argparse
import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

from unitagent.agent.secret_file import SecretFile
from unitagent.core.history import Moment
from unitagent.errors import ConfigurationError, StoreError
from unitagent.keys import Keyring
from unitagent.legible import tell, warn
from unitagent.operator.history import event_text
from unitagent.operator.history.timeline import Timeline, build_timeline
from unitagent.operator.store_locator import locate_store
from unitagent.settings import Settings
from unitagent.store.address import Address, Directions
from unitagent.store.history import History
from unitagent.store.redis import RedisStore

_ASK = 2.0  # seconds for the store's answer
_EVERY = 0.5  # seconds between two reads


class HistoryReader:
    """Reads new events from where it stopped, each event once."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._last = b""
        self._seen: set[tuple[str, int]] = set()
        self.now = 0.0

    async def read_new_events(self) -> list[Moment]:
        """Return all events since the last call, oldest first."""
        found: list[Moment] = []
        while (page := await self._history.read(self._last)).last != self._last:
            self._last = page.last
            found += filter(self._is_new, page.moments)
        self.now = page.now
        return event_text.sort_events(found)

    def _is_new(self, moment: Moment) -> bool:
        """Whether this event is new: an event that a slow store received twice is a duplicate."""
        name = moment.incarnation, moment.number
        new = name not in self._seen
        self._seen.add(name)
        return new


def show_events(settings: Settings, namespace: argparse.Namespace) -> int:
    """Print the history, and with ``--follow`` new events as they happen."""
    form = event_text.format_event_json if namespace.json else event_text.format_event
    asyncio.run(_print_events(settings, namespace.since, form, follow=namespace.follow))
    return 0


async def _print_events(
    settings: Settings, since: float | None, words: Callable[[Moment], str], *, follow: bool
) -> None:
    keys = settings.keys
    file = SecretFile(settings.secret_file, keys, _print_message, _print_message)
    history = History(settings.unit, _make_directions(settings, keys), timeout=_ASK, warn=_print_message)
    reader = HistoryReader(history)
    try:
        moments = await _read_all(settings, reader)
        async with file.watched(settings.heartbeat):
            while True:
                for moment in moments:
                    if since is None or moment.at >= since:
                        tell(words(moment))
                if not follow:
                    return
                moments = await _wait_for_events(reader)
    finally:
        await history.close()


async def _read_all(settings: Settings, reader: HistoryReader) -> list[Moment]:
    moments = await reader.read_new_events()
    if not moments:
        _print_message(f"the store has no history of Unit {settings.unit}")
    return moments


async def _wait_for_events(reader: HistoryReader) -> list[Moment]:
    """Wait for the next events, however long the store is unreachable meanwhile."""
    away = ""
    while True:
        await asyncio.sleep(_EVERY)
        try:
            moments = await reader.read_new_events()
        except StoreError as error:
            if not away:
                _print_message(f"{error}; trying again")
            away = str(error)
        else:
            if away:
                _print_message("the store answers again")
            return moments


def show_timeline(settings: Settings, namespace: argparse.Namespace) -> int:
    """Print the timeline, or write it to a file as an SVG picture."""
    line = asyncio.run(_load_timeline(settings, namespace.since))
    if namespace.svg is None:
        from unitagent.operator.history.timeline import draw_chart  # noqa: PLC0415

        if line.ranks:
            tell(draw_chart(settings.unit, line, shutil.get_terminal_size().columns))
        return 0
    from unitagent.operator.history.svg import draw_svg  # noqa: PLC0415

    try:
        Path(namespace.svg).write_text(draw_svg(settings.unit, line), encoding="utf-8")
    except OSError as error:
        why = f"must be the path of a writable file ({error.strerror})"
        raise ConfigurationError(f"--svg={namespace.svg!r}: {why}") from error
    return 0


async def _load_timeline(settings: Settings, since: float | None) -> Timeline:
    keys = settings.keys
    url = _make_directions(settings, keys)
    history = History(settings.unit, url, timeout=_ASK, warn=_print_message)
    store = RedisStore(settings.unit, url, timeout=_ASK, keys=keys, warn=_print_message)
    try:
        reader = HistoryReader(history)
        moments = await _read_all(settings, reader)
        board = await store.read()
    finally:
        await history.close()
        await store.close()
    silent = {
        rank: reader.now - age
        for rank, age in board.ages.items()
        if age > settings.lease and rank in board.records and not board.records[rank].left
    }
    return build_timeline(moments, silent, reader.now, since)


def _make_directions(settings: Settings, keys: Keyring) -> Directions:
    """Locate the store at each connect: an embedded one moves together with rank 0."""

    def ask() -> str | Address:
        return locate_store(settings, keys)()

    return ask


def _print_message(text: str) -> None:
    warn(text)
