"""Completion for zsh, by its own ``_arguments``, which also shows what an option means."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from unitagent.operator.completion import CommandWords, OptionWords

_ZSH = """\
#compdef unitagent
# zsh completion for unitagent; load it with: source <(unitagent completion zsh), after compinit
_unitagent() {
    local -a known
    known=(
@COMMANDS@
    )
    if ((CURRENT == 2)); then
        _describe command known
        return
    fi
    shift words
    ((CURRENT--))
    case $words[1] in
@CASES@
    esac
}
if [[ $funcstack[1] == _unitagent ]]; then
    _unitagent "$@"
else
    compdef _unitagent unitagent
fi
"""


def write_zsh_script(commands: Sequence[CommandWords]) -> str:
    """Write the script."""
    told = [f"        {shlex.quote(f'{command.name}:{_escape_zsh(command.help)}')}" for command in commands]
    text = _ZSH.replace("@COMMANDS@", "\n".join(told))
    return text.replace("@CASES@", "\n".join(map(_write_zsh_case, commands)))


def _write_zsh_case(command: CommandWords) -> str:
    specs = [spec for option in command.options for spec in _write_zsh_specs(option)]
    if command.operands:
        specs.append(f"1:what:({' '.join(command.operands)})")
    if command.workload:
        specs += ["(-)1:command:_command_names -e", "*::arguments:_normal"]
    lines = " \\\n".join(f"            {shlex.quote(spec)}" for spec in specs)
    return f"    {command.name})\n        _arguments -S \\\n{lines} ;;"


def _write_zsh_specs(option: OptionWords) -> list[str]:
    """Give one specification for each spelling; they exclude each other, unless one may be given again."""
    before = "*" if option.repeated else f"({' '.join(option.flags)})"
    told = f"[{_escape_zsh(option.help)}]"
    return [f"{before}{flag}{_choose_equals(option)}{told}{_write_zsh_value(option)}" for flag in option.flags]


def _choose_equals(option: OptionWords) -> str:
    """Tell how the value follows: ``=`` in the same word or the next, ``=-`` in the same word only."""
    if not option.value:
        return ""
    return "=" if option.needs_value else "=-"


def _write_zsh_value(option: OptionWords) -> str:
    if not option.value:
        return ""
    colons = ":" if option.needs_value else "::"
    return f"{colons}{option.value}:{f'({chr(32).join(option.choices)})' if option.choices else '_default'}"


def _escape_zsh(text: str) -> str:
    for character in "\\[]:":
        text = text.replace(character, "\\" + character)
    return text
