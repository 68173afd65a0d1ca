"""``unitagent events`` and ``unitagent timeline``: read a Unit's history from its store, and tell it."""

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
_EVERY = 0.5  # seconds between two looks


class HistoryReader:
    """Reads on from where it was; each moment once."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._last = b""
        self._seen: set[tuple[str, int]] = set()
        self.now = 0.0

    async def read_new_events(self) -> list[Moment]:
        """All moments since the last time, oldest first."""
        found: list[Moment] = []
        while (page := await self._history.read(self._last)).last != self._last:
            self._last = page.last
            found += filter(self._is_new, page.moments)
        self.now = page.now
        return event_text.sort_events(found)

    def _is_new(self, moment: Moment) -> bool:
        """Whether this is no repetition: what a store was slow to take may have been told twice."""
        name = moment.incarnation, moment.number
        new = name not in self._seen
        self._seen.add(name)
        return new


def show_events(settings: Settings, namespace: argparse.Namespace) -> int:
    """Print the history, and with ``--follow`` what goes on happening."""
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
    """What happens next, however long the store is away meanwhile."""
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
    """Print the timeline, or write it to a file as a picture."""
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
        why = f"accepted is the path of a file to write ({error.strerror})"
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
    """Where the store is, asked at each connect: an embedded one goes where rank 0 goes."""

    def ask() -> str | Address:
        return locate_store(settings, keys)()

    return ask


def _print_message(text: str) -> None:
    warn(text)
