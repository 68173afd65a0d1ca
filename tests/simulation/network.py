"""Machines, their addresses, and which of them can talk to each other.

The invariant: an address is no identity. Two machines may have the same one (a bridge's, on each of them):
each reaches itself there, and everybody else reaches the one that the network routes to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.instance import Instance


class Network:
    """Who is where. A host is a machine's name; what runs on it is at its address.

    Attributes:
        torn: some pair of machines cannot talk while both can talk to others.

    """

    def __init__(self) -> None:
        self._at: dict[str, list[Instance]] = {}
        self._lost: set[str] = set()
        self._apart: set[str] = set()
        self._pairs: set[frozenset[str]] = set()
        self._refusing: set[str] = set()

    def add_listener(self, one: Instance) -> None:
        """It listens at its address."""
        self._at.setdefault(one.ip, []).append(one)

    def find_answerer(self, asker: Instance, ip: str) -> Instance | None:
        """Who answers at this address, seen from this machine; a frozen agent answers nobody."""
        there = self.find_listener(asker, ip)
        return None if there is None or there.paused else there

    def find_listener(self, asker: Instance, ip: str) -> Instance | None:
        """Who accepts a connection to this address from this machine: also an agent that is frozen."""
        host = self._find_host(asker, ip)
        if host is None or not self.are_linked(asker.host, host):
            return None
        return next((one for one in self._at[ip] if one.host == host and one.alive), None)

    def is_reachable(self, asker: Instance, ip: str) -> bool:
        """Whether packets reach a machine at this address, be it only to be refused."""
        host = self._find_host(asker, ip)
        refused = host in self._refusing and asker.host not in self._apart
        return host is not None and (refused or self.are_linked(asker.host, host))

    def _find_host(self, asker: Instance, ip: str) -> str | None:
        """The machine that has this address, for this one: itself, or the first where somebody lives."""
        placed = self._at.get(ip, [])
        if asker.ip == ip or not placed:
            return asker.host if asker.ip == ip else None
        return next((one.host for one in placed if one.alive), placed[-1].host)

    def are_linked(self, one: str, other: str) -> bool:
        """Whether packets go from one machine to the other and back."""
        if one == other:
            return True
        if other in self._lost or one in self._apart or other in self._apart:
            return False
        return not self._pairs or frozenset((one, other)) not in self._pairs

    @property
    def torn(self) -> bool:
        """See the class."""
        return bool(self._pairs)

    def lose(self, host: str) -> None:
        """The machine is dead, and nothing comes from it any more."""
        self._lost.add(host)

    def cut_machine(self, host: str) -> None:
        """Cut a machine off from all others."""
        self._apart.add(host)

    def reject_machine(self, host: str) -> None:
        """Cut a machine off from all others by a firewall that rejects: whoever asks is refused."""
        self._apart.add(host)
        self._refusing.add(host)

    def reconnect_machine(self, host: str) -> None:
        """Undo ``sever`` and ``quarantine``."""
        self._apart.discard(host)
        self._refusing.discard(host)

    def is_cut(self, host: str) -> bool:
        """Whether this machine is cut off from all others."""
        return host in self._apart

    def sever_pair(self, one: str, other: str) -> None:
        """Cut two machines off from each other."""
        if one != other:
            self._pairs.add(frozenset((one, other)))

    def heal(self) -> None:
        """Everybody that lives reaches everybody."""
        self._apart.clear()
        self._refusing.clear()
        self._pairs.clear()
