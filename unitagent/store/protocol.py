"""What the agent requires of a store: a membership table that holds the records of one Unit.

The invariant: nobody relies on the store's memory. It may be wiped, replaced or set back at any moment;
each answer is one atomic snapshot of what it holds then, and agents rewrite whatever it loses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from unitagent.core.actions import Exchange
    from unitagent.core.model import Failure, Order, Record, Reply
    from unitagent.core.spares import Standby


class UnitSnapshot(Struct, frozen=True, kw_only=True):
    """One Unit as an operator sees it, without taking part.

    Attributes:
        generation: the highest that the store knows; 0 for none.
        records: of all ranks that ever joined and that the store remembers.
        ages: rank -> seconds since its last heartbeat, by the clock of the store's server.
        failure: the first failure of the last generation that failed.
        order: the last operator's order.
        age: seconds since the store first heard of the Unit; None when it never did.
        now: the store's clock, in seconds since its epoch.
        unlike: ranks whose records are not signed with exactly the reader's secrets.
        foreign: those of them whose records are signed with none of them.

    """

    generation: int
    records: Mapping[int, Record]
    ages: Mapping[int, float]
    failure: Failure | None = None
    order: Order | None = None
    age: float | None = None
    now: float = 0.0
    unlike: frozenset[int] = frozenset()
    foreign: frozenset[int] = frozenset()


class WorkloadOutput(Struct, frozen=True, kw_only=True):
    """The last lines that a failing workload wrote to its stderr."""

    generation: int
    rank: int
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where traffic for a Unit goes, as its rank 0 publishes it.

    Attributes:
        service: that the Unit belongs to; its own name when nobody grouped it.
        ip: rank 0's address on the chosen network interface.
        port: where its workload takes user traffic; 0 when that is not known.
        probe_port: of its agent; 0 for none.
        traffic: whether ``/traffic`` is 200.
        lease: seconds after which this expires, unless it is published again.
        phase: what the Unit is doing; empty if unknown.
        at: when this was published: milliseconds of the server's clock, as rank 0 knows it.

    """

    unit: str
    service: str
    incarnation: str
    generation: int
    ip: str
    port: int
    probe_port: int
    traffic: bool
    lease: float
    revision: str = ""
    phase: str = ""
    at: int = field(default=0, compare=False)


class RegistryRecord(Struct, frozen=True):
    """An entry as it hangs in the store, and when it was put there, or signed: seconds of the server's
    clock.
    """

    at: float
    entry: Endpoint


class RegistrySnapshot(Struct, frozen=True):
    """All entries by Unit, and the seconds of the server's clock when they were read.

    Attributes:
        proven: each is signed, with its time; else whoever writes to the store says when it was put there.

    """

    now: float
    units: Mapping[str, RegistryRecord]
    proven: bool = False


class SpareList(Protocol):
    """The list of a Unit's spares; its methods raise :class:`unitagent.errors.StoreError` as a store's."""

    async def put(self, mine: Standby, lease: float) -> tuple[Standby, ...]:
        """Write my line, unless another one has written there within ``lease`` seconds; return all lines."""

    async def remove(self, mine: Standby) -> None:
        """Remove my line."""

    async def read(self) -> tuple[Standby, ...]:
        """Return all lines, by number."""

    async def close(self) -> None:
        """Close the connection; the list can be used again afterwards."""


class Store(Protocol):
    """One Unit's membership table.

    Every method raises :class:`unitagent.errors.StoreError`, with one sentence that holds no secret, when
    the store could not be reached or refused us, and does so within the timeout given at construction.
    Nothing is retried and no outage is hidden: the agent counts unbroken contact, so it must see every break.
    """

    def set_rank(self, rank: int) -> None:
        """Set the rank that this agent claims; until then an exchange only reads."""

    async def exchange(self, request: Exchange) -> Reply:
        """Put my record and read everybody's, atomically."""

    async def listen(self, on_push: Callable[[], None]) -> None:
        """Call ``on_push`` at each wake-up by another agent; runs until cancelled, and raises nothing.

        Subscribing anew after an outage counts as a push, since one may have been missed.
        """

    async def read(self) -> UnitSnapshot:
        """Read the whole Unit and change nothing."""

    async def put_order(self, order: Order) -> Order:
        """Store an operator's order and wake all agents; returns it with its generation and number."""

    async def put_output(self, generation: int, rank: int, lines: Sequence[str]) -> None:
        """Keep what the workload last wrote; for the rank whose failure is the one kept."""

    async def read_output(self, generation: int) -> WorkloadOutput | None:
        """Return what was kept of a generation; None when nothing was, or newer ones have replaced it."""

    async def close(self) -> None:
        """Close all connections; the store can be used again afterwards."""
