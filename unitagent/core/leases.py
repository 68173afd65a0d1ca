"""Leases judged by change: an incarnation is late when its beat has stood still for a lease on *my* monotonic
clock, while I had unbroken contact with the store (client-go's leader election judges the same way). Of
another machine's clock only one thing is believed: how long ago, by its own clock, the store got a beat that
I see now; and that only within the time since I looked last.

The invariant: a beat that the store remembers proves nothing. Only a count that grew while I looked is a sign
of life, and what was once seen of an incarnation is not forgotten because the store shows another in its
place.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from unitagent.core.model import Beat

NEVER = float("-inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """What I have seen of one incarnation's beats; times are on my clock.

    Attributes:
        count: the highest I saw.
        since: when I began to wait for the next one.
        written: when the store got the last one, as far as the store can tell; never after ``since``.
        moved: when I last saw the count grow, so its agent was alive then.
        shown: the store's last answer had a beat of it.

    """

    rank: int
    count: int
    since: float
    written: float
    moved: float = NEVER
    shown: bool = True


@dataclass(frozen=True, slots=True)
class Leases:
    """What I know of others' signs of life.

    Attributes:
        contact: since when my contact with the store is unbroken; None while it is lost.
        last: when the store last answered me.
        by_incarnation: the lease of each.

    """

    contact: float | None = None
    last: float | None = None
    by_incarnation: Mapping[str, Lease] = field(default_factory=dict)

    def after_reply(
        self,
        beats: Mapping[int, Beat],
        now: float,
        gap: float,
        keep: Collection[str] = (),
        lost_after: float = float("inf"),
    ) -> Leases:
        """After an answer of the store.

        Args:
            beats: that it showed, by rank.
            now: on my clock.
            gap: a longer pause since the last answer counts as broken contact.
            keep: incarnations to remember although others are shown in their places.
            lost_after: who was silent for longer has no time to show itself when the store forgets it.

        """
        broken = self.contact is None or self.last is None or now - self.last > gap
        lost = {one for one in self.by_incarnation if self.seconds_unchanged(one) > lost_after}
        shown = {beat.incarnation: self._renew_lease(rank, beat, now, gap) for rank, beat in beats.items()}
        hidden = {
            incarnation: _hide_lease(lease, lease.since if incarnation in lost else now)
            for incarnation, lease in self.by_incarnation.items()
            if incarnation not in shown and (lease.rank not in beats or incarnation in keep)
        }
        return Leases(now if broken else self.contact, now, {**hidden, **shown})

    def _renew_lease(self, rank: int, beat: Beat, now: float, gap: float) -> Lease:
        old = self.by_incarnation.get(beat.incarnation)
        if old is None:
            return Lease(rank=rank, count=beat.count, since=now, written=now)
        if beat.count <= old.count:  # one that goes back is a store's loss, and no sign of life
            return replace(old, shown=True)
        looked = now if self.last is None else self.last
        written = min(now, max(looked, now - beat.age))
        # One from before my last look is a store's memory, too: it went back further, and forth again.
        moved = old.moved if now - beat.age < looked - gap else now
        return Lease(rank=rank, count=beat.count, since=now, written=written, moved=moved)

    def after_lost_contact(self) -> Leases:
        """After an exchange that got no answer."""
        return replace(self, contact=None)

    def after_pause(self, seconds: float, now: float) -> Leases:
        """After a time in which I stood still myself: it is evidence against nobody."""
        later = {
            one: replace(
                lease, since=min(now, lease.since + seconds), written=min(now, lease.written + seconds)
            )
            for one, lease in self.by_incarnation.items()
        }
        return replace(self, by_incarnation=later)

    def forget(self, incarnations: Iterable[str]) -> Leases:
        """After a time in which I could not see them: of these I know nothing."""
        gone = frozenset(incarnations)
        return replace(
            self, by_incarnation={one: lease for one, lease in self.by_incarnation.items() if one not in gone}
        )

    def seconds_unchanged(self, incarnation: str) -> float:
        """Seconds that I have seen a beat stand still in my unbroken contact; 0 when I cannot judge. What the
        store has not shown me, because I slept or it did, is no evidence.
        """
        lease = self.by_incarnation.get(incarnation)
        return 0.0 if lease is None else self._seconds_since(lease.since)

    def seconds_silent(self, incarnation: str) -> float:
        """Seconds since the store got the last beat, as far as it can tell; 0 when I cannot judge. It may be
        early by a heartbeat where the server's clock was set, so it needs a second witness.
        """
        lease = self.by_incarnation.get(incarnation)
        return 0.0 if lease is None else self._seconds_since(lease.written)

    def _seconds_since(self, begin: float) -> float:
        if self.contact is None or self.last is None:
            return 0.0
        return max(0.0, self.last - max(begin, self.contact))

    def has_reached_age(self, incarnation: str, age: float, now: float) -> bool:
        """Whether the last beat that I know of has turned ``age`` seconds old since I looked last."""
        return self.time_of_age(incarnation, age) <= now

    def time_of_age(self, incarnation: str, age: float) -> float:
        """When the last beat that I know of turns that old; never, if it was when I looked last."""
        lease = self.by_incarnation.get(incarnation)
        if lease is None or self.contact is None or self.last is None:
            return float("inf")
        at = max(lease.written, self.contact) + age
        return at if self.last < at else float("inf")

    def is_beating(self, incarnation: str, within: float = float("inf")) -> bool:
        """Whether the count grew since my contact began, and not longer ago than that: living evidence."""
        lease = self.by_incarnation.get(incarnation)
        if lease is None or self.contact is None or self.last is None:
            return False
        return lease.moved > self.contact and self.last - lease.moved <= within

    def is_unknown(self, incarnation: str) -> bool:
        """Whether I know nothing of its beats, since I do not read them."""
        return incarnation not in self.by_incarnation

    def seconds_since_beat(self, incarnation: str, now: float) -> float | None:
        """Seconds since its last beat, for people and for timers; None when nothing was seen."""
        lease = self.by_incarnation.get(incarnation)
        return None if lease is None else max(0.0, now - lease.written)

    def highest_count(self, incarnation: str) -> int:
        """The highest count of its beats that I saw; 0 when I saw none."""
        lease = self.by_incarnation.get(incarnation)
        return 0 if lease is None else lease.count

    def was_alive(self, incarnation: str) -> bool:
        """Whether this incarnation was ever seen to beat."""
        lease = self.by_incarnation.get(incarnation)
        return lease is not None and lease.moved > NEVER

    def find_hidden(self, rank: int, besides: str) -> Lease | None:
        """The last other holder of a rank that I have seen and that the store does not show any more."""
        hidden = [
            lease
            for incarnation, lease in self.by_incarnation.items()
            if lease.rank == rank and incarnation != besides and not lease.shown
        ]
        return max(hidden, key=lambda lease: lease.since, default=None)


def _hide_lease(lease: Lease, since: float) -> Lease:
    """A store that lost a beat shows nothing of it; its agent has a lease from then on to show itself."""
    return replace(lease, since=since, written=since, shown=False) if lease.shown else lease


def find_neighbours(rank: int, size: int) -> tuple[int, ...]:
    """The ranks whose leases I judge: the next two in the ring, so nobody reads N beats a second."""
    return tuple(dict.fromkeys((rank + step) % size for step in (1, 2) if (rank + step) % size != rank))
