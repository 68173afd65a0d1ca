"""``unitagent env --command``: what a rank would run, as text that a shell reads and as JSON.

The invariant: nothing shown holds a secret; what looks like one is masked, wherever a command line has it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unitagent.system import redaction


@dataclass(frozen=True, slots=True)
class DryRun:
    """One rank's start.

    Attributes:
        argv: the command line.
        flags: flag, or program before the user's own, that was added to it -> why.
        environment: variable that is added or changed -> its value, and who gave it.
        removed: variable that the workload does not get -> why.
        health: what rank 0's workload is asked, and who said so; None where there is nothing to ask.

    """

    rank: int
    argv: Sequence[str]
    flags: Mapping[str, str]
    environment: Mapping[str, tuple[str, str]]
    removed: Mapping[str, str]
    health: tuple[str, str] | None = None


def format_dry_run(rehearsal: DryRun, form: str) -> str:
    """The rehearsal as ``shell`` or ``json``."""
    return _format_json(rehearsal) if form == "json" else _format_shell(rehearsal)


def _format_json(rehearsal: DryRun) -> str:
    said = {
        "rank": rehearsal.rank,
        "command": list(redaction.redact_words(rehearsal.argv)),
        "flags": dict(rehearsal.flags),
        "environment": {
            name: {"value": redaction.redact_value(name, value), "source": source}
            for name, (value, source) in rehearsal.environment.items()
        },
        "removed": dict(rehearsal.removed),
        "health": dict(zip(("asked", "source"), rehearsal.health, strict=True)) if rehearsal.health else None,
    }
    return json.dumps(said, indent=2)


def _format_shell(rehearsal: DryRun) -> str:
    rows = [
        (f"export {name}={shlex.quote(redaction.redact_value(name, value))}", source)
        for name, (value, source) in rehearsal.environment.items()
    ]
    rows += [(f"unset {name}", why) for name, why in rehearsal.removed.items()]
    rows += [(f"# {flag}", why) for flag, why in rehearsal.flags.items()]
    rows += [(f"# health: {rehearsal.health[0]}", rehearsal.health[1])] if rehearsal.health else []
    width = max((len(left) for left, _ in rows), default=0)
    lines = [f"{left:<{width}}  # {why}" for left, why in rows]
    return "\n".join([*lines, shlex.join(redaction.redact_words(rehearsal.argv))])
