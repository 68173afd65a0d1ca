"""Write mappings, lists and scalars as readable YAML, without a library.

The invariant: every YAML parser, 1.1 or 1.2, reads back exactly what went in; ambiguous scalars are quoted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*(:[A-Za-z0-9_./-]+)*")
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})  # no strings in YAML 1.1


def format_documents(contents: list[object], comment: str) -> str:
    """Format a file: the comment, then each document."""
    head = "".join(f"# {line}".rstrip() + "\n" for line in comment.splitlines())
    return head + "---\n".join("\n".join(_format_lines(content, "")) + "\n" for content in contents)


def _format_lines(content: object, indent: str) -> Iterator[str]:
    if isinstance(content, dict) and content:
        for key, value in content.items():
            yield from _format_entry(f"{indent}{_format_scalar(key)}:", value, indent)
    elif isinstance(content, list) and content:
        for item in content:
            first, *rest = _format_lines(item, indent + "  ")
            yield f"{indent}- {first.lstrip()}"
            yield from rest
    else:
        yield indent + _format_scalar(content)


def _format_entry(head: str, value: object, indent: str) -> Iterator[str]:
    if isinstance(value, dict | list) and value:
        yield head
        yield from _format_lines(value, indent + "  ")
    else:
        yield f"{head} {_format_scalar(value)}"


def _format_scalar(content: object) -> str:
    if isinstance(content, bool):
        return str(content).lower()
    if isinstance(content, int):
        return str(content)
    if isinstance(content, str):
        plain = _PLAIN.fullmatch(content) and content.lower() not in _WORDS
        return content if plain else _quote_text(content)
    if content in ({}, []):
        return str(content)
    raise TypeError(f"no YAML for {type(content).__name__}")


def _quote_text(text: str) -> str:
    return '"' + "".join(map(_escape_character, text)) + '"'


def _escape_character(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char == "\n":
        return "\\n"
    return char if char.isascii() and char.isprintable() else f"\\U{ord(char):08x}"
