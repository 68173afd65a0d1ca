"""What one rank's collection has found, as far as it has reported: the entry of the index in the store."""

from __future__ import annotations

import json
from typing import Any

from msgspec import Struct

from unitagent.evidence.places import Place, parse_place

_LONGEST_TEXT = 400  # characters


class RankEvidence(Struct, frozen=True, kw_only=True):
    """What one rank has collected.

    Attributes:
        at: seconds since the epoch.
        reason: of the failure, as in the status.
        name: of the collection on its disk; empty if nothing could be written.
        files: their number.
        size: their bytes.
        cause: what the output means; empty if no line is known.
        trouble: what could not be done.
        places: where its processes were.

    """

    generation: int
    rank: int
    incarnation: str = ""
    at: float = 0.0
    reason: str = ""
    name: str = ""
    files: int = 0
    size: int = 0
    cause: str = ""
    trouble: str = ""
    places: tuple[dict[str, Any], ...] = ()

    def list_places(self) -> list[Place]:
        """Return the places that can be read."""
        found = []
        for raw in self.places:
            try:
                found.append(parse_place(raw))
            except (KeyError, TypeError, ValueError, OverflowError):
                continue
        return found


def read_reports(raw: bytes) -> dict[str, Any]:
    """Merge the lines that the collector has reported so far; a later line replaces an earlier one.

    What is not as expected is left out: the collector reads what the workload has written.
    """
    found: dict[str, Any] = {}
    for line in raw.split(b"\n"):
        try:
            facts = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(facts, dict):
            found.update(facts)
    return read_facts(found)


def read_facts(found: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a :class:`RankEvidence` that a collector reports; what is not as expected is left
    out.
    """
    places = found.get("places")
    return {
        "name": str(found.get("name", ""))[:_LONGEST_TEXT],
        "files": _get_count(found, "files"),
        "size": _get_count(found, "bytes"),
        "cause": str(found.get("cause", ""))[:_LONGEST_TEXT],
        "trouble": str(found.get("trouble", ""))[:_LONGEST_TEXT],
        "places": tuple(one for one in places if isinstance(one, dict)) if isinstance(places, list) else (),
    }


def _get_count(found: dict[str, Any], name: str) -> int:
    value = found.get(name, 0)
    return value if isinstance(value, int) else 0
