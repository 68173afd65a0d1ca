"""``unitagent completion``: scripts for shells, made from the parser, so that they know what it knows."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Collection, Sequence

from unitagent.operator.completion import bash, fish, zsh
from unitagent.operator.completion.words import Command, read

SHELLS: dict[str, Callable[[Sequence[Command]], str]] = {
    "bash": bash.script,
    "zsh": zsh.script,
    "fish": fish.script,
}


def script(shell: str, parser: ArgumentParser, workloads: Collection[str]) -> str:
    """Write the script for a shell.

    Args:
        shell: a key of ``SHELLS``.
        parser: of the whole command line, with a sub-parser for each command.
        workloads: commands that end in another command line.

    """
    return SHELLS[shell](list(read(parser, workloads)))
