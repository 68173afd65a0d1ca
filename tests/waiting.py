"""Waiting on a condition. Deadlines are generous: they catch a hang, they promise no speed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE = 120.0
_REST = 4  # times as long as a look took: a look is work for the processor that is waited for, too
_LONGEST_REST = 0.5


def until(look: Callable[[], T], why: str, deadline: float = DEADLINE, pause: float = 0.02) -> T:
    """Return the first true answer of ``look``; between two looks most of the time is left to others."""
    end = (began := time.monotonic()) + deadline
    while not (found := look()):
        assert time.monotonic() < end, f"not within {deadline:g} s: {why}"
        time.sleep(max(pause, min(_REST * (time.monotonic() - began), _LONGEST_REST)))
        began = time.monotonic()
    return found


def throughout(look: Callable[[], T], why: str, seconds: float, pause: float = 0.05) -> None:
    """Hold for ``seconds`` that every answer of ``look`` is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert look(), why
        time.sleep(pause)
