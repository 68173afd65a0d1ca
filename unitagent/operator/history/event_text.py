"""Events and times as text, and the times that ``--since`` accepts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime

from unitagent.core.history import EventKind, HistoryEvent, describe_event
from unitagent.setting_parsers import make_seconds_parser
from unitagent.system import safe_output

ACCEPTED = "a duration such as 30s, 10m, 2h, 1d or plain seconds, or a time such as 2026-01-31T09:30"
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_WIDEST = max(map(len, EventKind))


def parse_since(text: str, now: float) -> float:
    """Return seconds since the epoch, like ``now``. A time without a zone is local.

    Raises:
        ValueError: the text is neither a duration nor a time.

    """
    try:
        return now - parse_duration(text)
    except ValueError:
        return _parse_time(text)


def parse_duration(text: str) -> float:
    """Return the seconds of a duration such as ``10m``.

    Raises:
        ValueError: the text is none.

    """
    unit = _UNITS.get(text[-1:].lower())
    return make_seconds_parser()(text[:-1]) * unit if unit else make_seconds_parser()(text)


def _parse_time(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (OverflowError, OSError) as error:  # a year that this platform cannot represent
        raise ValueError(str(error)) from error


def format_time(at: float) -> str:
    """Format a time as ISO 8601 in the local zone, to the millisecond."""
    return datetime.fromtimestamp(at).astimezone().isoformat(timespec="milliseconds")


def format_event(event: HistoryEvent) -> str:
    """Format an event for people: time, generation, rank, kind and a sentence."""
    place = f"gen {event.generation:<3} rank {event.rank:<3}"
    detail = safe_output.escape_line(event.detail)
    return f"{format_time(event.at)}  {place} {event.kind:<{_WIDEST}}  {detail}"


def format_event_json(event: HistoryEvent) -> str:
    """Format an event for programs: a JSON object with fixed keys."""
    return json.dumps(describe_event(event))


def sort_events(events: Iterable[HistoryEvent]) -> list[HistoryEvent]:
    """Sort events by time; at equal times a failure comes before its consequences."""
    return sorted(events, key=lambda event: (event.at, event.kind is not EventKind.FAILURE))
