"""``unitagent completion``: completion scripts for bash, zsh and fish, generated from the argument parser.

``argparse`` has no public way to list its arguments; ``_actions`` has been their list since Python 2.7.

Values that depend on the machine or the command line (network interfaces, ranks) are listed by a piece of
POSIX shell that the three scripts share.
"""

from __future__ import annotations

import shlex
from argparse import Action, ArgumentParser, _AppendAction, _SubParsersAction
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from unitagent.settings.cli_options import PREFIX
from unitagent.settings.variables import VARIABLES

# Where an option's value is stored -> kind of its values.
_DYNAMIC = {PREFIX + "COMM_IFNAME": "interfaces", PREFIX + "RANK_ID": "claims", "rank": "ranks"}
# Called with a kind and the words of the command line, in which bash splits off a "=".
_LIST_VALUES = """\
case $1 in
interfaces) ls /sys/class/net ;;
*)
    [ $1 = claims ] && echo auto
    size=${UNIT_SIZE:-8}
    while [ $# -gt 1 ] && [ "$2" != -- ]; do
        case $2 in
        --size) [ "$3" = = ] && size=$4 || size=$3 ;;
        --size=*) size=${2#--size=} ;;
        esac
        shift
    done
    [ "$size" -le 1024 ] && seq 0 $((size - 1)) ;;
esac 2>/dev/null
"""


@dataclass(frozen=True, slots=True)
class OptionWords:
    """One option.

    Attributes:
        flags: its spellings, with their dashes.
        value: the name of its value; empty if it takes none.
        needs_value: false if the value, if any, must follow a ``=``.
        choices: all possible values; empty if unknown.
        dynamic: what to ask ``_LIST_VALUES`` for the values; empty if not there.

    """

    flags: tuple[str, ...]
    help: str
    value: str
    needs_value: bool
    choices: tuple[str, ...]
    dynamic: str
    repeated: bool


@dataclass(frozen=True, slots=True)
class CommandWords:
    """One command.

    Attributes:
        operands: choices for its first operand.
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
        _DYNAMIC.get(action.dest, ""),
        isinstance(action, _AppendAction),
    )


def _read_choices(action: Action) -> tuple[str, ...]:
    """Return the words of an argument, or of the variable that it sets; a switch needs none."""
    variable = VARIABLES.get(action.dest.removeprefix(PREFIX))
    known = variable.kind.words if variable and not variable.is_switch else ()
    return tuple(map(str, action.choices or known))


_BASH = """\
# bash completion for unitagent; load it with: source <(unitagent completion bash)
_unitagent_values() {
    sh -c @VALUES@ sh "$@"
}
_unitagent() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
    local options='--help --version' valued= plain=@COMMANDS@ choices= workload= at=1
    COMPREPLY=()
    [[ $word == = ]] && word=
    [[ $before == = ]] && before=${COMP_WORDS[COMP_CWORD-2]}
    if ((COMP_CWORD > 1)); then
        plain=
        case ${COMP_WORDS[1]} in
@CASES@
        *) return ;;
        esac
        case "${COMP_WORDS[1]} $before" in
@CHOICES@
        esac
    fi
    if [[ $workload ]]; then
        for ((at = 2; at < COMP_CWORD; at++)); do
            case ${COMP_WORDS[at]} in
            =) ((at++)) ;;
            --) ((at++)); break ;;
            -*) [[ " $valued " == *" ${COMP_WORDS[at]} "* && ${COMP_WORDS[at+1]} != = ]] && ((at++)) ;;
            *) break ;;
            esac
        done
        # From word "at" on, this is COMMAND, whose arguments may be files.
        ((at < COMP_CWORD)) && return
        if ((at == COMP_CWORD)) && [[ $before == -- ]]; then
            COMPREPLY=($(compgen -c -- "$word"))
            return
        fi
    fi
    if [[ $choices ]]; then
        COMPREPLY=($(compgen -W "$choices" -- "$word"))
    elif [[ " $valued " == *" $before "* ]]; then
        return
    elif [[ $word == -* || -z $word$plain ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$word"))
    elif [[ $plain ]]; then
        COMPREPLY=($(compgen -W "$plain" -- "$word"))
    elif [[ $workload ]]; then
        COMPREPLY=($(compgen -c -- "$word"))
    fi
}
complete -o default -F _unitagent unitagent
"""


def write_bash_script(commands: Sequence[CommandWords]) -> str:
    """Write the script."""
    parts = {
        "@VALUES@": shlex.quote(_LIST_VALUES),
        "@COMMANDS@": _quote_words(command.name for command in commands),
        "@CASES@": "\n".join(map(_write_bash_case, commands)),
        "@CHOICES@": "\n".join(_write_bash_choices(commands)),
    }
    text = _BASH
    for place, part in parts.items():
        text = text.replace(place, part)
    return text


def _write_bash_case(command: CommandWords) -> str:
    options = _quote_words(flag for option in command.options for flag in option.flags)
    valued = _quote_words(flag for option in command.options if option.needs_value for flag in option.flags)
    words = f"options={options} valued={valued} plain={_quote_words(command.operands)}"
    return f"        {command.name}) {words} workload={'1' if command.workload else ''} ;;"


def _write_bash_choices(commands: Sequence[CommandWords]) -> Iterable[str]:
    """Yield a case for each option with known values; one for all commands in which they are the same."""
    commands_by_case: dict[tuple[str, str], list[str]] = {}
    for command in commands:
        for option in command.options:
            if option.choices or option.dynamic:
                for flag in option.flags:
                    commands_by_case.setdefault((flag, _write_bash_values(option)), []).append(command.name)
    common = Counter(flag for flag, _ in commands_by_case)
    for (flag, values), names in commands_by_case.items():
        places = ["*"] if common[flag] == 1 else names
        patterns = "|".join(f"{place}' {flag}'" for place in places)
        yield f"        {patterns}) choices={values} ;;"


def _write_bash_values(option: OptionWords) -> str:
    if option.dynamic:
        return f'$(_unitagent_values {option.dynamic} "${{COMP_WORDS[@]}}")'
    return _quote_words(option.choices)


def _quote_words(words: Iterable[str]) -> str:
    return shlex.quote(" ".join(words))


_ZSH = """\
#compdef unitagent
# zsh completion for unitagent; load it with: source <(unitagent completion zsh), after compinit
_unitagent_values() {
    local -a listed
    listed=(${(f)"$(sh -c @VALUES@ sh $1 "${words[@]}")"})
    compadd -a listed
}
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
    descriptions = [
        f"        {shlex.quote(f'{command.name}:{_escape_zsh(command.help)}')}" for command in commands
    ]
    text = _ZSH.replace("@VALUES@", shlex.quote(_LIST_VALUES)).replace("@COMMANDS@", "\n".join(descriptions))
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
    """Return one specification for each spelling; they exclude each other, unless the option is
    repeatable.
    """
    before = "*" if option.repeated else f"({' '.join(option.flags)})"
    description = f"[{_escape_zsh(option.help)}]"
    return [
        f"{before}{flag}{_choose_equals(option)}{description}{_write_zsh_value(option)}"
        for flag in option.flags
    ]


def _choose_equals(option: OptionWords) -> str:
    """Choose how the value follows: ``=`` in the same word or the next, ``=-`` in the same word only."""
    if not option.value:
        return ""
    return "=" if option.needs_value else "=-"


def _write_zsh_value(option: OptionWords) -> str:
    if not option.value:
        return ""
    colons = ":" if option.needs_value else "::"
    if option.dynamic:
        return f"{colons}{option.value}:{{_unitagent_values {option.dynamic}}}"
    return f"{colons}{option.value}:{f'({chr(32).join(option.choices)})' if option.choices else '_default'}"


def _escape_zsh(text: str) -> str:
    for character in "\\[]:":
        text = text.replace(character, "\\" + character)
    return text


def write_fish_script(commands: Sequence[CommandWords]) -> str:
    """Write the script."""
    head = "# fish completion for unitagent; load it with: unitagent completion fish | source"
    values = (
        f"function __unitagent_values\n    sh -c {_quote_fish(_LIST_VALUES)} sh $argv (commandline -opc)\nend"
    )
    lines = [line for command in commands for line in _write_fish_lines(command)]
    return "\n".join([head, values, *lines]) + "\n"


def _write_fish_lines(command: CommandWords) -> Iterator[str]:
    about = _quote_fish(command.help)
    yield f"complete -c unitagent -n __fish_use_subcommand -f -a {command.name} -d {about}"
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
    offered = f"(__unitagent_values {option.dynamic})" if option.dynamic else " ".join(option.choices)
    value = ["-x" if offered else "-r"] if option.needs_value else ["-f"]
    choices = [f"-a {_quote_fish(offered)}"] if offered else []
    return " ".join([*names, *value, *choices, f"-d {_quote_fish(option.help)}"])


def _quote_fish(text: str) -> str:
    """Quote for fish, where a backslash escapes within single quotes."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SHELLS: dict[str, Callable[[Sequence[CommandWords]], str]] = {
    "bash": write_bash_script,
    "zsh": write_zsh_script,
    "fish": write_fish_script,
}


def write_script(shell: str, parser: ArgumentParser, workloads: Collection[str]) -> str:
    """Write the script for a shell.

    Args:
        shell: a key of ``SHELLS``.
        parser: of the whole command line, with a sub-parser for each command.
        workloads: commands that end in another command line.

    """
    return SHELLS[shell](list(read_commands(parser, workloads)))
