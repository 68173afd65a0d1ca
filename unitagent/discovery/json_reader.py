"""Read a JSON document, remember the path of each member, and collect all problems instead of stopping at
the first.

The invariant: whatever the document contains, a reader returns a value of the requested type or None; each
misfit is noted with its path, such as ``containers[0].port``, for one error at the end.
"""

from __future__ import annotations

import math
from typing import Any

from msgspec import Struct, field

_KINDS = {bool: "true or false", str: "a string", list: "a list", dict: "an object"}


class JsonReader(Struct, frozen=True):
    """An object of the document.

    Attributes:
        path: where it stands, empty for the whole document.
        content: its members.
        problems: shared by all readers of one document, as are ``unknown``.
        unknown: paths of members that nobody knows.

    """

    path: str
    content: dict[str, Any]
    problems: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def format_path(self, key: str) -> str:
        """Return the path of a member."""
        plain = key if key.isprintable() else ascii(key)
        return f"{self.path}.{plain}" if self.path else plain

    def add_problem(self, key: str, accepted: str) -> None:
        """Note that a member does not fit."""
        self.problems.append(
            f"{self.format_path(key)}={_show_value(self.content.get(key))}: must be {accepted}"
        )

    def record_unknown_keys(self, *keys: str) -> None:
        """Note all members but these as unknown."""
        self.unknown.extend(self.format_path(key) for key in self.content if key not in keys)

    def read_flag(self, key: str) -> bool | None:
        """Read true or false."""
        flag: bool | None = self._read_typed(key, bool)
        return flag

    def read_text(self, key: str) -> str | None:
        """Read a string; an empty one counts as absent."""
        return self._read_typed(key, str) or None

    def read_items(self, key: str) -> list[Any]:
        """Read a list, empty when absent."""
        return self._read_typed(key, list) or []

    def read_object(self, key: str) -> JsonReader:
        """Read an object, empty when absent."""
        return self._read_below(key, self._read_typed(key, dict) or {})

    def read_objects(self, key: str) -> list[JsonReader]:
        """Read a list of objects."""
        objects = []
        for index, item in enumerate(self.read_items(key)):
            if isinstance(item, dict):
                objects.append(self._read_below(f"{key}[{index}]", item))
            else:
                self.problems.append(
                    f"{self.format_path(key)}[{index}]={_show_value(item)}: must be an object"
                )
        return objects

    def read_texts(self, key: str) -> tuple[str, ...]:
        """Read a list of strings."""
        items = self.read_items(key)
        if not all(isinstance(item, str) for item in items):
            self.add_problem(key, "a list of strings")
            return ()
        return tuple(items)

    def read_number(self, key: str, least: float = 0) -> float | None:
        """Read a finite number."""
        value = self.content.get(key)
        if value is None:
            return None
        usable = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LARGEST
        if usable and math.isfinite(value) and value >= least:
            return float(value)
        self.add_problem(key, f"a number from {least:g}")
        return None

    def read_integer(self, key: str, least: int, most: int) -> int | None:
        """Read a whole number in a range."""
        value = self.content.get(key)
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        self.add_problem(key, f"an integer from {least} to {most}")
        return None

    def _read_below(self, key: str, content: dict[str, Any]) -> JsonReader:
        return JsonReader(self.format_path(key), content, self.problems, self.unknown)

    def _read_typed(self, key: str, kind: type) -> Any:
        value = self.content.get(key)
        if value is None or isinstance(value, kind):
            return value
        self.add_problem(key, _KINDS[kind])
        return None


_LARGEST = 10**9
_LONGEST_SHOWN = 60


def _show_value(value: object) -> str:
    """Show enough of a value to find it; numbers of thousands of digits cannot even be printed."""
    if isinstance(value, int) and abs(value) > _LARGEST:
        return "a very large number"
    text = repr(value) if isinstance(value, (str, int, float, bool)) else _KINDS.get(type(value), "null")
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"
