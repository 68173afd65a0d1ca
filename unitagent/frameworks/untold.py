"""What a command line does not tell to a reader: values that only a shell, or another program, will know.

The invariant: such a value is never taken for another one, nor for none. Who needs it gets an error, and adds
nothing.
"""

from __future__ import annotations

UNTOLD = "\0"
"""Stands in a word for what cannot be told; no program can be given such a word."""

ANYTHING = "\0*"
"""Begins a word that may be any number of words."""

LIST = f"{ANYTHING}@"
"""Begins one that was made to be several: ``"$@"``."""


class UntoldError(Exception):
    """Why something cannot be told, for ``COMMAND: …``."""


def told(name: str, text: str) -> str:
    """Return the text.

    Raises:
        UntoldError: something in it is not told.

    """
    if UNTOLD in text:
        raise UntoldError(f"the value of {name} cannot be read here")
    return text
