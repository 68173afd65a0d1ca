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

from unitagent.frameworks.command import shell_text_at
from unitagent.frameworks.config_file import OPTION as CONFIG
from unitagent.frameworks.shell_state import OPENING, Shell, Simple, assigns, own
from unitagent.frameworks.shell_words import Kind, Token, Word, tokens
from unitagent.frameworks.untold import ANYTHING, LIST, UNTOLD, UntoldError

_CONTROL = OPENING | {"for", "case", "select", "function", "fi", "done", "esac", "}"}
_CONDITIONS = frozenset({"[", "[[", "test", "case", "if", "elif", "while", "until", "for", "select"})
_HARMLESS = frozenset({"exit", "return", "true", ":", "echo", "sleep"})
_SURE = frozenset({"export", "true", ":", "echo", "set"})
_ORDER = frozenset({"", ";", "\n", "&&", "&"})
# What an instance knows its place by: our variables, those of platforms and launchers, its own name.
_PLACE = re.compile(
    r"\b(?:\w*_)?(?:RANK(?:_ID|_IP)?|INDEX|NODEID|PROCID|PROCESS_ID|ORDINAL)\b|\b(?:HOSTNAME|POD_NAME|POD_IP|hostname)\b"
)
_NAME = re.compile(r"[A-Za-z_]\w*")
_GIVEN = frozenset({"-z", "-n"})  # whether a variable is set is the same on all ranks
# Who makes a cluster of Ray: --ray_cluster_size, start_ray.sh.
_CLUSTER = re.compile(r"--ray[-_].+|(?:.*/)?(?:[\w.-]*[-_.])?ray(?:[-_.][\w.-]*)?\.(?:sh|py)")
_WRITERS = frozenset({"cp", "mv", "ln", "install", "tee", "sed", "yq", "curl", "wget", "python", "python3"})
_SUBSTITUTED = re.compile(r'(?:\$\((?!\()|`).*?("?)$', re.DOTALL)
_NAMED_NEXT = frozenset({"serve", "api_server", "trtllm-serve"})  # the model, mostly by a variable


@dataclass(frozen=True, slots=True)
class Plain:
    """A plain command.

    Attributes:
        argv: its words; what cannot be told in them is ``UNTOLD``.
        env: the variables that it gets.
        folder: where it runs, from where the shell was started; None when that cannot be told.
        rewritten: makes the whole command line again with other words in the place of ``argv``.
        spelled: word of ``argv`` -> how it is written in the text; of a command in it nothing is cited, since
            it may hold a secret.

    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    folder: str | None
    rewritten: Callable[[Sequence[str]], tuple[str, ...]]
    spelled: Mapping[str, str] = field(default_factory=dict)


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
    state = Shell(dict(env), argv[at + 1 :], folder, controlled=_controlled(earlier))
    ranked = set[str]()
    certain = _certain([*earlier, last])
    for sure, (command, following) in zip(certain, itertools.pairwise([*earlier, last]), strict=False):
        _allowed(command, known(state.argv(command)))
        _same_on_all_ranks(command, following, ranked)
        state.run(command, certain=sure)
    engine = state.argv(last)
    if engine[:1] and engine[0].startswith("-"):
        raise UntoldError("its last command begins with an option of the shell's own")
    spelled = {
        said: _SUBSTITUTED.sub(r"$(…)\1", text[word.start : word.end])
        for word in own(last.words)
        for said in state.fields(word)
    }
    _bounded(engine, spelled)
    _not_made_here(engine, earlier, state, text)

    def rewritten(words: Sequence[str]) -> tuple[str, ...]:
        return (*argv[:at], _replaced(text, last, state, words), *argv[at + 1 :])

    return Plain(engine, state.given(last), state.folder, rewritten, spelled)


def _bounded(words: Sequence[str], spelled: Mapping[str, str]) -> None:
    """Refuse what may be several words, or none, where options may stand."""
    for before, word in itertools.pairwise(words):
        valued = before.startswith("-") and "=" not in before
        named = before in _NAMED_NEXT and not word.startswith(LIST)
        if word.startswith(ANYTHING) and not valued and not named:
            said = f"{spelled[word]} may be any number of options, and which ones is not known here"
            raise UntoldError(f"{said}: write them out in its place")


def _not_made_here(engine: Sequence[str], earlier: Sequence[Simple], state: Shell, text: str) -> None:
    """Refuse a file of flags that the text makes: what is there now is not what the engine reads."""
    for name in (value for option, value in itertools.pairwise(engine) if option == CONFIG):
        for command in earlier:
            targets = [text[start:end] for start, end in command.redirections]
            made = [each.partition(">")[2].lstrip(">|& ").strip("'\"") for each in targets]
            made += state.argv(command)[1:] if command.first in _WRITERS else ()
            if name in made:
                raise UntoldError(f"its text makes {name} itself")


def _commands(found: Sequence[Token]) -> Iterator[Simple]:
    before, words, redirections, depth = "", list[Word](), list[tuple[int, int]](), 0
    rest = iter(found)
    for token in rest:
        if isinstance(token, Word):
            words.append(token)
            continue
        if token.redirects:
            target = next(rest, None)
            if not isinstance(target, Word):
                raise UntoldError("a redirection to nowhere")
            redirections.append((token.start, target.end))
            continue
        if words or redirections:
            yield Simple(before, tuple(words), tuple(redirections), depth)
            words, redirections, before = [], [], token.text
        elif token.text != "\n" or before == ")":  # a newline behind && or | means nothing
            before = token.text
        depth = max(0, depth + (token.text == "(") - (token.text == ")"))
    yield Simple(before, tuple(words), tuple(redirections), depth)


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
    if not rest or rest[-1].before not in _ORDER or not rest[-1].words or rest[-1].depth:
        raise UntoldError("its last command is not at the top of the text")
    *earlier, last = rest
    chain = itertools.takewhile(lambda pair: pair[1].before in {"&&", "||"}, _backwards(rest))
    if any(command.first in _CONDITIONS for command, _ in chain):
        raise UntoldError("its last command runs under a condition")
    return earlier, last


def _certain(commands: Sequence[Simple]) -> list[bool]:
    """Say of each whether it runs: behind ``&&`` it does where the last one needs it, or nothing can fail."""
    told, sure = list[bool](), True
    for command in commands:
        sure = sure or command.before != "&&"
        told.append(sure)
        sure = sure and _cannot_fail(command)
    chain = itertools.takewhile(lambda pair: pair[1].before == "&&", _backwards(commands))
    needed = 1 + sum(1 for _ in chain)
    return told[:-needed] + [True] * needed


def _cannot_fail(command: Simple) -> bool:
    plain = not any(part.kind is Kind.UNKNOWN for word in command.words for part in word.parts)
    return plain and (command.first in _SURE or not own(command.words))


def _backwards(commands: Sequence[Simple]) -> Iterator[tuple[Simple, Simple]]:
    return iter(list(itertools.pairwise(commands))[::-1])


def _allowed(command: Simple, engine: bool) -> None:
    words = [word for word in own(command.words) if word.literal != "exec"]
    if engine:
        raise UntoldError("an engine's command stands before its last one")
    if words and any(word.literal == "exec" for word in command.words):
        raise UntoldError("it may run another program in its place (exec)")
    if any(_CLUSTER.fullmatch("".join(part.text for part in word.parts)) for word in words):
        raise UntoldError("it makes a cluster of Ray of its own")


def _same_on_all_ranks(command: Simple, following: Simple, ranked: set[str]) -> None:
    """Refuse what goes one way or another by rank; ``ranked`` are variables made of the rank so far."""
    text = " ".join(part.text for word in command.words for part in word.parts)
    found = _PLACE.search(text)
    name = found[0] if found else next((name for name in _NAME.findall(text) if name in ranked), None)
    if name is None:
        return
    if _decides(command, following):
        raise UntoldError(f"what it does depends on {name}")
    ranked |= {word.parts[0].text.partition("=")[0] for word in command.words if assigns(word)}


def _decides(command: Simple, following: Simple) -> bool:
    """Whether a command says by what is in it whether others run."""
    words = [word.literal for word in own(command.words)]
    if words[1:2] and words[1] in _GIVEN and len(words) <= len(("[", "-n", "NAME", "]")):
        return False
    decided = following.before == "||" and following.first not in _HARMLESS
    conditional = {command.first, *words[:1]} & _CONDITIONS or words[-1:] in (["]"], ["]]"])
    return bool(conditional) or decided or command.before in {"(", ")"}


def _replaced(text: str, command: Simple, state: Shell, words: Sequence[str]) -> str:
    """Write the command anew: assignments, its own words as they stand, others quoted, redirections."""
    start, end = command.span
    written = [(fields[0], group) for fields, group in _grouped(command, state) if len(fields) == 1]
    made = [text[word.start : word.end] for word in command.words[: -len(own(command.words))]]
    for said in words:
        found = next((pair for pair in written if pair[0] == said), None)
        if found is not None:  # the next such word may be written otherwise: ~ "~"
            written.remove(found)
            made += [text[word.start : word.end] for word in found[1]]
        elif UNTOLD in said:
            raise UntoldError("a word that only the shell knows would have to move")
        else:
            made.append(shlex.quote(said))
    made += [text[one:other] for one, other in command.redirections]
    return text[:start] + " ".join(made) + text[end:]


def _grouped(command: Simple, state: Shell) -> list[tuple[list[str], list[Word]]]:
    """Give what each word says, with it and those behind it that say nothing: these stay where they are."""
    groups = list[tuple[list[str], list[Word]]]()
    for word in own(command.words):
        fields = state.fields(word)
        if fields or not groups:
            groups.append((fields, [word]))
        else:
            groups[-1][1].append(word)
    return groups
