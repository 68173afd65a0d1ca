"""The one plain command that a shell's text ends with: ``cd /src && exec vllm serve M --port 8001``.

A plain command runs whatever the text does before it: it is the last one at the top level of the text, in the
foreground, unconditional, and the only engine. Anything that does not depend on the rank may precede it. Only
readers of its output may follow it (``| tee log``). A start script's text is read the same way.

The invariant: the user's text is kept to the letter except for that command, all of whose words are kept; an
unknown value is never mistaken for no value.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from unitagent.frameworks.command import ANY_WORDS, UNKNOWN, WORD_LIST, UnreadableError, find_shell_text
from unitagent.frameworks.config_file import OPTION as CONFIG
from unitagent.frameworks.shell_state import OPENING, ShellState, SimpleCommand, is_assignment, skip_prefixes
from unitagent.frameworks.shell_words import PartKind, Token, Word, split_tokens

_SHELLS = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh"})
_SHEBANG = re.compile(r"#!.*\b(sh|bash|dash|ash|zsh|ksh)\b")
_USED = re.compile(r"\$\{?[@*1-9]|RANK")  # its arguments, or a rank that it reads itself
_MAX_SCRIPT = 1 << 16  # bytes of a script that are read
_CONTROL = OPENING | {"for", "case", "select", "function", "fi", "done", "esac", "}"}
_CONDITIONS = frozenset({"[", "[[", "test", "case", "if", "elif", "while", "until", "for", "select"})
_HARMLESS = frozenset({"exit", "return", "true", ":", "echo", "sleep"})
_ALWAYS_SUCCEED = frozenset({"export", "true", ":", "echo", "set"})
_ORDER = frozenset({"", ";", "\n", "&&", "&"})
# How an instance learns its rank: our variables, those of platforms and launchers, its own name.
_PLACE = re.compile(
    r"\b(?:\w*_)?(?:RANK(?:_ID|_IP)?|INDEX|NODEID|PROCID|PROCESS_ID|ORDINAL)\b|\b(?:HOSTNAME|POD_NAME|POD_IP|hostname)\b"
)
_NAME = re.compile(r"[A-Za-z_]\w*")
_GIVEN = frozenset({"-z", "-n"})  # whether a variable is set does not depend on the rank
# What starts a Ray cluster: --ray_cluster_size, start_ray.sh.
_CLUSTER = re.compile(r"--ray[-_].+|(?:.*/)?(?:[\w.-]*[-_.])?ray(?:[-_.][\w.-]*)?\.(?:sh|py)")
_WRITERS = frozenset({"cp", "mv", "ln", "install", "tee", "sed", "yq", "curl", "wget", "python", "python3"})
_SUBSTITUTED = re.compile(r'(?:\$\((?!\()|`).*?("?)$', re.DOTALL)
_NAMED_NEXT = frozenset({"serve", "api_server", "trtllm-serve"})  # the model, mostly by a variable
EngineTest = Callable[[tuple[str, ...]], bool]


class Script(NamedTuple):
    """A readable shell script.

    Attributes:
        argv: its name and its arguments.

    """

    text: str
    argv: tuple[str, ...]

    @property
    def as_text(self) -> tuple[str, ...]:
        """The command line that gives its text to a shell."""
        return ("sh", "-c", self.text, *self.argv)


def read_script(argv: Sequence[str], folder: str | None) -> Script | None:
    """Read the shell script that a command runs; None if it is not one, or unreadable.

    Args:
        argv: ``./serve.sh …``, or ``bash serve.sh …``.
        folder: where it runs; None if unknown.

    """
    run_by_shell = PurePosixPath(argv[0]).name in _SHELLS
    at = next((at for at in range(run_by_shell, len(argv)) if argv[at][:1] != "-"), None)
    if at is None or (folder is None and not argv[at].startswith("/")):
        return None
    try:
        with Path(folder or "/", argv[at]).open("rb") as file:
            content = file.read(_MAX_SCRIPT)
    except OSError:
        return None
    text = content.decode(errors="replace")
    is_read = (run_by_shell or _SHEBANG.match(text)) and "\0" not in text and len(content) < _MAX_SCRIPT
    return Script(text, tuple(argv[at:])) if is_read else None


def drops_flags(argv: Sequence[str], folder: str | None) -> bool:
    """Whether the command runs a shell script that uses neither its arguments nor a rank; false if it is
    unreadable.
    """
    script = read_script(argv, folder)
    return script is not None and _USED.search(script.text) is None


@dataclass(frozen=True, slots=True)
class PlainCommand:
    """A plain command.

    Attributes:
        argv: its arguments; unknown parts are ``UNKNOWN``.
        env: its environment.
        folder: its working directory; None if unknown.
        rewrite: returns the whole command line with other arguments in place of ``argv``.
        spelled: argument -> how it is written in the text; command substitutions are not quoted, since they
            may contain a secret.

    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    folder: str | None
    rewrite: Callable[[Sequence[str]], tuple[str, ...]]
    spelled: Mapping[str, str] = field(default_factory=dict)


def find_plain_command(
    argv: tuple[str, ...], env: Mapping[str, str], folder: str | None, known: EngineTest
) -> PlainCommand:
    """Find the plain command in the shell's text of ``argv``; ``known``: whether a command is an engine's.

    Raises:
        UnreadableError: there is no plain command; the text says why.

    """
    at = find_shell_text(argv)
    if at is None:
        raise UnreadableError("it has no shell text")
    text = argv[at]
    try:
        commands = list(_parse_commands(list(split_tokens(text))))
    except RecursionError:
        raise UnreadableError("its text is nested too deeply") from None
    earlier, last = _split_last(commands)
    state = ShellState(dict(env), argv[at + 1 :], folder, controlled=_has_control_flow(earlier))
    ranked = set[str]()
    certain = _judge_certainty([*earlier, last])
    for sure, (command, following) in zip(certain, itertools.pairwise([*earlier, last]), strict=False):
        _check_allowed(command, known(state.expand_argv(command)))
        _refuse_rank_dependence(command, following, ranked)
        state.apply_command(command, certain=sure)
    engine = state.expand_argv(last)
    if engine[:1] and engine[0].startswith("-"):
        raise UnreadableError("its last command begins with an option of the shell")
    spelled = {
        expanded: _SUBSTITUTED.sub(r"$(…)\1", text[word.start : word.end])
        for word in skip_prefixes(last.words)
        for expanded in state.expand_word(word)
    }
    _refuse_ambiguous_words(engine, spelled)
    _refuse_generated_config(engine, earlier, state, text)

    def rewrite(words: Sequence[str]) -> tuple[str, ...]:
        return (*argv[:at], _replace_command(text, last, state, words), *argv[at + 1 :])

    return PlainCommand(engine, state.build_environment(last), state.folder, rewrite, spelled)


def _refuse_ambiguous_words(words: Sequence[str], spelled: Mapping[str, str]) -> None:
    """Refuse an argument that may become several, or none, where options are possible."""
    for before, word in itertools.pairwise(words):
        valued = before.startswith("-") and "=" not in before
        named = before in _NAMED_NEXT and not word.startswith(WORD_LIST)
        if word.startswith(ANY_WORDS) and not valued and not named:
            problem = f"{spelled[word]} may be any number of options, which are unknown here"
            raise UnreadableError(f"{problem}: write them out instead")


def _refuse_generated_config(
    engine: Sequence[str], earlier: Sequence[SimpleCommand], state: ShellState, text: str
) -> None:
    """Refuse a file of flags that the text creates: the engine would read other content."""
    for name in (value for option, value in itertools.pairwise(engine) if option == CONFIG):
        for command in earlier:
            targets = [text[start:end] for start, end in command.redirections]
            made = [each.partition(">")[2].lstrip(">|& ").strip("'\"") for each in targets]
            made += state.expand_argv(command)[1:] if command.first in _WRITERS else ()
            if name in made:
                raise UnreadableError(f"its text creates {name} itself")


def _parse_commands(tokens: Sequence[Token]) -> Iterator[SimpleCommand]:
    before, words, redirections, depth = "", list[Word](), list[tuple[int, int]](), 0
    rest = iter(tokens)
    for token in rest:
        if isinstance(token, Word):
            words.append(token)
            continue
        if token.redirects:
            target = next(rest, None)
            if not isinstance(target, Word):
                raise UnreadableError("a redirection to nowhere")
            redirections.append((token.start, target.end))
            continue
        if words or redirections:
            yield SimpleCommand(before, tuple(words), tuple(redirections), depth)
            words, redirections, before = [], [], token.text
        elif token.text != "\n" or before == ")":  # a newline behind && or | means nothing
            before = token.text
        depth = max(0, depth + (token.text == "(") - (token.text == ")"))
    yield SimpleCommand(before, tuple(words), tuple(redirections), depth)


def _has_control_flow(commands: Sequence[SimpleCommand]) -> bool:
    """Whether a command may not run, or runs in a subshell, so that what it sets is unknown."""
    return any(
        command.first in _CONTROL
        or command.before in {"|", "(", ")"}
        or (command.before == "||" and command.first not in _HARMLESS)
        for command in commands
    )


def _split_last(commands: list[SimpleCommand]) -> tuple[list[SimpleCommand], SimpleCommand]:
    """Split off the engine's command from those before it; readers of its output are checked and dropped."""
    *rest, end = commands
    if end.words or end.redirections:
        rest.append(end)
    elif end.before not in {"", ";", "\n"}:
        raise UnreadableError("its last command is in the background or in parentheses")
    while rest and rest[-1].before in {"|", "|&"} and rest[-1].first not in _CONTROL:
        rest.pop()
    if not rest or rest[-1].before not in _ORDER or not rest[-1].words or rest[-1].depth:
        raise UnreadableError("its last command is not at the top of the text")
    *earlier, last = rest
    chain = itertools.takewhile(lambda pair: pair[1].before in {"&&", "||"}, _pair_backwards(rest))
    if any(command.first in _CONDITIONS for command, _ in chain):
        raise UnreadableError("its last command runs under a condition")
    return earlier, last


def _judge_certainty(commands: Sequence[SimpleCommand]) -> list[bool]:
    """Tell for each command whether it certainly runs: after ``&&``, if the last one depends on it or
    nothing can fail.
    """
    certainty, sure = list[bool](), True
    for command in commands:
        sure = sure or command.before != "&&"
        certainty.append(sure)
        sure = sure and _cannot_fail(command)
    chain = itertools.takewhile(lambda pair: pair[1].before == "&&", _pair_backwards(commands))
    needed = 1 + sum(1 for _ in chain)
    return certainty[:-needed] + [True] * needed


def _cannot_fail(command: SimpleCommand) -> bool:
    plain = not any(part.kind is PartKind.UNKNOWN for word in command.words for part in word.parts)
    return plain and (command.first in _ALWAYS_SUCCEED or not skip_prefixes(command.words))


def _pair_backwards(commands: Sequence[SimpleCommand]) -> Iterator[tuple[SimpleCommand, SimpleCommand]]:
    return iter(list(itertools.pairwise(commands))[::-1])


def _check_allowed(command: SimpleCommand, engine: bool) -> None:
    words = [word for word in skip_prefixes(command.words) if word.literal != "exec"]
    if engine:
        raise UnreadableError("an engine's command comes before its last one")
    if words and any(word.literal == "exec" for word in command.words):
        raise UnreadableError("exec may replace it with another program")
    if any(_CLUSTER.fullmatch("".join(part.text for part in word.parts)) for word in words):
        raise UnreadableError("it starts its own Ray cluster")


def _refuse_rank_dependence(command: SimpleCommand, following: SimpleCommand, ranked: set[str]) -> None:
    """Refuse what depends on the rank; ``ranked`` are the variables derived from the rank so far."""
    text = " ".join(part.text for word in command.words for part in word.parts)
    match = _PLACE.search(text)
    name = match[0] if match else next((name for name in _NAME.findall(text) if name in ranked), None)
    if name is None:
        return
    if _is_condition(command, following):
        raise UnreadableError(f"its control flow depends on {name}")
    ranked |= {word.parts[0].text.partition("=")[0] for word in command.words if is_assignment(word)}


def _is_condition(command: SimpleCommand, following: SimpleCommand) -> bool:
    """Whether other commands run depends on this one."""
    words = [word.literal for word in skip_prefixes(command.words)]
    if words[1:2] and words[1] in _GIVEN and len(words) <= len(("[", "-n", "NAME", "]")):
        return False
    decided = following.before == "||" and following.first not in _HARMLESS
    conditional = {command.first, *words[:1]} & _CONDITIONS or words[-1:] in (["]"], ["]]"])
    return bool(conditional) or decided or command.before in {"(", ")"}


def _replace_command(text: str, command: SimpleCommand, state: ShellState, words: Sequence[str]) -> str:
    """Rewrite the command: assignments, its own words unchanged, others quoted, redirections."""
    start, end = command.span
    written = [(fields[0], group) for fields, group in _group_words(command, state) if len(fields) == 1]
    made = [text[word.start : word.end] for word in command.words[: -len(skip_prefixes(command.words))]]
    for expanded in words:
        replacement = next((pair for pair in written if pair[0] == expanded), None)
        if replacement is not None:  # the next equal word may be written differently: ~ "~"
            written.remove(replacement)
            made += [text[word.start : word.end] for word in replacement[1]]
        elif UNKNOWN in expanded:
            raise UnreadableError("a word that only the shell can expand would have to move")
        else:
            made.append(shlex.quote(expanded))
    made += [text[one:other] for one, other in command.redirections]
    return text[:start] + " ".join(made) + text[end:]


def _group_words(command: SimpleCommand, state: ShellState) -> list[tuple[list[str], list[Word]]]:
    """Group each word's expansion with the word and the empty ones after it, which stay in place."""
    groups = list[tuple[list[str], list[Word]]]()
    for word in skip_prefixes(command.words):
        fields = state.expand_word(word)
        if fields or not groups:
            groups.append((fields, [word]))
        else:
            groups[-1][1].append(word)
    return groups
