"""The store of a simulated world: one server, or for a while an old and a new primary, with their trouble."""

from __future__ import annotations

from random import Random

from tests.fakestore import Board, StoreState
from unitagent.core.actions import Exchange
from unitagent.core.model import Order, OrderKind, Reply

TIMEOUT = 1.8  # seconds; lease > heartbeat + 2 x this, as the settings demand


class Boards:
    """What can be reached of the store, and from where.

    Attributes:
        down: nobody reaches it.
        cut: addresses that cannot reach it.
        stale: addresses that still talk to the old primary of a split.

    """

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.main = StoreState()
        self.old: StoreState | None = None
        self.down = False
        self.cut: set[str] = set()
        self.stale: set[str] = set()
        self.replica: Board = self.main.copy()

    def of(self, ip: str) -> StoreState | None:
        """The server that this address talks to."""
        if self.down or ip in self.cut:
            return None
        return self.old if self.old is not None and ip in self.stale else self.main

    def exchange(self, ip: str, rank: int, incarnation: str, request: Exchange, now: float) -> Reply | None:
        """The answer; None when the store cannot be reached."""
        server = self.of(ip)
        return None if server is None else server.exchange(rank, incarnation, request, now)[0]

    def together(self, one: str, other: str) -> bool:
        """Whether a push of one reaches the other."""
        server = self.of(one)
        return server is not None and server is self.of(other)

    def replicate(self) -> None:
        """The replica has everything up to now."""
        self.replica = self.main.copy()

    def fail_over(self) -> None:
        """The replica takes over: what was written since then is lost."""
        self.main.restore(self.replica)

    def split(self, stale: set[str]) -> None:
        """The replica takes over for all but these addresses."""
        self.old, self.stale = self.main, stale
        self.main = StoreState()
        self.main.restore(self.old.copy())
        self.main._counts = self.old._counts  # each agent's own, whichever server it talks to

    def join(self) -> None:
        """The old primary gives up, and its writes are lost."""
        self.old, self.stale = None, set()

    def heal(self) -> None:
        """Everybody reaches the one server."""
        self.down = False
        self.cut.clear()
        self.join()

    def order(self, kind: OrderKind, now: float) -> None:
        """An operator's wish about the generation that the store knows."""
        self.main.order(Order(kind=kind, generation=0), now)
