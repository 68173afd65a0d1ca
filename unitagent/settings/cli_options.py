"""The command line's options, made from the table of variables.

The invariant: an option is another way to set its variable. It only carries text; parsing does not depend on
where the text comes from.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from unitagent.setting_parsers import parse_boolean
from unitagent.settings.variables import GROUPS, VARIABLES, Variable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection, Mapping, Sequence

PREFIX = "variable_"


def add_arguments(parser: argparse.ArgumentParser, without: Collection[str] = ()) -> None:
    """Add an option for every variable that may have one, in groups; some commands have no use for one."""
    for title, rows in GROUPS.items():
        group = parser.add_argument_group(title)
        for row in rows:
            if row.flag and row.name not in without:
                group.add_argument(
                    row.flag,
                    dest=PREFIX + row.name,
                    metavar=_choose_metavar(row),
                    help=_format_help(row),
                    nargs="?" if row.is_switch else None,
                    const="true" if row.is_switch else None,
                )


def collect_flags(namespace: argparse.Namespace) -> Mapping[str, str]:
    """Return variable -> text for the options that were used."""
    return {
        name.removeprefix(PREFIX): text
        for name, text in vars(namespace).items()
        if name.startswith(PREFIX) and text is not None
    }


def split_command(words: Sequence[str], others: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """Split what follows ``run`` into options and COMMAND, which begins after ``--`` or at the first plain
    word.

    A switch without a value is spelled out, so that argparse does not take COMMAND for its value. A boolean
    after it is its value if a ``--`` follows later, and COMMAND otherwise. ``others`` are further options
    that take a value.
    """
    valued = {row.flag for row in VARIABLES.values() if not row.is_switch}.union(others)
    switches = {row.flag for row in VARIABLES.values() if row.is_switch}
    options: list[str] = []
    rest = list(words)
    while rest and rest[0] != "--" and rest[0].startswith("-"):
        word = rest.pop(0)
        if word in switches:
            word += f"={rest.pop(0) if '--' in rest[1:] and _is_boolean(rest[0]) else 'true'}"
        options.append(word)
        if word in valued and rest:
            options.append(rest.pop(0))
    return options, rest[1:] if rest[:1] == ["--"] else rest


def _is_boolean(word: str) -> bool:
    with suppress(ValueError):
        parse_boolean(word)
        return True
    return False


def _choose_metavar(row: Variable) -> str:
    if row.is_switch:
        return "BOOL"
    return row.name.rpartition("_")[2]


def _format_help(row: Variable) -> str:
    default = row.known or row.default
    choice = f": {row.kind.accepted}" if row.kind.choice else ""
    notes = f"[env: {row.name}]" + (f" [default: {default}]" if default else "")
    return f"{row.meaning}{choice} {notes}".replace("%", "%%")
