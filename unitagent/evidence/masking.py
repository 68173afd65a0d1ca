"""Masks secrets in all text that is kept: what looks like one, and what processes were given as one.

A workload prints its token without a name in front, so the values of variables whose names promise a secret
are masked wherever they stand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitagent.system import redaction

if TYPE_CHECKING:
    from collections.abc import Iterable

_SHORTEST = 8  # characters; what is shorter would mask words that mean nothing


class Mask:
    """Masks text; it learns values from environments."""

    def __init__(self) -> None:
        self._values: set[str] = set()

    def learn_environment(self, environ: Iterable[str]) -> None:
        """Learn the values of secret variables from ``NAME=value`` entries."""
        for entry in environ:
            name, _, text = entry.partition("=")
            if len(text) >= _SHORTEST and not text.startswith("/") and redaction.names_secret(name):
                self._values.add(text)

    def mask_text(self, text: str) -> str:
        """Return the text without secrets."""
        for value in sorted(self._values, key=len, reverse=True):
            text = text.replace(value, redaction.HIDDEN)
        return "\n".join(map(redaction.redact_text, text.split("\n")))
