"""Leases are judged by change: an incarnation is late if its heartbeat count has not changed for a
lease on *my* monotonic clock, during unbroken contact with the store (as in client-go's leader
election). Only one thing is believed of another machine's clock: how long ago, by its own clock, the
store received a heartbeat that I now see; and only within the time since my last look.

The invariant: a heartbeat in the store's memory proves nothing. Only a count that grew while I looked
is a sign of life, and what I once saw of an incarnation is not forgotten when the store shows another
one in its place.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from unitagent.core.model import Beat

NEVER = float("-inf")


class Lease(Struct, frozen=True, kw_only=True):
    """What I have seen of one incarnation's heartbeats; times are on my clock.

    Attributes:
        rank: The rank that it held.
        count: The highest count that I saw.
        unchanged_since: When I began to wait for the next one.
        received_at: When the store received the last one, as far as the store can tell; never after
            ``unchanged_since``.
        grew_at: When I last saw the count grow, so its agent was alive then.
        shown: The store's last answer contained a heartbeat of it.
        maybe_stale: The store did not show its last heartbeat when I looked, although it had it then: what it
            shows of it may come from a memory to which it was set back.

    """

    rank: int
    count: int
    unchanged_since: float
    received_at: float
    grew_at: float = NEVER
    shown: bool = True
    maybe_stale: bool = False


class Leases(Struct, frozen=True):
    """What I know of others' signs of life.

    Attributes:
        contact_since: Since when my contact with the store is unbroken; None while it is lost.
        last_reply_at: When the store last answered me.
        absence: How long the store had not answered me before this contact.
        by_incarnation: The lease of each incarnation.

    """

    contact_since: float | None = None
    last_reply_at: float | None = None
    absence: float = 0.0
    by_incarnation: Mapping[str, Lease] = field(default_factory=dict)

    def after_reply(
        self,
        beats: Mapping[int, Beat],
        now: float,
        gap: float,
        *,
        keep: Collection[str] = (),
        lost_after: float = float("inf"),
        answered: float | None = None,
        latency: float | None = None,
    ) -> Leases:
        """After an answer of the store.

        Args:
            beats: The heartbeats that it showed, by rank.
            now: On my clock.
            gap: A longer pause since the last answer breaks the contact.
            keep: Incarnations to remember although the store shows others in their places.
            lost_after: An incarnation that was silent for longer gets no further time when the store forgets
                it.
            answered: When the store answered at the latest, if the answer has waited for me since; None for
                ``now``.
            latency: The longest that an answer takes; None for ``gap``.

        """
        broken = self.contact_since is None or self.last_reply_at is None or now - self.last_reply_at > gap
        lost = {one for one in self.by_incarnation if self.seconds_unchanged(one) > lost_after}
        answered = now if answered is None else answered
        known = (now if self.last_reply_at is None else self.last_reply_at) - (
            gap if latency is None else latency
        )
        shown = {
            beat.incarnation: self._renew_lease(rank, beat, now, answered, known)
            for rank, beat in beats.items()
        }
        hidden = {
            incarnation: _hide_lease(lease, lease.unchanged_since if incarnation in lost else now)
            for incarnation, lease in self.by_incarnation.items()
            if incarnation not in shown and (lease.rank not in beats or incarnation in keep)
        }
        pause = 0.0 if self.last_reply_at is None else now - self.last_reply_at
        return Leases(
            contact_since=now if broken else self.contact_since,
            last_reply_at=now,
            absence=pause if broken else self.absence,
            by_incarnation={**hidden, **shown},
        )

    def _renew_lease(self, rank: int, beat: Beat, now: float, answered: float, known: float) -> Lease:
        """The lease after a heartbeat in an answer of ``answered``. Those of before ``known`` I have seen, or
        they are only the store's memory: it was set back, and forward again.
        """
        old = self.by_incarnation.get(beat.incarnation)
        remembered = answered - beat.age < known
        if old is None:
            return Lease(
                rank=rank, count=beat.count, unchanged_since=now, received_at=now, maybe_stale=remembered
            )
        if beat.count <= old.count:  # a lower count is a loss of the store, not a sign of life
            return replace(old, shown=True)
        looked = now if self.last_reply_at is None else self.last_reply_at
        written = min(now, max(looked, now - beat.age))
        moved = old.grew_at if remembered else answered
        return Lease(
            rank=rank,
            count=beat.count,
            unchanged_since=now,
            received_at=written,
            grew_at=moved,
            maybe_stale=remembered,
        )

    def add_missing(self, members: Mapping[int, str], shown: Collection[int]) -> Leases:
        """With a lease for each member that has none although I read its rank's heartbeats, which are in
        ``shown``: the store has forgotten it before it showed it to me, and it has a lease to write again.
        """
        if self.last_reply_at is None:
            return self
        last = self.last_reply_at
        begun = {
            one: Lease(
                rank=rank, count=0, unchanged_since=last, received_at=last, shown=False, maybe_stale=True
            )
            for rank, one in members.items()
            if rank in shown and one not in self.by_incarnation
        }
        return replace(self, by_incarnation={**self.by_incarnation, **begun}) if begun else self

    def after_lost_contact(self) -> Leases:
        """After an exchange that failed."""
        return replace(self, contact_since=None)

    def after_suspension(self, seconds: float, now: float) -> Leases:
        """After a suspension of my own, which proves nothing about anybody else."""
        later = {
            one: replace(
                lease,
                unchanged_since=min(now, lease.unchanged_since + seconds),
                received_at=min(now, lease.received_at + seconds),
            )
            for one, lease in self.by_incarnation.items()
        }
        return replace(self, by_incarnation=later)

    def restart_all(self, now: float) -> Leases:
        """As if all heartbeats that I know had just come, and from nobody seen alive: whoever is never
        heard again is lost in its time, even if the store forgets it at once.
        """
        anew = {
            one: replace(lease, unchanged_since=now, received_at=now, grew_at=NEVER)
            for one, lease in self.by_incarnation.items()
        }
        return replace(self, by_incarnation=anew)

    def drop_incarnations(self, incarnations: Iterable[str]) -> Leases:
        """Without what is known of these incarnations, since I could not see them for a time."""
        gone = frozenset(incarnations)
        return replace(
            self, by_incarnation={one: lease for one, lease in self.by_incarnation.items() if one not in gone}
        )

    def seconds_unchanged(self, incarnation: str) -> float:
        """Seconds for which I have seen a heartbeat unchanged in unbroken contact; 0 if I cannot judge.
        What the store has not shown me, because it or I slept, is no evidence.
        """
        lease = self.by_incarnation.get(incarnation)
        return 0.0 if lease is None else self._seconds_since(lease.unchanged_since)

    def seconds_silent(self, incarnation: str) -> float:
        """Seconds since the store received the last heartbeat, as far as it can tell; 0 if I cannot
        judge. If the server's clock was set, this may be wrong by a heartbeat, so it needs a second
        witness.
        """
        lease = self.by_incarnation.get(incarnation)
        return 0.0 if lease is None else self._seconds_since(lease.received_at)

    def _seconds_since(self, begin: float) -> float:
        if self.contact_since is None or self.last_reply_at is None:
            return 0.0
        return max(0.0, self.last_reply_at - max(begin, self.contact_since))

    def has_reached_age(self, incarnation: str, age: float, now: float) -> bool:
        """Whether the last known heartbeat has become ``age`` seconds old since I looked last."""
        return self.time_of_age(incarnation, age) <= now

    def time_unchanged(self, incarnation: str, age: float) -> float:
        """When I will have seen the last known heartbeat unchanged for so long; infinity if I had when I
        looked last.
        """
        lease = self.by_incarnation.get(incarnation)
        return float("inf") if lease is None else self._time_since(lease.unchanged_since, age)

    def time_of_age(self, incarnation: str, age: float) -> float:
        """When the last known heartbeat becomes that old; infinity if it already was when I looked
        last.
        """
        lease = self.by_incarnation.get(incarnation)
        return float("inf") if lease is None else self._time_since(lease.received_at, age)

    def _time_since(self, begin: float, age: float) -> float:
        """When ``begin`` is that long ago, in this contact; infinity if it was when I looked last."""
        if self.contact_since is None or self.last_reply_at is None:
            return float("inf")
        at = max(begin, self.contact_since) + age
        return at if self.last_reply_at < at else float("inf")

    def is_beating(self, incarnation: str, within: float = float("inf")) -> bool:
        """Whether the count grew since my contact began, and at most ``within`` seconds ago: living
        evidence.
        """
        lease = self.by_incarnation.get(incarnation)
        if lease is None or self.contact_since is None or self.last_reply_at is None:
            return False
        return lease.grew_at > self.contact_since and self.last_reply_at - lease.grew_at <= within

    def has_followed(self, incarnation: str, former: str) -> bool:
        """Whether its count grew since my contact began, and since I last heard of the former one."""
        lease, known = self.by_incarnation.get(incarnation), self.by_incarnation.get(former)
        last_sign = NEVER if known is None else known.unchanged_since
        return lease is not None and lease.grew_at > last_sign and self.is_beating(incarnation)

    def is_present(self, incarnation: str) -> bool:
        """Whether it came, or its count grew, after my contact began: what it shows is more than the store's
        memory of a time that I have not seen.
        """
        lease = self.by_incarnation.get(incarnation)
        return (
            lease is not None
            and self.contact_since is not None
            and lease.unchanged_since > self.contact_since
            and not lease.maybe_stale
        )

    def is_unknown(self, incarnation: str) -> bool:
        """Whether I know nothing of its heartbeats because I do not read them."""
        return incarnation not in self.by_incarnation

    def seconds_since_beat(self, incarnation: str, now: float) -> float | None:
        """Seconds since its last heartbeat, for people and for timers; None if I saw none."""
        lease = self.by_incarnation.get(incarnation)
        return None if lease is None else max(0.0, now - lease.received_at)

    def highest_count(self, incarnation: str) -> int:
        """The highest count of its heartbeats that I saw; 0 if I saw none."""
        lease = self.by_incarnation.get(incarnation)
        return 0 if lease is None else lease.count

    def was_alive(self, incarnation: str) -> bool:
        """Whether I ever saw its count grow."""
        lease = self.by_incarnation.get(incarnation)
        return lease is not None and lease.grew_at > NEVER

    def find_hidden(self, rank: int, besides: str) -> Lease | None:
        """The last other holder of a rank that I have seen and the store no longer shows."""
        hidden = [
            lease
            for incarnation, lease in self.by_incarnation.items()
            if lease.rank == rank and incarnation != besides and not lease.shown
        ]
        return max(hidden, key=lambda lease: lease.unchanged_since, default=None)


def _hide_lease(lease: Lease, since: float) -> Lease:
    """The lease of an incarnation whose heartbeat the store has lost; its agent has a lease from then
    on to write again.
    """
    return (
        replace(lease, unchanged_since=since, received_at=since, shown=False, maybe_stale=True)
        if lease.shown
        else lease
    )


def find_neighbours(rank: int, size: int) -> tuple[int, ...]:
    """The next two ranks in the ring: I judge their leases, so that nobody reads N heartbeats a second."""
    return tuple(dict.fromkeys((rank + step) % size for step in (1, 2) if (rank + step) % size != rank))
