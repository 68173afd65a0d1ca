"""From when on: so long ago, or a point in time.

The invariant: any text gives a time or a ``ValueError``.
"""

from __future__ import annotations

from datetime import datetime

from unitagent.setting_parsers import make_seconds_parser

ACCEPTED = "a duration such as 30s, 10m, 2h, 1d or plain seconds, or a time such as 2026-01-31T09:30"
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_since(text: str, now: float) -> float:
    """Give the seconds since the epoch; ``now`` in the same. A time without a zone is a local one."""
    unit = _UNITS.get(text[-1:].lower())
    try:
        ago = make_seconds_parser()(text[:-1]) * unit if unit else make_seconds_parser()(text)
    except ValueError:
        return _parse_time(text)
    return now - ago


def _parse_time(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (OverflowError, OSError) as error:  # a year that this machine's clock cannot have
        raise ValueError(str(error)) from error


def format_time(at: float) -> str:
    """Give a time as ISO 8601 in the local zone, to the millisecond."""
    return datetime.fromtimestamp(at).astimezone().isoformat(timespec="milliseconds")
