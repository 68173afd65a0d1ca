"""The one plain command that a shell's text ends with: ``cd /src && exec vllm serve M --port 8001``.

Plain is a command that runs whatever the text does before: the last one at the top of the text, in the
foreground, under no condition, and the only engine. Before it may stand whatever does not depend on the rank.
Behind it may stand only what reads its output (``| tee log``).

The invariant: the text of the user is kept to the letter but for that command, and of that every word is;
what cannot be told is never taken for nothing.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from unitagent.frameworks.command import shell_text_at
from unitagent.frameworks.shell_words import Kind, Part, Token, Word, tokens
from unitagent.frameworks.untold import ANYTHING, UNTOLD, UntoldError

_OPENING = frozenset({"if", "then", "elif", "else", "while", "until", "do", "{", "!", "time"})
_BEFORE = _OPENING | {"exec", "command", "builtin"}
_CONTROL = _OPENING | {"for", "case", "select", "function", "fi", "done", "esac", "}"}
_CONDITIONS = frozenset({"[", "[[", "test", "case", "if", "while", "until", "for"})
_DECLARING = frozenset({"export", "declare", "typeset", "local", "readonly"})
_OF_THIS_SHELL = frozenset(  # these may set variables that nobody sees in the text
    {"source", ".", "eval", "read", "conda", "mamba", "micromamba", "module", "unset", "getopts", "mapfile"}
)
_HARMLESS = frozenset({"exit", "return", "true", ":", "echo", "sleep"})
_ORDER = frozenset({"", ";", "\n", "&&", "&"})
_GLOB = re.compile(r"[*?\[]")
_SPLIT = re.compile(r"[*?\[ \t\n]")
_RANKED = "RANK_ID"
_NAMED_NEXT = frozenset({"serve", "api_server", "trtllm-serve"})  # the model, mostly by a variable
_ACTIVATE = "/bin/activate"


@dataclass(frozen=True, slots=True)
class Simple:
    """A command of the text.

    Attributes:
        before: the operator before it; empty at the beginning of the text.
        words: assignments and arguments.
        redirections: where each begins and ends.

    """

    before: str
    words: tuple[Word, ...]
    redirections: tuple[tuple[int, int], ...]

    @property
    def first(self) -> str:
        """The first word, if it is literal."""
        return (self.words[0].literal or "") if self.words else ""

    @property
    def span(self) -> tuple[int, int]:
        """Where it stands in the text."""
        spans = [(word.start, word.end) for word in self.words] + list(self.redirections)
        return min(start for start, _ in spans), max(end for _, end in spans)


@dataclass(frozen=True, slots=True)
class Plain:
    """A plain command.

    Attributes:
        argv: its words; what cannot be told in them is ``UNTOLD``.
        env: the variables that it gets.
        folder: where it runs, from where the shell was started; None when that cannot be told.
        rewritten: makes the whole command line again with other words in the place of ``argv``.

    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    folder: str | None
    rewritten: Callable[[Sequence[str]], tuple[str, ...]]


Known = Callable[[tuple[str, ...]], bool]


def read(argv: tuple[str, ...], env: Mapping[str, str], folder: str | None, known: Known) -> Plain:
    """Find the plain command in the shell's text of ``argv``; ``known`` says whether one is an engine's.

    Raises:
        UntoldError: there is no plain command; why not.

    """
    at = shell_text_at(argv)
    if at is None:
        raise UntoldError("it has no shell's text")
    text = argv[at]
    try:
        commands = list(_commands(list(tokens(text))))
    except RecursionError:
        raise UntoldError("a text too deep to read") from None
    earlier, last = _split(commands)
    state = _Shell(dict(env), argv[at + 1 :], folder, controlled=_controlled(earlier))
    for command in earlier:
        _allowed(command, known(state.argv(command)), state)
        state.run(command)
    engine = state.argv(last)
    if engine[:1] and engine[0].startswith("-"):
        raise UntoldError("its last command begins with an option of the shell's own")
    _bounded(engine)

    def rewritten(words: Sequence[str]) -> tuple[str, ...]:
        return (*argv[:at], _replaced(text, last, state, words), *argv[at + 1 :])

    return Plain(engine, state.given(last), state.folder, rewritten)


def _bounded(words: Sequence[str]) -> None:
    """Refuse what may be several words, or none, where options may stand."""
    for before, word in itertools.pairwise(words):
        valued = before.startswith("-") and "=" not in before
        if word.startswith(ANYTHING) and not valued and before not in _NAMED_NEXT:
            raise UntoldError("some of its words are known to the shell alone")


def _commands(found: Sequence[Token]) -> Iterator[Simple]:
    before, words, redirections = "", list[Word](), list[tuple[int, int]]()
    rest = iter(found)
    for token in rest:
        if isinstance(token, Word):
            words.append(token)
        elif token.redirects:
            target = next(rest, None)
            if not isinstance(target, Word):
                raise UntoldError("a redirection to nowhere")
            redirections.append((token.start, target.end))
        elif words or redirections:
            yield Simple(before, tuple(words), tuple(redirections))
            words, redirections, before = [], [], token.text
        elif token.text != "\n":  # a newline behind && or | means nothing
            before = token.text
    yield Simple(before, tuple(words), tuple(redirections))


def _controlled(commands: Sequence[Simple]) -> bool:
    """Whether some command may not run, or runs apart, so that what it sets is not known."""
    return any(
        command.first in _CONTROL
        or command.before in {"|", "(", ")"}
        or (command.before == "||" and command.first not in _HARMLESS)
        for command in commands
    )


def _split(commands: list[Simple]) -> tuple[list[Simple], Simple]:
    """Part the engine's command from what goes before it; what reads its output is looked at and dropped."""
    *rest, end = commands
    if end.words or end.redirections:
        rest.append(end)
    elif end.before not in {"", ";", "\n"}:
        raise UntoldError("its last command is in the background or in parentheses")
    while rest and rest[-1].before in {"|", "|&"} and rest[-1].first not in _CONTROL:
        rest.pop()
    if not rest or rest[-1].before not in _ORDER or not rest[-1].words:
        raise UntoldError("its last command is not at the top of the text")
    *earlier, last = rest
    chain = itertools.takewhile(lambda pair: pair[1].before in {"&&", "||"}, _backwards(rest))
    if any(command.first in _CONDITIONS for command, _ in chain):
        raise UntoldError("its last command runs under a condition")
    return earlier, last


def _backwards(commands: Sequence[Simple]) -> Iterator[tuple[Simple, Simple]]:
    return iter(list(itertools.pairwise(commands))[::-1])


def _allowed(command: Simple, engine: bool, state: _Shell) -> None:
    names = {part.text for word in command.words for part in word.parts if part.kind is Kind.VARIABLE}
    words = [word for word in _own(command.words) if word.literal != "exec"]
    if engine:
        raise UntoldError("an engine's command stands before its last one")
    if words and any(word.literal == "exec" for word in command.words):
        raise UntoldError("it may run another program in its place (exec)")
    if _RANKED in names and (command.first in _CONDITIONS or state.controlled):
        raise UntoldError(f"what it does depends on {_RANKED}")


@dataclass(slots=True)
class _Shell:
    """What is known of a shell at some place in the text."""

    variables: dict[str, str]
    arguments: tuple[str, ...]
    folder: str | None
    controlled: bool
    unseen: bool = False
    exported: set[str] = field(default_factory=set)

    def argv(self, command: Simple) -> tuple[str, ...]:
        """The words of a command, less what stands before it."""
        return tuple(text for word in _own(command.words) for text in self.fields(word))

    def given(self, command: Simple) -> dict[str, str]:
        """The variables that a command gets."""
        own = dict(self._assigned(word) for word in itertools.takewhile(_assigns, command.words))
        return self.variables | own

    def run(self, command: Simple) -> None:
        """Take in what a command sets."""
        words = self.argv(command)
        name = words[0] if words else ""
        if not words or name in _DECLARING:
            self.variables |= dict(self._assigned(word) for word in command.words if _assigns(word))
        elif name == "cd":
            self.folder = self._entered(words[1:])
        elif name in {"set", "shift"} and words[1:2] in ((), ("--",)):
            self.arguments = (UNTOLD,)
        elif name in _OF_THIS_SHELL:
            self._sourced(words)

    def _sourced(self, words: Sequence[str]) -> None:
        script = words[1] if len(words) > 1 else ""
        self.unseen = True
        known = script.endswith(_ACTIVATE) and UNTOLD not in script and not self.controlled
        former = self.variables.get("PATH", "")
        self.variables["PATH"] = f"{script.removesuffix('/activate')}:{former}" if known else UNTOLD

    def _entered(self, words: Sequence[str]) -> str | None:
        known = len(words) == 1 and UNTOLD not in words[0] and words[0][:1] not in "~-"
        if self.folder is None or not known or self.controlled:
            return None
        return str(PurePosixPath(self.folder) / words[0])

    def _assigned(self, word: Word) -> tuple[str, str]:
        text = "".join(self._value(part, word, alone=True) for part in word.parts)
        name, _, value = text.partition("=")
        untold = self.controlled or name.endswith("+") or UNTOLD in value
        return name.removesuffix("+"), UNTOLD if untold else value

    def fields(self, word: Word) -> list[str]:
        """What the shell makes of a word: none, one or several."""
        said = [part for part in word.parts if part.text or part.kind is not Kind.TEXT]
        alone = len(said) == 1
        if alone and said[0] == Part(Kind.VARIABLE, "@", quoted=True) and UNTOLD not in self.arguments:
            return list(self.arguments[1:])
        text = "".join(self._value(part, word, alone=alone) for part in word.parts)
        if any(part.quoted for part in word.parts) or UNTOLD in text:
            return [text]
        return text.split() if alone and said[0].kind is Kind.VARIABLE else [text] if text else []

    def _value(self, part: Part, word: Word, *, alone: bool) -> str:
        """What a part says; the untold is told apart by its place in the text."""
        if part.kind is Kind.TEXT:
            return part.text
        value = self._variable(part) if part.kind is Kind.VARIABLE else None
        if value is not None and (part.quoted or not (_SPLIT if not alone else _GLOB).search(value)):
            return value
        several = alone and (not part.quoted or "@" in part.text)
        return f"{ANYTHING if several else UNTOLD}{word.start}"

    def _variable(self, part: Part) -> str | None:
        if part.text == "@" or (part.text.isdigit() and UNTOLD in self.arguments):
            return None
        if part.text.isdigit():
            return "".join(self.arguments[int(part.text) : int(part.text) + 1])
        value = self.variables.get(part.text, "")
        if UNTOLD in value or (not value and (self.unseen or self.controlled)):
            return None
        return value or part.default


def _own(words: Sequence[Word]) -> list[Word]:
    """The words of a program: behind assignments, reserved words, and what a shell does itself with it."""
    return list(itertools.dropwhile(lambda word: _assigns(word) or word.literal in _BEFORE, words))


def _assigns(word: Word) -> bool:
    first = word.parts[0] if word.parts else Part(Kind.UNKNOWN)
    name, equals, _ = first.text.partition("=")
    plain = first.kind is Kind.TEXT and not first.quoted
    return bool(equals) and plain and name.removesuffix("+").isidentifier()


def _replaced(text: str, command: Simple, state: _Shell, words: Sequence[str]) -> str:
    """Write the command anew: assignments, its own words as they stand, others quoted, redirections."""
    start, end = command.span
    own = _own(command.words)
    before = command.words[: len(command.words) - len(own)]
    written = {fields[0]: word for word in own if len(fields := state.fields(word)) == 1}
    made = [text[word.start : word.end] for word in before]
    for said in words:
        word = written.get(said)
        if word is None and UNTOLD in said:
            raise UntoldError("a word that only the shell knows would have to move")
        made.append(shlex.quote(said) if word is None else text[word.start : word.end])
    made += [text[one:other] for one, other in command.redirections]
    return text[:start] + " ".join(made) + text[end:]
