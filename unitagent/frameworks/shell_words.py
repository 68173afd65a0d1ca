"""The words of a shell's text with their positions, as far as reading a plain command needs them.

The invariant: anything not certainly understood (a here-document, a truncated text) is an error, and what
only the shell can expand (``$(…)``, most of ``${…}``) is a part of its own kind.

Source: POSIX.1-2024, Shell Command Language, 2.2 (quoting), 2.3 (tokens), 2.6 (expansions).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from unitagent.frameworks.command import UnreadableError

_OPERATOR = re.compile(r"&&|\|\||;;&?|;&|\|&|[;|&()\n]")
_REDIRECTION = re.compile(r"\d*(<<-?|<>|<&|>&|>\||>>|<|>)|&>>?")
_BLANK = re.compile(r"(?:[ \t]|\\\n)+|#[^\n]*")
_NAME = re.compile(r"\$(?:\{([A-Za-z_]\w*|\d+|@)\}|([A-Za-z_]\w*|\d|@))")
_DEFAULT = re.compile(r"\$\{([A-Za-z_]\w*):([-=])([\w./:@,=+-]*)\}")
_PLAIN = re.compile(r"[^ \t\n\\'\"$`;|&()<>]+")
_SINGLE = re.compile(r"'[^']*'")
_BACKTICKS = re.compile(r"`(?:[^\\`]|\\.)*`", re.DOTALL)
_SPECIAL = frozenset("?#*!-")
_IN_QUOTES = re.compile(r"[^\\\"$`]+")


class PartKind(Enum):
    """What a part of a word is."""

    TEXT = auto()
    VARIABLE = auto()
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a word.

    Attributes:
        text: its text; a variable's name; the spelling of what only the shell can expand.
        default: the value if the variable is empty.
        sets: whether the variable is then set to it.

    """

    kind: PartKind
    text: str = ""
    quoted: bool = False
    default: str = ""
    sets: bool = False


@dataclass(frozen=True, slots=True)
class Word:
    """A word, from ``start`` to ``end`` of the text."""

    start: int
    end: int
    parts: tuple[Part, ...]

    @property
    def literal(self) -> str | None:
        """Its text, if it has no quoting or expansion; else None."""
        (first, *more) = self.parts or (Part(PartKind.TEXT),)
        return None if more or first.kind is not PartKind.TEXT or first.quoted else first.text


@dataclass(frozen=True, slots=True)
class Operator:
    """A control operator, newline included; or a redirection, whose word comes next."""

    text: str
    start: int
    redirects: bool = False


Token = Word | Operator


def split_tokens(text: str) -> Iterator[Token]:
    """Yield words and operators.

    Raises:
        UnreadableError: a here-document, a process substitution, or a truncated text.

    """
    at = 0
    while at < len(text):
        if blank := _BLANK.match(text, at):
            at = blank.end()
        elif redirection := _REDIRECTION.match(text, at):
            if "<<" in redirection[0] or text.startswith("(", redirection.end()):
                raise UnreadableError("a here-document or a process substitution")
            yield Operator(redirection[0], at, redirects=True)
            at = redirection.end()
        elif operator := _OPERATOR.match(text, at):
            yield Operator(operator[0], at)
            at = operator.end()
        else:
            parts, end = _read_word(text, at)
            yield Word(at, end, tuple(parts))
            at = end


def _read_word(text: str, at: int) -> tuple[list[Part], int]:
    parts: list[Part] = []
    while at < len(text):
        if plain := _PLAIN.match(text, at):
            parts.append(Part(PartKind.TEXT, plain[0]))
            at = plain.end()
        elif text[at] == "'":
            end = _skip_single_quotes(text, at)
            parts.append(Part(PartKind.TEXT, text[at + 1 : end - 1], quoted=True))
            at = end
        elif text[at] == '"':
            inner, at = _read_quoted(text, at + 1)
            parts += inner
        elif text[at] == "\\":
            escaped = text[at + 1 : at + 2]
            parts += [Part(PartKind.TEXT, escaped, quoted=True)] if escaped != "\n" else []
            at += 2
        elif text[at] in "$`":
            part, at = _read_expansion(text, at, quoted=False)
            parts.append(part)
        else:
            break
    return parts, at


def _read_quoted(text: str, at: int) -> tuple[list[Part], int]:
    """Read up to the closing double quote; an empty pair is a part too."""
    parts = [Part(PartKind.TEXT, "", quoted=True)]
    while at < len(text) and text[at] != '"':
        if plain := _IN_QUOTES.match(text, at):
            parts.append(Part(PartKind.TEXT, plain[0], quoted=True))
            at = plain.end()
        elif text[at] == "\\":
            escaped = text[at + 1 : at + 2]
            unescaped = {"\n": ""}.get(escaped, escaped if escaped in '$`"\\' else f"\\{escaped}")
            parts.append(Part(PartKind.TEXT, unescaped, quoted=True))
            at += 2
        else:
            part, at = _read_expansion(text, at, quoted=True)
            parts.append(part)
    if at >= len(text):
        raise UnreadableError("a quotation is not closed")
    return parts, at + 1


def _read_expansion(text: str, at: int, *, quoted: bool) -> tuple[Part, int]:
    if default := _DEFAULT.match(text, at):
        return Part(PartKind.VARIABLE, default[1], quoted, default[3], default[2] == "="), default.end()
    if name := _NAME.match(text, at):
        return Part(PartKind.VARIABLE, name[1] or name[2], quoted), name.end()
    end = _find_unknown_end(text, at, quoted=quoted)
    if end is None:
        return Part(PartKind.TEXT, "$", quoted), at + 1
    return Part(PartKind.UNKNOWN, text[at:end], quoted), end


def _find_unknown_end(text: str, at: int, *, quoted: bool) -> int | None:
    following = text[at + 1 : at + 2]
    if text[at] == "`":
        return _match_end(_BACKTICKS, text, at)
    if following in {"(", "{"}:
        return _find_closing(text, at + 2, ")" if following == "(" else "}")
    if following == "'" and not quoted:
        return _skip_single_quotes(text, at + 1)
    if following == '"' and not quoted:
        return at + 1
    return at + 2 if following in _SPECIAL else None


def _find_closing(text: str, at: int, end: str) -> int:
    """Return the end of an expansion."""
    while at < len(text) and text[at] != end:
        if text[at] == "'":
            at = _skip_single_quotes(text, at)
        elif text[at] == '"':
            at = _read_quoted(text, at + 1)[1]
        elif text[at] in "$`":
            at = _read_expansion(text, at, quoted=False)[1]
        elif text[at] == "(":
            at = _find_closing(text, at + 1, ")")
        else:
            at += 2 if text[at] == "\\" else 1
    if at >= len(text):
        raise UnreadableError("an expansion is not closed")
    return at + 1


def _skip_single_quotes(text: str, at: int) -> int:
    """Return the end of single quotes, in which nothing is special."""
    return _match_end(_SINGLE, text, at)


def _match_end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    if match is None:
        raise UnreadableError("a quotation is not closed")
    return match.end()
