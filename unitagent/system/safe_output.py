r"""Text on its way to a terminal or a log: the one place where it is made harmless.

The invariant: text of foreign origin (a record in the store, an answer, a host's name, output of the
workload) cannot move a cursor, colour, rename or paste anything, reverse the direction of reading, or begin
a line of its own. Unprintable characters are escaped as Python would write them (``\x1b``), not dropped: an
attack has to stay visible.
"""

from __future__ import annotations

import contextlib
import re
import sys
from typing import Any, TextIO

from unitagent.errors import UnitAgentError

_IN_JSON = re.compile(
    r"[\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)


_COLOURS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


def drop_colours(text: str) -> str:
    """Remove the control sequences by which a terminal colours text."""
    return _COLOURS.sub("", text)


def read_shown(line: str) -> str:
    """Return what a terminal shows of a line in the end: a progress bar rewrites it after each return."""
    return drop_colours(line.rstrip("\r").rpartition("\r")[2])


def escape_line(text: object) -> str:
    """Escape a text to one harmless line."""
    line = str(text)
    return line if line.isprintable() else "".join(map(_escape_character, line))


def escape_lines(text: str) -> str:
    """Escape each line of a text, and keep its line breaks."""
    return text if text.isprintable() else "\n".join(map(escape_line, text.split("\n")))


def escape_json_value(value: Any) -> Any:
    """Escape each text in a JSON value."""
    match value:
        case str():
            return escape_line(value)
        case list():
            return [escape_json_value(one) for one in value]
        case dict():
            return {escape_line(key): escape_json_value(one) for key, one in value.items()}
    return value


def escape_json(json: str) -> str:
    """Escape what a terminal would obey in JSON text; its meaning stays."""
    return _IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", json)


def print_text(text: str, file: TextIO | None = None) -> None:
    """Print for a person, on stdout by default.

    Raises:
        UnitAgentError: stdout cannot be written.
        OSError: the file cannot be written, or nobody reads stdout any more.

    """
    if file is None:
        _print_to_stdout(f"{escape_lines(text)}\n")
    else:
        print(escape_lines(text), file=file, flush=True)


def print_warning(text: object) -> None:
    """Print a warning in one line on stderr; where that cannot be written, the exit code has to do."""
    with contextlib.suppress(OSError):
        print_text(f"unitagent: {escape_line(text)}", sys.stderr)


def print_verbatim(text: str) -> None:
    """Print exactly this, for a program.

    Raises:
        UnitAgentError: stdout cannot be written.
        BrokenPipeError: nobody reads it any more.

    """
    _print_to_stdout(text)


def _print_to_stdout(text: str) -> None:
    try:
        print(text, end="", flush=True)  # noqa: T201
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UnitAgentError(f"stdout cannot be written: {error.strerror}") from error


def _escape_character(letter: str) -> str:
    if letter.isprintable() or letter == "\t":
        return letter
    if letter.isspace() and letter > "\x9f" and letter not in "\u2028\u2029":
        return " "
    return letter.encode("unicode_escape").decode()
