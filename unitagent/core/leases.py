"""Leases judged by change: a rank is late when its beat has not changed for a lease on *my* monotonic
clock, while I had unbroken contact with the store. No clock of another machine is ever compared with mine
(client-go's leader election judges the same way).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from unitagent.core.model import Beat

_NOT_SHOWN = -1  # in the place of a beat's count


@dataclass(frozen=True, slots=True)
class Lease:
    """The last beat seen of a rank, and when I saw it change."""

    beat: Beat
    changed: float
    moved: bool = False  # seen to change at least once, so its holder was alive then


def _missing(old: Lease, now: float) -> Lease:
    """A store that lost a beat shows nothing of its rank, which has a lease from here on to show itself."""
    return (
        old
        if old.beat.count == _NOT_SHOWN
        else replace(old, beat=replace(old.beat, count=_NOT_SHOWN), changed=now)
    )


@dataclass(frozen=True, slots=True)
class Leases:
    """What I know of others' signs of life.

    Attributes:
        contact: since when my contact with the store is unbroken; None while it is lost.
        last: when the store last answered me.

    """

    contact: float | None = None
    last: float | None = None
    by_rank: Mapping[int, Lease] = field(default_factory=dict)

    def seen(self, beats: Mapping[int, Beat], now: float, gap: float) -> Leases:
        """After an answer of the store; a pause of more than ``gap`` seconds counts as broken contact."""
        broken = self.contact is None or self.last is None or now - self.last > gap
        by_rank = {rank: old if rank in beats else _missing(old, now) for rank, old in self.by_rank.items()}
        for rank, beat in beats.items():
            old = by_rank.get(rank)
            if old is None or old.beat.incarnation != beat.incarnation:
                by_rank[rank] = Lease(beat, now)
            elif beat.count > old.beat.count:  # one that goes back is a store's loss, and no sign of life
                by_rank[rank] = Lease(beat, now, moved=True)
        return Leases(now if broken else self.contact, now, by_rank)

    def broken(self) -> Leases:
        """After an exchange that got no answer."""
        return replace(self, contact=None)

    def unchanged(self, rank: int) -> float:
        """Seconds that the store has shown a rank's beat standing still, in my unbroken contact; 0 when I
        cannot judge. What the store has not shown me, because I slept or it did, is no evidence.
        """
        lease = self.by_rank.get(rank)
        if lease is None or self.contact is None or self.last is None:
            return 0.0
        return max(0.0, self.last - max(lease.changed, self.contact))

    def renewed(self, rank: int) -> bool:
        """Whether a rank's beat changed since my contact began; also of one whose beats I do not see."""
        lease = self.by_rank.get(rank)
        return lease is None or self.contact is None or lease.changed > self.contact

    def age(self, rank: int, now: float) -> float | None:
        """Seconds since a rank's beat changed, for people to read; None when nothing was seen."""
        lease = self.by_rank.get(rank)
        return None if lease is None else max(0.0, now - lease.changed)

    def alive(self, rank: int, incarnation: str) -> bool:
        """Whether this incarnation was ever seen to beat."""
        lease = self.by_rank.get(rank)
        return lease is not None and lease.moved and lease.beat.incarnation == incarnation


def neighbours(rank: int, size: int) -> tuple[int, ...]:
    """The ranks whose leases I judge: the next two in the ring, so nobody reads N beats a second."""
    return tuple(dict.fromkeys((rank + step) % size for step in (1, 2) if (rank + step) % size != rank))
