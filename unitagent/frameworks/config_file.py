"""Flags that stand in a file: ``--config FILE`` of vLLM and SGLang, whose command line wins.

Both read YAML: the long names of flags at its top, with or without underscores. Only the plainest of it is
read here, ``name: value`` on a line of its own. Whatever else stands behind a name (a list, an object, a
number that YAML reads in its own way) is there, but not told.

The invariant: what a line says is never guessed, and a file that may say anything at all is an error.

Sources: vLLM 0.33 ``utils/argparse_utils.py``, SGLang 0.5.23 ``utils/server_args_config_parser.py``: flags of
the file are put before the user's, and only where ``--config`` is a word of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from unitagent.frameworks.command import UNKNOWN, UnreadableError, require_known

OPTION = "--config"
_LINE = re.compile(r"([\w.-]+|'[\w.-]+'|\"[\w.-]+\")[ \t]*:(?:[ \t]+(.*))?")
_IGNORED = re.compile(r"[ \t]*(#.*)?|---([ \t]+#.*)?|\.\.\.")
_COMMENT = re.compile(r"(^|[ \t]+)#.*|[ \t]+$")
_QUOTED = re.compile(r"(?:'([^']*)'|\"([^\"\\]*)\")[ \t]*(?:[ \t]#.*)?")
_PLAIN = re.compile(r"0|[1-9][0-9]*|[0-9]+(?:\.[0-9]+){3}|[A-Za-z/][^#:&*!|>{}\[\],'\"%@`]*")
_YES, _NO = {"true", "yes", "on", "y"}, {"false", "no", "off", "n"}
_MOST = 1 << 20  # characters


def read_config_flags(words: Sequence[str], folder: str | None) -> tuple[str, ...]:
    """Return the flags of the file that ``words`` name, if they do.

    Args:
        words: an engine's own.
        folder: where it runs; None when that is not known.

    Raises:
        UntoldError: the file cannot be read, or not understood.

    """
    at = list(words).index(OPTION) + 1 if OPTION in words else len(words)
    if at == len(words):
        return ()
    name = require_known(OPTION, words[at])
    if folder is None and not name.startswith("/"):
        raise UnreadableError(f"{OPTION} {name}: its folder is not known here; write the whole path")
    return tuple(_parse_flags(f"{OPTION} {name}", _read_text(Path(folder or "/", name), name)))


def _read_text(path: Path, name: str) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_MOST + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "no UTF-8 text"
        raise UnreadableError(f"{OPTION} {name} cannot be read: {why}") from error
    if len(text) > _MOST:
        raise UnreadableError(f"{OPTION} {name} is larger than a file of flags")
    return text


def _parse_flags(name: str, text: str) -> Iterator[str]:
    lines = text.removeprefix("\ufeff").splitlines()
    named = False
    for number, line in enumerate(lines, 1):
        if _IGNORED.fullmatch(line) or (named and _is_continuation(line)):
            continue
        found, named = _LINE.fullmatch(line), True
        if found is None:
            raise UnreadableError(f"{name}, line {number}: only NAME: VALUE can be read here")
        following = next((each for each in lines[number:] if not _IGNORED.fullmatch(each)), "")
        yield from _parse_flag(found[1].strip("'\""), found[2] or "", nested=_is_continuation(following))


def _is_continuation(line: str) -> bool:
    """Whether it is a part of the value of the name above."""
    return line[:1] in {" ", "\t"} or line == "-" or line.startswith("- ")


def _parse_flag(name: str, value: str, *, nested: bool) -> Iterator[str]:
    """Yield a flag as both engines make it: one that is true has no value, one that is false is not there."""
    plain, quoted = _COMMENT.sub("", value), _QUOTED.fullmatch(value)
    if nested:
        yield from (f"--{name}", UNKNOWN)
    elif quoted:
        yield from (f"--{name}", quoted[1] or quoted[2] or "")
    elif plain.lower() in _YES:
        yield f"--{name}"
    elif plain.lower() not in _NO:
        known = _PLAIN.fullmatch(plain) and plain.lower() not in {"null", "none"}
        yield from (f"--{name}", plain if known else UNKNOWN)
