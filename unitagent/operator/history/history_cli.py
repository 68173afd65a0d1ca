"""``unitagent events`` and ``unitagent timeline``: read a Unit's history from its store and print it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from unitagent.agent.secret_rotation import SecretFile
from unitagent.core.history import HistoryEvent
from unitagent.errors import ConfigurationError, StoreError
from unitagent.operator.agent_client import fetch_events
from unitagent.operator.history import event_text
from unitagent.operator.history.timeline import Timeline, build_timeline
from unitagent.operator.store_locator import ask_agent_instead, find_store_url
from unitagent.operator.terminal import detect_style
from unitagent.settings import Settings
from unitagent.store.address import LocationSource, StoreLocation
from unitagent.store.history import UnitHistory
from unitagent.store.redis_store import RedisStore
from unitagent.system.keyring import Keyring
from unitagent.system.safe_output import print_verbatim, print_warning
from unitagent.system.threads import run_in_daemon_thread

_ANSWER_TIMEOUT = 2.0  # seconds for the store's answer
_EVERY = 0.5  # seconds between two reads
_AGENTS_AT_ONCE = 32


class HistoryReader:
    """Reads new events from where it stopped, each event once."""

    def __init__(self, history: UnitHistory) -> None:
        self._history = history
        self._last = b""
        self._seen: set[tuple[str, int]] = set()
        self.now = 0.0

    async def read_new_events(self) -> list[HistoryEvent]:
        """Return all events since the last call, oldest first."""
        events: list[HistoryEvent] = []
        while (page := await self._history.read(self._last)).last != self._last:
            self._last = page.last
            events += page.events
        self.now = page.now
        return self.select_new_events(events)

    def select_new_events(self, events: Iterable[HistoryEvent]) -> list[HistoryEvent]:
        """Return those of these events that have not come before, oldest first."""
        return event_text.sort_events(filter(self._is_new, events))

    def _is_new(self, event: HistoryEvent) -> bool:
        """Whether this event is new: an event that a slow store received twice is a duplicate."""
        name = event.incarnation, event.number
        new = name not in self._seen
        self._seen.add(name)
        return new


def show_events(settings: Settings, namespace: argparse.Namespace) -> int:
    """Print the history, and with ``--follow`` new events as they happen."""
    style = detect_style()
    form = event_text.format_event_json if namespace.json else partial(event_text.format_event, style=style)
    asyncio.run(_print_events(settings, namespace.since, form, follow=namespace.follow))
    return 0


async def _print_events(
    settings: Settings, since: float | None, words: Callable[[HistoryEvent], str], *, follow: bool
) -> None:
    keys = settings.keys
    file = SecretFile(settings.secret_file, keys, _print_message, _print_message)
    history = UnitHistory(
        settings.unit, _make_directions(settings, keys), timeout=_ANSWER_TIMEOUT, warn=_print_message
    )
    reader = HistoryReader(history)
    try:
        events = await _read_all(settings, keys, reader)
        async with file.watch_in_background(settings.heartbeat):
            while True:
                for event in events:
                    if since is None or event.at >= since:
                        print_verbatim(words(event) + "\n")
                if not follow:
                    return
                events = await _wait_for_events(reader)
    finally:
        await history.close()


async def _read_all(settings: Settings, keys: Keyring, reader: HistoryReader) -> list[HistoryEvent]:
    """Return the whole history; while the store is away, what the agents know of it.

    Raises:
        StoreError: neither the store nor an agent knows anything.

    """
    try:
        events = await reader.read_new_events()
    except StoreError as error:
        reader.now = time.time()
        return reader.select_new_events(await _ask_agents(settings, keys, error))
    if not events:
        _print_message(
            f"the store has no history of Unit {settings.unit}; `unitagent list` shows all Units that it has"
        )
    return events


async def _ask_agents(settings: Settings, keys: Keyring, error: StoreError) -> list[HistoryEvent]:
    seen = await asyncio.to_thread(ask_agent_instead, settings, keys, error)
    there = {(one["ip"], one["port"]) for one in seen["instances"] if one.get("port")}
    turns = asyncio.Semaphore(_AGENTS_AT_ONCE)

    async def ask(host: str, port: int) -> list[dict[str, Any]]:
        async with turns:
            return await run_in_daemon_thread(partial(fetch_events, settings.unit, host, port, keys))

    answers = await asyncio.gather(*(ask(*one) for one in {*there, (settings.http_host, settings.http_port)}))
    events = [event for answer in answers for event in _decode_events(answer)]
    if not events:
        raise StoreError(
            str(error),
            "no agent that answers keeps a copy of the history; `unitagent status`, `logs` and `evidence` "
            "ask the agents themselves",
        )
    return events


def _decode_events(listed: Iterable[dict[str, Any]]) -> Iterator[HistoryEvent]:
    """Decode events; those that this version does not know are left out."""
    for one in listed:
        with contextlib.suppress(msgspec.ValidationError):
            yield msgspec.convert(one, HistoryEvent)


async def _wait_for_events(reader: HistoryReader) -> list[HistoryEvent]:
    """Wait for the next events, however long the store is unreachable meanwhile."""
    away = ""
    while True:
        await asyncio.sleep(_EVERY)
        try:
            events = await reader.read_new_events()
        except StoreError as error:
            if not away:
                _print_message(f"{error}; trying again")
            away = str(error)
        else:
            if away:
                _print_message("the store answers again")
            return events


def show_timeline(settings: Settings, namespace: argparse.Namespace) -> int:
    """Print the timeline, or write it to a file as an SVG picture."""
    line = asyncio.run(_load_timeline(settings, namespace.since))
    if namespace.svg is None:
        from unitagent.operator.history.timeline import draw_chart  # noqa: PLC0415

        if line.ranks:
            width = shutil.get_terminal_size().columns
            print_verbatim(draw_chart(settings.unit, line, width, detect_style()) + "\n")
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
    history = UnitHistory(settings.unit, url, timeout=_ANSWER_TIMEOUT, warn=_print_message)
    store = RedisStore(settings.unit, url, timeout=_ANSWER_TIMEOUT, keys=keys, warn=_print_message)
    try:
        reader = HistoryReader(history)
        events = await _read_all(settings, keys, reader)
        silent = await _find_silent_ranks(settings, store, reader.now)
    finally:
        await history.close()
        await store.close()
    return build_timeline(events, silent, reader.now, since)


async def _find_silent_ranks(settings: Settings, store: RedisStore, now: float) -> dict[int, float]:
    """Return since when ranks are silent; none are known to be while the store is away."""
    try:
        snapshot = await store.read()
    except StoreError:
        return {}
    return {
        rank: now - snapshot.ages[rank]
        for rank, record in snapshot.records.items()
        if not record.has_left and snapshot.ages.get(rank, 0.0) > (record.lease or settings.lease)
    }


def _make_directions(settings: Settings, keys: Keyring) -> LocationSource:
    """Locate the store at each connect: an embedded one moves together with rank 0."""

    def ask() -> str | StoreLocation:
        return find_store_url(settings, keys)()

    return ask


def _print_message(text: str) -> None:
    print_warning(text)
