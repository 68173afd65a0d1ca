"""A way through a JSON document that remembers where it is, and never stops at the first mistake.

The invariant: whatever the document holds, a reader gives a value of the type asked for or None; what did not
fit is noted with its path, such as ``containers[0].port``, for one error at the end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

_KINDS = {bool: "true or false", str: "a string", list: "a list", dict: "an object"}


@dataclass(frozen=True, slots=True)
class Reader:
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

    def where(self, key: str) -> str:
        """Give the path of a member."""
        plain = key if key.isprintable() else ascii(key)
        return f"{self.path}.{plain}" if self.path else plain

    def refuse(self, key: str, accepted: str) -> None:
        """Note that a member does not fit."""
        self.problems.append(f"{self.where(key)}={_shown(self.content.get(key))}: accepted is {accepted}")

    def knows(self, *keys: str) -> None:
        """Note all members but these as unknown."""
        self.unknown.extend(self.where(key) for key in self.content if key not in keys)

    def flag(self, key: str) -> bool | None:
        """Read true or false."""
        found: bool | None = self._typed(key, bool)
        return found

    def text(self, key: str) -> str | None:
        """Read a string; an empty one counts as absent."""
        return self._typed(key, str) or None

    def items(self, key: str) -> list[Any]:
        """Read a list, empty when absent."""
        return self._typed(key, list) or []

    def object(self, key: str) -> Reader:
        """Read an object, empty when absent."""
        return self._below(key, self._typed(key, dict) or {})

    def objects(self, key: str) -> list[Reader]:
        """Read a list of objects."""
        found = []
        for index, item in enumerate(self.items(key)):
            if isinstance(item, dict):
                found.append(self._below(f"{key}[{index}]", item))
            else:
                self.problems.append(f"{self.where(key)}[{index}]={_shown(item)}: accepted is an object")
        return found

    def texts(self, key: str) -> tuple[str, ...]:
        """Read a list of strings."""
        items = self.items(key)
        if not all(isinstance(item, str) for item in items):
            self.refuse(key, "a list of strings")
            return ()
        return tuple(items)

    def number(self, key: str, least: float = 0) -> float | None:
        """Read a finite number."""
        value = self.content.get(key)
        if value is None:
            return None
        usable = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LARGEST
        if usable and math.isfinite(value) and value >= least:
            return float(value)
        self.refuse(key, f"a number from {least:g}")
        return None

    def whole(self, key: str, least: int, most: int) -> int | None:
        """Read a whole number in a range."""
        value = self.content.get(key)
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        self.refuse(key, f"a whole number from {least} to {most}")
        return None

    def _below(self, key: str, content: dict[str, Any]) -> Reader:
        return Reader(self.where(key), content, self.problems, self.unknown)

    def _typed(self, key: str, kind: type) -> Any:
        value = self.content.get(key)
        if value is None or isinstance(value, kind):
            return value
        self.refuse(key, _KINDS[kind])
        return None


_LARGEST = 10**9
_LONGEST_SHOWN = 60


def _shown(value: object) -> str:
    """Show enough of a value to find it; numbers of thousands of digits cannot even be printed."""
    if isinstance(value, int) and abs(value) > _LARGEST:
        return "a very large number"
    text = repr(value) if isinstance(value, (str, int, float, bool)) else _KINDS.get(type(value), "null")
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"
