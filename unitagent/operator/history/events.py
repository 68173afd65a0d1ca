"""``unitagent events``: a Unit's history, one line for each moment."""

from __future__ import annotations

import json
from collections.abc import Iterable

from unitagent.core.history import EventKind, HistoryEvent
from unitagent.operator.history.event_text import format_time
from unitagent.system import safe_output

_WIDEST = max(map(len, EventKind))


def format_event(moment: HistoryEvent) -> str:
    """For a person: when, in which generation, who, and a sentence."""
    place = f"gen {moment.generation:<3} rank {moment.rank:<3}"
    return f"{format_time(moment.at)}  {place} {moment.kind:<{_WIDEST}}  {safe_output.escape_line(moment.detail)}"


def format_event_json(moment: HistoryEvent) -> str:
    """For a program: an object whose keys are always the same."""
    keys = {
        "at": round(moment.at, 3),
        "generation": moment.generation,
        "rank": moment.rank,
        "incarnation": moment.incarnation,
        "kind": moment.kind.value,
        "state": moment.state.value if moment.state else None,
        "detail": moment.detail,
    }
    return json.dumps(keys)


def sort_events(moments: Iterable[HistoryEvent]) -> list[HistoryEvent]:
    """Oldest first; of one instant the failure before what it caused."""
    return sorted(moments, key=lambda moment: (moment.at, moment.kind is not EventKind.FAILURE))
