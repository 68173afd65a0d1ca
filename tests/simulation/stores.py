"""The store of a simulated world: one server, or for a while an old and a new primary, with their trouble."""

from __future__ import annotations

from collections import deque
from random import Random
from typing import TYPE_CHECKING

from tests.fakestore import Board, StoreState
from unitagent.core.actions import Exchange
from unitagent.core.model import Order, OrderKind, Reply
from unitagent.core.spares import Standby

if TYPE_CHECKING:
    from tests.simulation.instance import Instance

_MOMENTS = 64  # snapshots that are kept
_EPOCH = 1e6  # seconds; a server's clock may be set back, and not before its beginning
KEYS = ("record", "holder", "beat", "generation", "failure", "order", "born")


class Boards:
    """What can be reached of the store, and from where.

    Attributes:
        down: nobody reaches it.
        cut: machines that cannot reach it.
        deaf: machines that its answers do not reach.
        stale: machines that still talk to the old primary of a split.
        lost_at: when the store last lost what it had acknowledged.
        losses: each time that it did.
        losing: the machines that stayed with the old primary in the last split, at ``split_at``.
        joined_at: when the last split ended.
        shift: seconds by which the server's clock is wrong.
        words: when each incarnation's last word came.
        returned: when each incarnation's first word since ``lost_at`` came.

    """

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.main = StoreState()
        self.old: StoreState | None = None
        self.down = False
        self.cut: set[str] = set()
        self.deaf: set[str] = set()
        self.stale: set[str] = set()
        self.lost_at = self.joined_at = self.split_at = float("-inf")
        self.losses: list[float] = []
        self.losing: frozenset[str] = frozenset()
        self.shift = 0.0
        self.words: dict[str, float] = {}
        self.returned: dict[str, float] = {}
        self._replica: Board = self.main.copy()
        self._moments: deque[Board] = deque(maxlen=_MOMENTS)

    def of(self, host: str) -> StoreState | None:
        """The server that this machine talks to."""
        if self.down or host in self.cut:
            return None
        return self.old if self.old is not None and host in self.stale else self.main

    def note_container(self, one: Instance) -> None:
        """A container starts; the store is elsewhere."""

    def is_main(self, host: str) -> bool:
        """Whether this machine talks to the one server that counts."""
        return not self.down and host not in self.cut and (self.old is None or host not in self.stale)

    def exchange(
        self, one: Instance, rank: int | None, request: Exchange, count: int, now: float
    ) -> Reply | None:
        """The answer; None when the store cannot be reached."""
        server = self.of(one.host)
        if server is None:
            return None
        self.words[one.incarnation] = now
        self.returned.setdefault(one.incarnation, now)
        return server.exchange(rank, one.incarnation, request, self._clock(now), count)[0]

    def list_spare(
        self, one: Instance, mine: Standby, fresh: float, now: float
    ) -> tuple[Standby, ...] | None:
        """A spare writes its line, and reads all; None when the store cannot be reached."""
        server = self.of(one.host)
        if server is None:
            return None
        server.put_spare(mine, fresh, self._clock(now))
        return server.list_spares(self._clock(now))

    def unlist_spare(self, one: Instance, mine: Standby) -> None:
        """It has a rank."""
        server = self.of(one.host)
        if server is not None:
            server.remove_spare(mine)

    def _clock(self, now: float) -> float:
        """What the server takes for the time."""
        return _EPOCH + now + self.shift

    def are_apart(self, one: str, other: str) -> bool:
        """Whether these machines talk to the two sides of a split."""
        here, there = self.of(one), self.of(other)
        return None not in (here, there) and here is not there

    def are_together(self, one: str, other: str) -> bool:
        """Whether a push from one machine reaches the other."""
        server = self.of(one)
        return server is not None and server is self.of(other)

    def order(self, kind: OrderKind, now: float, seconds: float = 0.0) -> Order:
        """An operator's wish about the generation that the store knows."""
        return self.main.order(Order(kind=kind, generation=0, seconds=seconds), self._clock(now))

    # what it remembers

    def remember(self) -> None:
        """One more moment to which it may come back."""
        self._moments.append(self.main.copy())

    def copy_to_replica(self) -> None:
        """The replica has everything up to now."""
        self._replica = self.main.copy()

    def fail_over(self, now: float) -> None:
        """The replica takes over: what was written since then is lost."""
        self.fall_back(self._replica, now)

    def set_back(self, now: float) -> None:
        """It comes back as it was at some earlier moment: a dump, a backup, a replica that had stopped."""
        moment = self.rng.choice(self._moments) if self._moments else Board()
        self.fall_back(moment, now)

    def wipe(self, now: float) -> None:
        """It restarts empty."""
        self.fall_back(Board(), now)

    def forget(self, keys: dict[str, tuple[int, ...]], now: float) -> None:
        """It loses single keys: of a kind, and of these ranks where each rank has one."""
        board = self.main.copy()
        for key, ranks in keys.items():
            if key == "record":
                board.records = {rank: one for rank, one in board.records.items() if rank not in ranks}
            elif key == "holder":
                board.holders = {rank: one for rank, one in board.holders.items() if rank not in ranks}
            elif key == "beat":
                board.beats = {rank: one for rank, one in board.beats.items() if rank not in ranks}
            elif key == "generation":
                board.generation = 0
            elif key == "failure":
                board.failure = None
            elif key == "order":
                board.order = None
            elif key == "born":
                board.born = None
        self.fall_back(board, now)

    def fall_back(self, board: Board, now: float) -> None:
        """It goes on with this one."""
        self.lost_at = now
        self.losses.append(now)
        self.returned.clear()
        self.main.restore(board)

    # a split

    def split(self, stale: set[str], now: float) -> None:
        """The replica takes over for all but these machines."""
        self.old, self.stale = self.main, stale
        self.losing, self.split_at = frozenset(stale), now
        self.main = StoreState()
        self.fall_back(self.old.copy(), now)

    def join(self, now: float) -> None:
        """The old primary gives up, and its writes are lost."""
        if self.old is not None:
            self.joined_at = self.lost_at = now
            self.losses.append(now)
        self.old, self.stale = None, set()

    def heal(self, now: float) -> None:
        """Everybody reaches the one server."""
        self.down = False
        self.cut.clear()
        self.deaf.clear()
        self.join(now)
