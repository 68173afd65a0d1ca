"""Completion for fish: one line for each word that can be offered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from unitagent.operator.completion import CommandWords, OptionWords


def write_fish_script(commands: Sequence[CommandWords]) -> str:
    """Write the script."""
    head = "# fish completion for unitagent; load it with: unitagent completion fish | source"
    return "\n".join([head, *(line for command in commands for line in _write_fish_lines(command))]) + "\n"


def _write_fish_lines(command: CommandWords) -> Iterator[str]:
    yield f"complete -c unitagent -n __fish_use_subcommand -f -a {command.name} -d {_quote_fish(command.help)}"
    within = f"complete -c unitagent -n '__fish_seen_subcommand_from {command.name}'"
    for option in command.options:
        yield f"{within} {_write_fish_option(option)}"
    if command.operands:
        yield f"{within} -f -a {_quote_fish(' '.join(command.operands))}"
    if command.workload:
        valued = " ".join(flag for option in command.options if option.needs_value for flag in option.flags)
        yield f"{within} -x -a '(__fish_complete_subcommand --fcs-skip=2 -- {valued})'"


def _write_fish_option(option: OptionWords) -> str:
    names = [f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags]
    value = ["-x" if option.choices else "-r"] if option.needs_value else ["-f"]
    choices = [f"-a {_quote_fish(' '.join(option.choices))}"] if option.choices else []
    return " ".join([*names, *value, *choices, f"-d {_quote_fish(option.help)}"])


def _quote_fish(text: str) -> str:
    """Quote for fish, where a backslash escapes within single quotes."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
