"""The store of a Unit that was given none: it begins empty with rank 0's container, and ends with it.

Whoever has found one stays with it while it answers, and looks then where rank 0's name leads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fakestore import StoreState
from tests.simulation.stores import Boards

if TYPE_CHECKING:
    from tests.simulation.instance import Instance
    from tests.simulation.world import World


class Embedded(Boards):
    """A server for each life of rank 0's container; the last one is the one that counts."""

    def __init__(self, world: World) -> None:
        super().__init__(world.rng)
        self._world = world
        self._leaders: list[Instance] = []
        self._servers: dict[str, StoreState] = {}
        self._found: dict[str, Instance] = {}

    def note_container(self, one: Instance) -> None:
        """Rank 0's container brings an empty server."""
        if one.slot == 0:
            self._leaders.append(one)
            self._servers[one.incarnation] = self.main = StoreState()
            self.lost_at = self.joined_at = self._world.now
            self.losses.append(self.lost_at)

    def of(self, host: str) -> StoreState | None:
        """The server on this machine, else the one that it has found."""
        here = next((one for one in reversed(self._leaders) if one.host == host and one.alive), None)
        if self.down or (host in self.cut and here is None):
            return None
        known = self._found.get(host)
        if here is None and (known is None or not self._is_reached(host, known)):
            known = self._leaders[-1] if self._leaders else None
        leader = here or known
        if leader is None or not self._is_reached(host, leader):
            return None
        self._found[host] = leader
        return self._servers[leader.incarnation]

    def _is_reached(self, host: str, leader: Instance) -> bool:
        return leader.alive and self._world.network.are_linked(host, leader.host)

    def is_main(self, host: str) -> bool:
        """Whether this machine talks to the last one."""
        return self.of(host) is self.main
