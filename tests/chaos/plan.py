"""Which faults come when: every kind once before any comes again, so that few rounds have all of them.

The same plan gives the same schedule, whatever the Unit does meanwhile.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.chaos.faults import KINDS, may_meet
from unitagent.core.timing import BEATS, LEAST_HEARTBEAT, LEAST_LEASE, Timing

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
        each: rounds for each Unit; then the next is formed, with a lease and a heartbeat of its own.
        timing: the lease and the heartbeat of all Units; None to draw them.

    """

    rounds: int
    seed: int
    kinds: Sequence[str] = tuple(KINDS)
    pairs: float = 0.4
    sabotage: str = ""
    back: float = 60.0
    each: int = 10
    timing: tuple[float, float] | None = None


USUAL = Plan(rounds=30, seed=20, kinds=tuple(KINDS))


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


def timings(plan: Plan) -> Iterator[Timing]:
    """The timing of each Unit."""
    chance = random.Random(f"timings of {plan.seed}")
    while True:
        lease, heartbeat = draw(chance)
        yield Timing.from_lease(*(plan.timing or (lease, heartbeat)))


# Leases are drawn between these, so often: the first ends below what a busy machine is late by now and then.
_LEASES = ((LEAST_LEASE, 2.0, 1), (2.0, 6.0, 7), (6.0, 12.0, 2))


def draw(chance: random.Random) -> tuple[float, float]:
    """A lease and a heartbeat out of all that are accepted, the extreme heartbeats among them."""
    shortest, longest, _ = chance.choices(_LEASES, [weight for *_, weight in _LEASES])[0]
    lease = round(chance.uniform(shortest, longest), 2)
    between = round(math.exp(chance.uniform(math.log(LEAST_HEARTBEAT), math.log(lease / BEATS))), 2)
    heartbeat = chance.choices((LEAST_HEARTBEAT, between, lease / BEATS), (1, 4, 1))[0]
    return lease, max(LEAST_HEARTBEAT, min(heartbeat, lease / BEATS))


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
