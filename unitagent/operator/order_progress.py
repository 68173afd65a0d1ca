"""How far a Unit has carried out an order, as the store shows it.

The invariant: a rank that has been silent for its lease and a margin does not delay the result. An empty
store, or one that ended with the Unit, only counts as proof after the same time; an unreachable store never
does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitagent.core.model import InstanceState, OrderKind, format_ranks

if TYPE_CHECKING:
    from collections.abc import Iterable

    from unitagent.core.model import Order, Record
    from unitagent.store.protocol import UnitSnapshot

STOP_MARGIN = 2.0  # seconds after its lease in which an isolated agent stops its workload
LOST_AFTER = 2.0  # seconds in which a rank that has read an order says so


def find_longest_lease(records: Iterable[Record], lease: float) -> float:
    """Return the longest lease in seconds; ``lease`` is that of ranks that do not publish theirs."""
    return max((record.lease or lease for record in records), default=lease)


class OrderProgress:
    """The progress of one order; ``now`` is always in seconds of our own monotonic clock.

    Args:
        lease: in seconds, of ranks that do not publish theirs.
        now: when the order was given.
        started: the Unit was running then; if not, its start in that same generation fulfils an order to
            restart.

    Attributes:
        quiet: seconds of silence after which every rank counts as gone.

    """

    def __init__(self, order: Order, lease: float, now: float, *, started: bool = True) -> None:
        self._order = order
        self._least = order.generation + started
        self._lease = lease
        self._silent: list[int] = []  # ranks that are gone, and have not said so
        self.quiet = lease + STOP_MARGIN
        self._known = now  # when the store last had a record of any rank
        self._kept = now  # when the store last showed the order, or a rank that has read it

    def observe_snapshot(self, snapshot: UnitSnapshot | None, now: float) -> bool:
        """Record the store's content (None if there is none) and return whether the order is done."""
        if snapshot is not None and snapshot.records:
            self._known = now
            self.quiet = find_longest_lease(snapshot.records.values(), self._lease) + STOP_MARGIN
            self._silent = [
                rank
                for rank, one in sorted(snapshot.records.items())
                if not one.has_left and self._is_gone(snapshot, rank)
            ]
            drains = self._order.kind is OrderKind.DRAIN
            return self._all_drained(snapshot) if drains else self._all_restarted(snapshot)
        return self._order.kind is OrderKind.DRAIN and now - self._known > self.quiet

    def is_hopeless(self, snapshot: UnitSnapshot | None) -> bool:
        """Whether no rank is left that could carry out a restart."""
        if snapshot is None or not snapshot.records or self._order.kind is OrderKind.DRAIN:
            return False
        return self._all_drained(snapshot)

    def is_lost(self, snapshot: UnitSnapshot | None, now: float) -> bool:
        """Whether the store has forgotten the order before any rank has read it, as when it was set back."""
        if snapshot is None or not snapshot.records:
            return False
        shown = snapshot.order.number if snapshot.order else 0
        if max(shown, *(record.order for record in snapshot.records.values())) >= self._order.number:
            self._kept = now
        return now - self._kept > LOST_AFTER

    def describe(self, snapshot: UnitSnapshot | None) -> str:
        """Describe how far the order is, by the store's content."""
        if snapshot is None or not snapshot.records:
            return "the store shows no rank now"
        if self._order.kind is OrderKind.DRAIN:
            left = sum(self._is_gone(snapshot, rank) for rank in snapshot.records)
            return f"{left} of {len(snapshot.records)} ranks have stopped"
        size = max(record.size for record in snapshot.records.values())
        up = sum(self._serves_anew(snapshot.records.get(rank)) for rank in range(size))
        leader = snapshot.records.get(0)
        silent = [rank for rank in range(size) if self._is_gone(snapshot, rank)]
        waits = f", not responding: {format_ranks(silent)}" if silent else ""
        if leader is not None and leader.failed_check and self._serves_anew(leader):
            waits += f", waiting for rank 0's health {leader.failed_check}"
        return f"{up} of {size} ranks run in generation {self._least} or later{waits}"

    @property
    def outcome(self) -> str:
        """What has been done, once it is."""
        if self._order.kind is not OrderKind.DRAIN:
            return "restarted: every rank serves"
        silent = f", or has been silent for longer than its lease ({format_ranks(self._silent)})"
        return f"drained: every rank has stopped{silent if self._silent else ''}"

    def note_outage(self, now: float) -> None:
        """Record that the store is unreachable; the wait for a record starts again."""
        self._known = now

    def _all_drained(self, snapshot: UnitSnapshot) -> bool:
        """Whether every rank has left or is gone."""
        return all(self._is_gone(snapshot, rank) for rank in snapshot.records)

    def _is_gone(self, snapshot: UnitSnapshot, rank: int) -> bool:
        record = snapshot.records.get(rank)
        if record is None or record.has_left:
            return True
        quiet = (record.lease or self._lease) + STOP_MARGIN
        return snapshot.ages.get(rank, quiet) >= quiet

    def _all_restarted(self, snapshot: UnitSnapshot) -> bool:
        """Whether all ranks serve in a new generation; ranks beyond the current size are ignored."""
        leader = snapshot.records.get(0)
        if leader is None or leader.state is not InstanceState.HEALTHY:
            return False
        standing = [snapshot.records.get(rank) for rank in range(leader.size)]
        return all(map(self._serves_anew, standing))

    def _serves_anew(self, record: Record | None) -> bool:
        return record is not None and record.generation >= self._least and record.state.serving
