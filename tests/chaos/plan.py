"""Which faults come when: every kind once before any comes again, so that few rounds have all of them.

The same plan gives the same schedule, whatever the Unit does meanwhile.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos.faults import KINDS, may_meet

SIZE = 4
Drawn = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do.

    Attributes:
        kinds: faults to choose from.
        pairs: share of the rounds that strike two faults.
        sabotage: name of what is broken in the agents on purpose; empty for nothing.
        back: seconds in which a Unit without faults has to be ready.

    """

    rounds: int
    seed: int
    kinds: Sequence[str] = tuple(KINDS)
    pairs: float = 0.4
    sabotage: str = ""
    back: float = 60.0


USUAL = Plan(rounds=30, seed=20)


def schedule(plan: Plan) -> list[list[Drawn]]:
    """The faults of each round, with their ranks."""
    chance = random.Random(plan.seed)
    deck = _Deck(plan.kinds, chance)
    rounds = []
    for _ in range(plan.rounds):
        ranks = chance.sample(range(SIZE), 2)
        first = deck.deal()
        second = deck.deal(beside=first) if chance.random() < plan.pairs else ""
        rounds.append([(kind, rank) for kind, rank in zip((first, second), ranks, strict=True) if kind])
    return rounds


class _Deck:
    def __init__(self, kinds: Sequence[str], chance: random.Random) -> None:
        self._kinds = kinds
        self._chance = chance
        self._cards: list[str] = []

    def deal(self, beside: str = "") -> str:
        """The next kind that may come together with this one; empty when there is none."""
        found = self._first(beside)
        if not found:
            self._cards += self._chance.sample(self._kinds, len(self._kinds))
            found = self._first(beside)
        if found:
            self._cards.remove(found)
        return found

    def _first(self, beside: str) -> str:
        return next((kind for kind in self._cards if not beside or may_meet(kind, beside)), "")
