"""Completion for bash. Bash splits words at ``=`` too, so ``--format=json`` arrives as three of them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from unitagent.operator.completion import CommandWords

_BASH = """\
# bash completion for unitagent; load it with: source <(unitagent completion bash)
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
        # Past here COMMAND has begun, at word "at"; its own words are files for all we know.
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
        "@COMMANDS@": _quote_words(command.name for command in commands),
        "@CASES@": "\n".join(map(_write_bash_case, commands)),
        "@CHOICES@": "\n".join(choice for command in commands for choice in _write_bash_choices(command)),
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


def _write_bash_choices(command: CommandWords) -> Iterable[str]:
    for option in command.options:
        for flag in option.flags if option.choices else ():
            yield f"        '{command.name} {flag}') choices={_quote_words(option.choices)} ;;"


def _quote_words(words: Iterable[str]) -> str:
    return shlex.quote(" ".join(words))
