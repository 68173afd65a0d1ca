"""``unitagent completion``: scripts for shells, made from the parser, so that they know what it knows."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Collection, Sequence

from unitagent.operator import completion
from unitagent.operator.completion import CommandWords, read_commands

SHELLS: dict[str, Callable[[Sequence[CommandWords]], str]] = {
    "bash": completion.write_bash_script,
    "zsh": completion.write_zsh_script,
    "fish": completion.write_fish_script,
}


def write_script(shell: str, parser: ArgumentParser, workloads: Collection[str]) -> str:
    """Write the script for a shell.

    Args:
        shell: a key of ``SHELLS``.
        parser: of the whole command line, with a sub-parser for each command.
        workloads: commands that end in another command line.

    """
    return SHELLS[shell](list(read_commands(parser, workloads)))
