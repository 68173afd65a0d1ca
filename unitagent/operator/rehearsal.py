"""``unitagent env --command``: what a rank would run, as text that a shell reads and as JSON.

The invariant: nothing shown holds a secret; what looks like one is masked, wherever a command line has it.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

_HIDDEN = "***"
_WORDS = r"(?:key|token|secret|password|passwd|pwd|credentials?)"
_SECRET_NAME = re.compile(rf"(?i)(?:.*[-_])?(?:api)?{_WORDS}")
# In a shell's text they may be quoted, stand on the next line, and be several.
_VALUE = r"""(?:"[^"]*"|'[^']*'|[^\s"'])+"""
_GAP = r"""["']?(?:=|(?:\s|\\\n)+)"""
_KEYS = re.compile(rf"(?i)(--api[-_]?key{_GAP}){_VALUE}(?:\s+(?![-&|;<>\\]){_VALUE})*")
_ASSIGNED = re.compile(rf"(?i)((?<![\w-])(?:\w*_)?{_WORDS}=|--(?:[\w-]+[-_])?(?:api)?{_WORDS}{_GAP}){_VALUE}")
_OF_OBJECT = re.compile(rf"""(?i)("(?:[\w-]*[-_])?(?:api)?{_WORDS}"\s*:\s*)"[^"]*\"""")
_HEADER = re.compile(r"""(?i)(authorization:\s*\w+)\s+[^\s"']+""")
_LOGIN = re.compile(r"://[^/\s@]*@")


@dataclass(frozen=True, slots=True)
class Rehearsal:
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


def shown(rehearsal: Rehearsal, form: str) -> str:
    """The rehearsal as ``shell`` or ``json``."""
    return _json(rehearsal) if form == "json" else _shell(rehearsal)


def _json(rehearsal: Rehearsal) -> str:
    said = {
        "rank": rehearsal.rank,
        "command": list(masked_words(rehearsal.argv)),
        "flags": dict(rehearsal.flags),
        "environment": {
            name: {"value": masked_value(name, value), "source": source}
            for name, (value, source) in rehearsal.environment.items()
        },
        "removed": dict(rehearsal.removed),
        "health": dict(zip(("asked", "source"), rehearsal.health, strict=True)) if rehearsal.health else None,
    }
    return json.dumps(said, indent=2)


def _shell(rehearsal: Rehearsal) -> str:
    rows = [
        (f"export {name}={shlex.quote(masked_value(name, value))}", source)
        for name, (value, source) in rehearsal.environment.items()
    ]
    rows += [(f"unset {name}", why) for name, why in rehearsal.removed.items()]
    rows += [(f"# {flag}", why) for flag, why in rehearsal.flags.items()]
    rows += [(f"# health: {rehearsal.health[0]}", rehearsal.health[1])] if rehearsal.health else []
    width = max((len(left) for left, _ in rows), default=0)
    lines = [f"{left:<{width}}  # {why}" for left, why in rows]
    return "\n".join([*lines, shlex.join(masked_words(rehearsal.argv))])


def masked_words(argv: Sequence[str]) -> Iterator[str]:
    """Yield a command line's words; those that follow a flag such as ``--api-key`` are hidden."""
    hiding = False
    for word in argv:
        if word.startswith("-"):
            hiding = _SECRET_NAME.fullmatch(word) is not None
            yield _masked(word)
        else:
            yield _HIDDEN if hiding else _masked(word)


def masked_value(name: str, value: str) -> str:
    """Give a variable's value as it may be shown."""
    return _HIDDEN if _SECRET_NAME.fullmatch(name) else _masked(value)


def _masked(text: str) -> str:
    for pattern in (_KEYS, _ASSIGNED, _OF_OBJECT):
        text = pattern.sub(rf"\1{_HIDDEN}", text)
    return _LOGIN.sub(f"://{_HIDDEN}@", _HEADER.sub(rf"\1 {_HIDDEN}", text))
