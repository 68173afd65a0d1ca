"""What is known about a shell at a point in its text: variables, arguments, working directory.

The invariant: a value that a command sets, or may set, never counts as unchanged.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from unitagent.frameworks.command import ANY_WORDS, UNKNOWN, WORD_LIST
from unitagent.frameworks.shell_words import Part, PartKind, Word

OPENING = frozenset({"if", "then", "elif", "else", "while", "until", "do", "{", "!", "time"})
_BEFORE = OPENING | {"exec", "command", "builtin"}
_DECLARING = frozenset({"export", "declare", "typeset", "local", "readonly"})
_OF_THIS_SHELL = frozenset(  # these may set variables invisibly
    {"source", ".", "eval", "conda", "mamba", "micromamba", "module"}
)
_SETTING = frozenset({"source", ".", "eval"})  # any variable; the others only PATH and the like
_NAMING = frozenset(  # these set the variables that they name
    {"for", "select", "read", "unset", "getopts", "mapfile", "readarray", "let"}
)
_NAMING_BY = {("printf", "-v"), ("wait", "-p"), ("wait", "-np")}
_MOVING = frozenset({"cd", "pushd", "popd"})
_GLOB = re.compile(r"[*?\[]")
_SPLIT = re.compile(r"[*?\[ \t\n]")
_NAME = re.compile(r"[A-Za-z_]\w*")
_SETS = re.compile(r"\$\{\w+:?=|\$\(\(.*?(?:(?<![=!<>])=(?!=)|\+\+|--)", re.DOTALL)
_OURS = frozenset(  # of the agent: hardly any file sets these
    {"RANK_ID", "RANK_IP", "COMM_IFNAME", "UNIT_SIZE", "MASTER_ADDRESS", "MASTER_PORT", "MASTER_ADDR"}
    | {"NODE_RANK", "NNODES", "NUM_NODES", "HOME"}
)
_ACTIVATE = "/bin/activate"
_TOOLS = re.compile(  # of toolkits: these set no variables of a service
    r".*/(activate|conda\.sh|mamba\.sh|profile|setvars\.sh|set_env\.sh)"
)


@dataclass(frozen=True, slots=True)
class SimpleCommand:
    """A command of the text.

    Attributes:
        before: the operator before it; empty at the beginning of the text.
        words: assignments and arguments.
        redirections: where each begins and ends.
        depth: how many parentheses are around it.

    """

    before: str
    words: tuple[Word, ...]
    redirections: tuple[tuple[int, int], ...]
    depth: int = 0

    @property
    def first(self) -> str:
        """The first word, if it is literal."""
        return (self.words[0].literal or "") if self.words else ""

    @property
    def span(self) -> tuple[int, int]:
        """Where it stands in the text."""
        spans = [(word.start, word.end) for word in self.words] + list(self.redirections)
        return min(start for start, _ in spans), max(end for _, end in spans)


def skip_prefixes(words: Sequence[Word]) -> list[Word]:
    """Return a program's words, without assignments, reserved words and builtins before it."""
    return list(itertools.dropwhile(lambda word: is_assignment(word) or word.literal in _BEFORE, words))


def is_assignment(word: Word) -> bool:
    """Whether it is ``NAME=…``."""
    first = word.parts[0] if word.parts else Part(PartKind.UNKNOWN)
    name, equals, _ = first.text.partition("=")
    plain = first.kind is PartKind.TEXT and not first.quoted
    return bool(equals) and plain and name.removesuffix("+").isidentifier()


@dataclass(slots=True)
class ShellState:
    """What is known about a shell at a point in its text."""

    variables: dict[str, str]
    arguments: tuple[str, ...]
    folder: str | None
    controlled: bool
    unseen: bool = False
    _certain: bool = True
    _doubted: frozenset[str] = frozenset()

    def expand_argv(self, command: SimpleCommand) -> tuple[str, ...]:
        """Expand the words of a command, without what precedes it."""
        return tuple(text for word in skip_prefixes(command.words) for text in self.expand_word(word))

    def build_environment(self, command: SimpleCommand) -> dict[str, str]:
        """Return the environment of a command."""
        self._certain = True
        return self.variables | dict(
            map(self._evaluate_assignment, itertools.takewhile(is_assignment, command.words))
        )

    def apply_command(self, command: SimpleCommand, *, certain: bool = True) -> None:
        """Apply what a command sets; an uncertain one may not run at all."""
        self._certain = certain and not self.controlled
        words = self.expand_argv(command)
        name = words[0] if words else ""
        self._apply_expansions(command)
        if not words or name in _DECLARING:
            if any(UNKNOWN in word and "=" not in word for word in words):  # export $(…)
                self._invalidate_variables()
            self._set_variables(
                dict(self._evaluate_assignment(word) for word in command.words if is_assignment(word))
            )
        elif name in _MOVING:
            self.folder = self._resolve_folder(words[1:]) if name == "cd" else None
        elif name in {"set", "shift"}:
            self.arguments = (UNKNOWN,) if _changes_arguments(words) else self.arguments
        elif name in _NAMING or words[:2] in _NAMING_BY or command.before == "(":  # ((NAME = 1))
            self._mark_unknown(
                part.text for word in command.words for part in word.parts if part.kind is PartKind.TEXT
            )
        elif name in _OF_THIS_SHELL:
            self._apply_source(words)

    def _apply_expansions(self, command: SimpleCommand) -> None:
        """Apply what expansions set: ``${NAME:=VALUE}``, ``$((NAME += 1))``."""
        for part in (part for word in command.words for part in word.parts):
            if part.kind is PartKind.UNKNOWN and _SETS.match(part.text):
                self._mark_unknown((part.text,))
            elif part.sets and not self.variables.get(part.text):
                value = self._look_up(part)
                self._set_variables({part.text: value if value is not None and self._certain else UNKNOWN})

    def _mark_unknown(self, texts: Iterable[str]) -> None:
        self._set_variables(dict.fromkeys((name for text in texts for name in _NAME.findall(text)), UNKNOWN))

    def _set_variables(self, values: Mapping[str, str]) -> None:
        self.variables |= values
        self._doubted -= frozenset(values)

    def _invalidate_variables(self) -> None:
        """From here on any variable may have changed, by a file or by the output of a command."""
        self.unseen = True
        self._doubted = frozenset(self.variables) - _OURS

    def _apply_source(self, words: Sequence[str]) -> None:
        script = words[1] if len(words) > 1 else ""
        if words[0] in _SETTING and not _TOOLS.fullmatch(script):
            self._invalidate_variables()
        self.unseen = True
        known = script.endswith(_ACTIVATE) and UNKNOWN not in script and self._certain
        former = self.variables.get("PATH", "")
        self.variables["PATH"] = f"{script.removesuffix('/activate')}:{former}" if known else UNKNOWN

    def _resolve_folder(self, words: Sequence[str]) -> str | None:
        known = len(words) == 1 and UNKNOWN not in words[0] and words[0][:1] not in "~-"
        if self.folder is None or not known or not self._certain:
            return None
        return str(PurePosixPath(self.folder) / words[0])

    def _evaluate_assignment(self, word: Word) -> tuple[str, str]:
        text = "".join(self._evaluate_part(part, word, alone=True) for part in word.parts)
        name, _, value = text.partition("=")
        untold = not self._certain or name.endswith("+") or UNKNOWN in value
        return name.removesuffix("+"), UNKNOWN if untold else value

    def expand_word(self, word: Word) -> list[str]:
        """Expand a word to no, one or several arguments."""
        parts = [part for part in word.parts if part.text or part.kind is not PartKind.TEXT]
        alone = len(parts) == 1
        if alone and parts[0] == Part(PartKind.VARIABLE, "@", quoted=True) and UNKNOWN not in self.arguments:
            return list(self.arguments[1:])
        text = "".join(self._evaluate_part(part, word, alone=alone) for part in word.parts)
        if any(part.quoted for part in word.parts) or UNKNOWN in text:
            return [text]
        return text.split() if alone and parts[0].kind is PartKind.VARIABLE else [text] if text else []

    def _evaluate_part(self, part: Part, word: Word, *, alone: bool) -> str:
        """Evaluate a part; unknown ones are distinguished by their position in the text."""
        if part.kind is PartKind.TEXT:
            return part.text
        value = self._look_up(part) if part.kind is PartKind.VARIABLE else None
        if value is not None and (part.quoted or not (_SPLIT if not alone else _GLOB).search(value)):
            return value
        several = WORD_LIST if "@" in part.text else UNKNOWN if part.quoted else ANY_WORDS
        return f"{several if alone else UNKNOWN}{word.start}"

    def _look_up(self, part: Part) -> str | None:
        if part.text == "@" or (part.text.isdigit() and UNKNOWN in self.arguments):
            return None
        if part.text.isdigit():
            return "".join(self.arguments[int(part.text) : int(part.text) + 1])
        value = self.variables.get(part.text, "")
        if part.text in self._doubted or UNKNOWN in value or (not value and (self.unseen or self.controlled)):
            return None
        return value or part.default


def _changes_arguments(words: Sequence[str]) -> bool:
    """Whether ``shift`` or ``set`` changes the arguments: any word after the options does, and ``--``."""
    name, *rest = words
    while rest and rest[0][:1] in {"-", "+"} and rest[0] != "--":
        rest = rest[2:] if rest[0][1:].endswith("o") else rest[1:]
    return name == "shift" or bool(rest)
