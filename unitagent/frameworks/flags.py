"""The user's flags, in every spelling that argparse and click accept, and the missing ones.

The invariant: a flag that is set is never added, changed or moved. Flags that contradict the Unit are errors,
which are all reported at once.
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
        name: the spelling that is added.
        aliases: other names.
        variable: read by the engine if the flag is missing.

    """

    name: str
    aliases: tuple[str, ...] = ()
    variable: str = ""

    def read_value(self, words: Sequence[str]) -> str | None:
        """Return the value of the last one; empty without a value, None if it is not set.

        Raises:
            UnreadableError: it is set, but its value is unknown.

        """
        text = self.read_text(words)
        return None if text is None else require_known(self.name, text)

    def read_text(self, words: Sequence[str]) -> str | None:
        """Return the value of the last one, even an unknown one; None if it is not set."""
        matches = [self._match_word(word, words[at + 1 : at + 2]) for at, word in enumerate(words)]
        return next((text for text in reversed(matches) if text is not None), None)

    def read_number(self, words: Sequence[str]) -> int | None:
        """Return the value as a number; None if it is missing or not a number."""
        text = self.read_value(words) or ""
        return int(text) if text.isascii() and text.isdigit() else None

    def equals(self, words: Sequence[str], text: str) -> bool:
        """Whether it is set to exactly this."""
        return self.read_text(words) == text

    def is_set(self, words: Sequence[str]) -> bool:
        """Whether it is set at all."""
        return self.read_text(words) is not None

    def _match_word(self, word: str, following: Sequence[str]) -> str | None:
        name, equals, text = word.partition("=")
        names = {_normalize_name(each) for each in (self.name, *self.aliases)}
        if _normalize_name(name) in names:
            return text if equals else "".join(following)
        attached = word[:2] in names and len(word[:2]) == 2 and word[2:].isdigit()  # noqa: PLR2004 (a letter)
        return word[2:] if attached else None


class FlagCompleter:
    """Collects the flags that a command still needs, and the problems of those it has."""

    def __init__(self, words: Sequence[str], env: Mapping[str, str]) -> None:
        """Remember the engine's own ``words`` and the variables in ``env``."""
        self._words = tuple(words)
        self._env = env
        self._added: list[str] = []
        self._problems: list[str] = []
        self.origins: dict[str, str] = {}

    def add_default(self, flag: Flag, value: object, why: str) -> None:
        """Add a flag unless the user has set it."""
        if not flag.is_set(self._words) and self._find_stated(flag, str(value)) is None:
            self._added += [flag.name, str(value)]
            self.origins[flag.name] = why

    def add_switch(self, flag: Flag, why: str) -> None:
        """Add a flag that takes no value."""
        if not flag.is_set(self._words):
            self._added.append(flag.name)
            self.origins[flag.name] = why

    def override_value(self, flag: Flag, value: object, why: str) -> None:
        """Repeat the user's flag with a value that this rank's engine accepts; the last one counts."""
        if flag.is_set(self._words) and not flag.equals(self._words, str(value)):
            self._added += [flag.name, str(value)]
            self.origins[flag.name] = why

    def require_value(self, flag: Flag, value: int, fact: str, remedy: str = "") -> None:
        """Add a flag; the user's own value must be the same number."""
        stated = self._find_stated(flag, str(value))
        if stated is not None and not _admits_value(stated[1], value):
            other = f" or write {remedy}" if remedy and stated[0].startswith("-") else ""
            self.add_problem(f"{stated[0]}: {fact}; leave it out{other}")
        self.add_default(flag, value, f"{fact[0].upper()}{fact[1:]}.")

    def add_problem(self, text: str) -> None:
        """Record a problem."""
        self._problems.append(text)

    def build_words(self) -> tuple[str, ...]:
        """Return the flags to add.

        Raises:
            ConfigurationError: problems were recorded.

        """
        if self._problems:
            raise ConfigurationError(*self._problems)
        return tuple(self._added)

    def _find_stated(self, flag: Flag, ours: str) -> tuple[str, str] | None:
        text = flag.read_value(self._words)
        if text is not None:
            return f"{flag.name} {text}", text
        text = require_known(flag.variable, self._env.get(flag.variable, "")) if flag.variable else ""
        # The workload's environment already has our own value there, which the user did not set.
        return (f"{flag.variable}={text}", text) if text not in ("", ours, ours.strip("[]")) else None


def _admits_value(text: str, value: int) -> bool:
    """Whether ``2`` or a range such as torchrun's ``1:4`` admits ``value``."""
    ends = text.split(":")
    if not all(end.isascii() and end.isdigit() for end in ends):
        return False
    return int(ends[0]) <= value <= int(ends[-1])


def _normalize_name(name: str) -> str:
    return name.replace("_", "-") if name.startswith("--") else name
