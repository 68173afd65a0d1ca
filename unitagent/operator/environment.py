"""``unitagent env``: what this instance resolved, and which rule gave each value. Starts nothing."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping

from unitagent.settings import Resolved
from unitagent.settings.variables import VARIABLES


def shown(resolved: Resolved, form: str) -> str:
    """The settings as text: shell assignments with the source as a comment, or one JSON object."""
    rows = {name: (text, _source(name, resolved)) for name, text in resolved.texts.items()}
    return _json(rows) if form == "json" else _shell(rows)


def _source(name: str, resolved: Resolved) -> str:
    """Name who gave a value; where nobody did, what is found out later. A platform would have told by now."""
    source, known = resolved.sources[name], VARIABLES[name].known
    later = source == "not set" and known and known != "from the platform"
    return f"{source}; default {known}" if later else source


def _shell(rows: Mapping[str, tuple[str, str]]) -> str:
    lines = [f"{name}={shlex.quote(text)}" for name, (text, _) in rows.items()]
    width = max(map(len, lines), default=0)
    sources = [source for _, source in rows.values()]
    return "\n".join(f"{line:<{width}}  # {source}" for line, source in zip(lines, sources, strict=True))


def _json(rows: Mapping[str, tuple[str, str]]) -> str:
    return json.dumps(
        {name: {"value": text or None, "source": source} for name, (text, source) in rows.items()}, indent=2
    )
