"""What a parser understands, as the words that a shell can offer.

``argparse`` has no public way to list its arguments; ``_actions`` has been their list since Python 2.7.
"""

from __future__ import annotations

from argparse import Action, ArgumentParser, _AppendAction, _SubParsersAction
from collections.abc import Collection, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OptionWords:
    """One option.

    Attributes:
        flags: its spellings, each with its dashes.
        value: what its value is called; empty when it has none.
        needs_value: false when the value, if any, has to follow a ``=``.
        choices: all that the value can be; empty when that is not known.

    """

    flags: tuple[str, ...]
    help: str
    value: str
    needs_value: bool
    choices: tuple[str, ...]
    repeated: bool


@dataclass(frozen=True, slots=True)
class CommandWords:
    """One command.

    Attributes:
        operands: choices of its first plain word.
        workload: whether it ends in COMMAND, another command line.

    """

    name: str
    help: str
    options: tuple[OptionWords, ...]
    operands: tuple[str, ...]
    workload: bool


def read_commands(parser: ArgumentParser, workloads: Collection[str]) -> Iterator[CommandWords]:
    """Yield the commands of a parser."""
    below = next(action for action in parser._actions if isinstance(action, _SubParsersAction))  # noqa: SLF001
    for name, command in below.choices.items():
        actions = command._actions  # noqa: SLF001
        yield CommandWords(
            name,
            command.description or "",
            tuple(_read_option(action) for action in actions if action.option_strings),
            tuple(word for action in actions if not action.option_strings for word in _read_choices(action)),
            name in workloads,
        )


def _read_option(action: Action) -> OptionWords:
    valued = action.nargs != 0
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    return OptionWords(
        tuple(action.option_strings),
        (action.help or "").replace("%%", "%"),
        metavar if valued else "",
        valued and action.nargs != "?",
        _read_choices(action),
        isinstance(action, _AppendAction),
    )


def _read_choices(action: Action) -> tuple[str, ...]:
    return tuple(map(str, action.choices or ()))
