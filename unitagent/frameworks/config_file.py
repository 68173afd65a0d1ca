"""Flags in a file: ``--config FILE`` of vLLM and SGLang; the command line overrides it.

Both read YAML with the long names of flags at the top level, with or without underscores. Only its plainest
form is read here: ``name: value`` on one line. Any other value (a list, an object, a number in YAML's own
notation) counts as set, but unknown.

The invariant: values are never guessed, and a file with unreadable lines is an error.

Sources: vLLM 0.33 ``utils/argparse_utils.py``, SGLang 0.5.23 ``utils/server_args_config_parser.py``: flags of
the file come before the user's, and only if ``--config`` is a separate argument.
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
_MAX_FILE = 1 << 20  # characters


def read_config_flags(words: Sequence[str], folder: str | None) -> tuple[str, ...]:
    """Return the flags of the file that ``words`` name, if any.

    Args:
        words: an engine's own arguments.
        folder: where it runs; None if unknown.

    Raises:
        UnreadableError: the file cannot be read or understood.

    """
    at = list(words).index(OPTION) + 1 if OPTION in words else len(words)
    if at == len(words):
        return ()
    name = require_known(OPTION, words[at])
    if folder is None and not name.startswith("/"):
        raise UnreadableError(f"{OPTION} {name}: its directory is unknown here; use an absolute path")
    return tuple(_parse_flags(f"{OPTION} {name}", _read_text(Path(folder or "/", name), name)))


def _read_text(path: Path, name: str) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_MAX_FILE + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UnreadableError(f"{OPTION} {name} cannot be read: {why}") from error
    if len(text) > _MAX_FILE:
        raise UnreadableError(f"{OPTION} {name} is too large for a file of flags")
    return text


def _parse_flags(name: str, text: str) -> Iterator[str]:
    lines = text.removeprefix("\ufeff").splitlines()
    named = False
    for number, line in enumerate(lines, 1):
        if _IGNORED.fullmatch(line) or (named and _is_continuation(line)):
            continue
        match, named = _LINE.fullmatch(line), True
        if match is None:
            raise UnreadableError(f"{name}, line {number}: only NAME: VALUE can be read here")
        following = next((each for each in lines[number:] if not _IGNORED.fullmatch(each)), "")
        yield from _parse_flag(match[1].strip("'\""), match[2] or "", nested=_is_continuation(following))


def _is_continuation(line: str) -> bool:
    """Whether it continues the value of the name above."""
    return line[:1] in {" ", "\t"} or line == "-" or line.startswith("- ")


def _parse_flag(name: str, value: str, *, nested: bool) -> Iterator[str]:
    """Yield a flag as both engines do: a true one has no value, a false one is absent."""
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
