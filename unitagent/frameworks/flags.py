"""The flags a user wrote, in every spelling that argparse and click accept, and the ones that are completer.

The invariant: a flag that is there is never added, changed or moved. One that says something else than the
Unit is an error, all of them told at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unitagent.errors import ConfigurationError
from unitagent.frameworks.command import require_known


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag: ``--node-rank 1``, ``--node-rank=1``, ``--node_rank 1``, ``-r 1``, ``-r=1``, ``-r1``.

    Attributes:
        name: as it is added.
        aliases: other names of the same thing.
        variable: read by the engine where the flag is completer.

    """

    name: str
    aliases: tuple[str, ...] = ()
    variable: str = ""

    def read_value(self, words: Sequence[str]) -> str | None:
        """Return what the last one says; empty if it says nothing, None if it is not there.

        Raises:
            UntoldError: it is there, and what it says cannot be told.

        """
        text = self.read_text(words)
        return None if text is None else require_known(self.name, text)

    def read_text(self, words: Sequence[str]) -> str | None:
        """Return what the last one says, untold or not; None if it is not there."""
        found = [self._match_word(word, words[at + 1 : at + 2]) for at, word in enumerate(words)]
        return next((text for text in reversed(found) if text is not None), None)

    def read_number(self, words: Sequence[str]) -> int | None:
        """Return the value as a number; None if it is missing or none."""
        text = self.read_value(words) or ""
        return int(text) if text.isascii() and text.isdigit() else None

    def equals(self, words: Sequence[str], text: str) -> bool:
        """Whether it is there and plainly says this."""
        return self.read_text(words) == text

    def is_set(self, words: Sequence[str]) -> bool:
        """Whether it is there at all."""
        return self.read_text(words) is not None

    def _match_word(self, word: str, following: Sequence[str]) -> str | None:
        name, equals, text = word.partition("=")
        names = {_normalize_name(each) for each in (self.name, *self.aliases)}
        if _normalize_name(name) in names:
            return text if equals else "".join(following)
        attached = word[:2] in names and len(word[:2]) == 2 and word[2:].isdigit()  # noqa: PLR2004 (a letter)
        return word[2:] if attached else None


class FlagCompleter:
    """Collects the flags that a command still needs, and what is wrong with those it has."""

    def __init__(self, words: Sequence[str], env: Mapping[str, str]) -> None:
        """Remember what the user said: the engine's own ``words``, and its variables in ``env``."""
        self._words = tuple(words)
        self._env = env
        self._added: list[str] = []
        self._problems: list[str] = []
        self.origins: dict[str, str] = {}

    def add_default(self, flag: Flag, value: object, why: str) -> None:
        """Add a flag unless the user said something about it."""
        if not flag.is_set(self._words) and self._find_stated(flag, str(value)) is None:
            self._added += [flag.name, str(value)]
            self.origins[flag.name] = why

    def add_switch(self, flag: Flag, why: str) -> None:
        """Add a flag that takes no value."""
        if not flag.is_set(self._words):
            self._added.append(flag.name)
            self.origins[flag.name] = why

    def override_value(self, flag: Flag, value: object, why: str) -> None:
        """Add a flag behind the user's own, which this rank's engine would refuse; the last one counts."""
        if flag.is_set(self._words) and not flag.equals(self._words, str(value)):
            self._added += [flag.name, str(value)]
            self.origins[flag.name] = why

    def require_value(self, flag: Flag, value: int, fact: str, remedy: str = "") -> None:
        """Add a flag; what the user said about it has to be the same number."""
        said = self._find_stated(flag, str(value))
        if said is not None and not _admits_value(said[1], value):
            other = f" or write {remedy}" if remedy and said[0].startswith("-") else ""
            self.add_problem(f"{said[0]}: {fact}; leave it out{other}")
        self.add_default(flag, value, f"{fact[0].upper()}{fact[1:]}.")

    def add_problem(self, text: str) -> None:
        """Note something impossible."""
        self._problems.append(text)

    def build_words(self) -> tuple[str, ...]:
        """Return what to add.

        Raises:
            ConfigurationError: something impossible was noted.

        """
        if self._problems:
            raise ConfigurationError(*self._problems)
        return tuple(self._added)

    def _find_stated(self, flag: Flag, ours: str) -> tuple[str, str] | None:
        text = flag.read_value(self._words)
        if text is not None:
            return f"{flag.name} {text}", text
        text = require_known(flag.variable, self._env.get(flag.variable, "")) if flag.variable else ""
        # The workload's environment already offers our own value there: that is nobody's word.
        return (f"{flag.variable}={text}", text) if text not in ("", ours, ours.strip("[]")) else None


def _admits_value(text: str, value: int) -> bool:
    """Whether ``2`` or a range such as torchrun's ``1:4`` admits ``value``."""
    ends = text.split(":")
    if not all(end.isascii() and end.isdigit() for end in ends):
        return False
    return int(ends[0]) <= value <= int(ends[-1])


def _normalize_name(name: str) -> str:
    return name.replace("_", "-") if name.startswith("--") else name
