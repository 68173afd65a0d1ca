"""Values of options that belong to no variable: from the words of the command line.

Each function raises ``argparse.ArgumentTypeError`` with what is accepted.
"""

from __future__ import annotations

import argparse
import time

from unitagent.setting_parsers import make_seconds_parser
from unitagent.system.limits import MAX_SECONDS

_SHORTEST_TIMEOUT = 0.001  # seconds; 0 would mean not to wait at all
_SHORTEST_PAUSE = 1.0  # seconds
_MAX_GENERATION = 10**16


def parse_timeout(text: str) -> float:
    """Parse seconds to wait."""
    try:
        return make_seconds_parser(_SHORTEST_TIMEOUT)(text)
    except ValueError as error:
        accepted = f"a number of seconds from {_SHORTEST_TIMEOUT:g} to {MAX_SECONDS:.0f}"
        raise argparse.ArgumentTypeError(f"{text!r}: must be {accepted}") from error


def parse_since(text: str) -> float:
    """Parse a moment, or how long ago it was; return seconds since the epoch."""
    from unitagent.operator.history import event_text  # noqa: PLC0415 (rarely needed)

    try:
        return event_text.parse_since(text, time.time())
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: must be {event_text.ACCEPTED}") from error


def parse_generation(text: str) -> int:
    """Parse the number of a generation."""
    if not (text.isascii() and text.isdigit() and 0 < int(text[:17]) < _MAX_GENERATION):
        raise argparse.ArgumentTypeError(f"{text!r}: must be the number of a generation, such as 3")
    return int(text)


def parse_pause(text: str) -> float:
    """Parse how long a pause of restarts lasts; return seconds."""
    from unitagent.core.restart_pause import LONGEST_PAUSE  # noqa: PLC0415 (rarely needed)
    from unitagent.operator.history.event_text import parse_duration  # noqa: PLC0415

    try:
        seconds = parse_duration(text)
    except ValueError:
        seconds = 0.0
    if not _SHORTEST_PAUSE <= seconds <= LONGEST_PAUSE:
        accepted = "a duration from 1s to 1d, such as 30s, 10m, 2h or plain seconds"
        raise argparse.ArgumentTypeError(f"{text!r}: must be {accepted}")
    return seconds
