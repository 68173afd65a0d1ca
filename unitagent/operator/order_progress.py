"""When a Unit has done what it was asked to, as an onlooker may believe the store.

The invariant: a rank that has been silent for long enough holds nothing up. A store that knows nothing, or
that ended with the Unit, proves nothing before it has been so for as long; one that is away never does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitagent.core.model import InstanceState, OrderKind

if TYPE_CHECKING:
    from unitagent.core.model import Order
    from unitagent.store.protocol import UnitSnapshot

STOP_MARGIN = 2.0  # seconds after its lease, when an agent that is cut off has stopped its workload


class OrderProgress:
    """What came of one order; ``now`` is always seconds of our own monotonic clock.

    Args:
        lease: of the Unit's ranks, in seconds.
        now: when the order was given.
        started: the Unit ran then; else its start in that very generation fulfils an order to restart.

    Attributes:
        quiet: seconds after which whoever says nothing is gone.

    """

    def __init__(self, order: Order, lease: float, now: float, *, started: bool = True) -> None:
        self._order = order
        self._least = order.generation + started
        self.quiet = lease + STOP_MARGIN
        self._known = now  # when the store last told of any rank

    def observe_snapshot(self, snapshot: UnitSnapshot | None, now: float) -> bool:
        """Take in what the store tells, None for nothing; returns whether it is done."""
        if snapshot is not None and snapshot.records:
            self._known = now
            drains = self._order.kind is OrderKind.DRAIN
            return self._all_drained(snapshot) if drains else self._all_restarted(snapshot)
        return self._order.kind is OrderKind.DRAIN and now - self._known > self.quiet

    def note_outage(self, now: float) -> None:
        """The store is away; it has as long again to tell of somebody."""
        self._known = now

    def _all_drained(self, snapshot: UnitSnapshot) -> bool:
        """Whether every rank has left, or is gone."""
        ages = snapshot.ages
        return all(
            record.left or ages.get(rank, self.quiet) >= self.quiet
            for rank, record in snapshot.records.items()
        )

    def _all_restarted(self, snapshot: UnitSnapshot) -> bool:
        """Whether all ranks serve in a generation that is new; those of a former size count for nothing."""
        leader = snapshot.records.get(0)
        if leader is None or leader.state is not InstanceState.HEALTHY:
            return False
        standing = [snapshot.records.get(rank) for rank in range(leader.size)]
        return all(
            one is not None and one.generation >= self._least and one.state.serving for one in standing
        )
