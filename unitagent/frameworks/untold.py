"""What a command line does not tell to a reader: values that only a shell, or another program, will know.

The invariant: such a value is never taken for another one, nor for none. Who needs it gets an error, and adds
nothing.
"""

from __future__ import annotations

UNKNOWN = "\0"
"""Stands in a word for what cannot be told; no program can be given such a word."""

ANY_WORDS = "\0*"
"""Begins a word that may be any number of words."""

WORD_LIST = f"{ANY_WORDS}@"
"""Begins one that was made to be several: ``"$@"``."""


class UnreadableError(Exception):
    """Why something cannot be told, for ``COMMAND: …``."""


def require_known(name: str, text: str) -> str:
    """Return the text.

    Raises:
        UntoldError: something in it is not told.

    """
    if UNKNOWN in text:
        raise UnreadableError(f"the value of {name} cannot be read here")
    return text
