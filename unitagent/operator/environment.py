"""``unitagent env``: what this instance resolved, and which rule gave each value. Starts nothing."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping

from unitagent.settings import Resolved


def shown(resolved: Resolved, form: str) -> str:
    """The settings as text: shell assignments with the source as a comment, or one JSON object."""
    rows = {name: (text, resolved.sources[name]) for name, text in resolved.texts.items()}
    return _json(rows) if form == "json" else _shell(rows)


def _shell(rows: Mapping[str, tuple[str, str]]) -> str:
    lines = [f"{name}={shlex.quote(text)}" for name, (text, _) in rows.items()]
    width = max(map(len, lines), default=0)
    sources = [source for _, source in rows.values()]
    return "\n".join(f"{line:<{width}}  # {source}" for line, source in zip(lines, sources, strict=True))


def _json(rows: Mapping[str, tuple[str, str]]) -> str:
    return json.dumps(
        {name: {"value": text or None, "source": source} for name, (text, source) in rows.items()}, indent=2
    )
