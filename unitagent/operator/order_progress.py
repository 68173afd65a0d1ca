"""When a Unit has carried out an order, as far as the store can show.

The invariant: a rank that has been silent for its lease and a margin does not delay the result. An empty
store, or one that ended with the Unit, only counts as proof after the same time; an unreachable store never
does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitagent.core.model import InstanceState, OrderKind

if TYPE_CHECKING:
    from unitagent.core.model import Order
    from unitagent.store.protocol import UnitSnapshot

STOP_MARGIN = 2.0  # seconds after its lease in which an isolated agent stops its workload


class OrderProgress:
    """The progress of one order; ``now`` is always in seconds of our own monotonic clock.

    Args:
        lease: of the Unit's ranks, in seconds.
        now: when the order was given.
        started: the Unit was running then; if not, its start in that same generation fulfils an order to
            restart.

    Attributes:
        quiet: seconds of silence after which a rank counts as gone.

    """

    def __init__(self, order: Order, lease: float, now: float, *, started: bool = True) -> None:
        self._order = order
        self._least = order.generation + started
        self.quiet = lease + STOP_MARGIN
        self._known = now  # when the store last had a record of any rank

    def observe_snapshot(self, snapshot: UnitSnapshot | None, now: float) -> bool:
        """Record the store's content (None if there is none) and return whether the order is done."""
        if snapshot is not None and snapshot.records:
            self._known = now
            drains = self._order.kind is OrderKind.DRAIN
            return self._all_drained(snapshot) if drains else self._all_restarted(snapshot)
        return self._order.kind is OrderKind.DRAIN and now - self._known > self.quiet

    def note_outage(self, now: float) -> None:
        """Record that the store is unreachable; the wait for a record starts again."""
        self._known = now

    def _all_drained(self, snapshot: UnitSnapshot) -> bool:
        """Whether every rank has left or is gone."""
        ages = snapshot.ages
        return all(
            record.left or ages.get(rank, self.quiet) >= self.quiet
            for rank, record in snapshot.records.items()
        )

    def _all_restarted(self, snapshot: UnitSnapshot) -> bool:
        """Whether all ranks serve in a new generation; ranks beyond the current size are ignored."""
        leader = snapshot.records.get(0)
        if leader is None or leader.state is not InstanceState.HEALTHY:
            return False
        standing = [snapshot.records.get(rank) for rank in range(leader.size)]
        return all(
            one is not None and one.generation >= self._least and one.state.serving for one in standing
        )
