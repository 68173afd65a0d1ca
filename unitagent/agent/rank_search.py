"""Which rank an instance without one may take: decisions over what the store has shown, without a clock or
any input and output of their own. The agent and the simulation run them alike.

The invariant: only my own clock decides that a holder is dead. Its heartbeat has not changed for a lease and
a margin while I had unbroken contact, however long the store was away and whatever its clock says.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import Enum

from msgspec import Struct
from msgspec.structs import replace

from unitagent.core.actions import Exchange
from unitagent.core.leases import NEVER, Leases
from unitagent.core.model import Beat, OrderKind, Record, Reply, format_ranks
from unitagent.core.rank_ownership import choose_tenure, ends_with_holder
from unitagent.core.spares import Standby, explain_misfit
from unitagent.core.timing import Timing, takeover_after

PAUSE = 0.25  # seconds between tries
LONGEST_PAUSE = 1.0  # seconds between tries while every holder is well
NO_RANK = -1
_MOST_QUESTIONS = 3  # in one look
_UNSETTLED = "the store may be new or may have lost its data; the holders have one lease to renew their ranks"


class Spare(Enum):
    """Whether an instance is one of ``UNIT_SPARES``."""

    NONE = "none"
    ANY = "any"  # it has RANK_ID=auto, as all others: whoever comes first has a rank, and the last ones wait
    BEYOND = "beyond"  # its number is UNIT_SIZE or above: it leaves ranks that nobody has held to others
    HOME = "home"  # its number is below UNIT_SIZE: it joins as that rank, unless another instance lives there


class Claim(Struct, frozen=True):
    """My record with its new rank, and the record that it replaced."""

    me: Record
    took: Record | None = None


class RankSearch:
    """What an instance without a rank has seen, and which rank it may take.

    Attributes:
        reply: what the store answered last.
        drained: an operator has drained the Unit since this instance first read the store.
        stands_by: it waits as a spare; one with a rank of its own does once it has seen another instance live
            there, and may take any lost rank from then on.
        others: the spares that the store lists.

    """

    def __init__(self, me: Record, *, guard: bool, timing: Timing, spare: Spare, asks: bool) -> None:
        """``asks``: a holder that is silent in the store can be asked at its address."""
        self._me, self._guard, self._timing, self._asks = me, guard, timing, asks
        self._home = me.rank if spare is Spare.HOME else None
        self._is_spare = spare is not Spare.NONE
        self._lost_only = spare in {Spare.BEYOND, Spare.HOME}
        self._leases = Leases()
        self._known: dict[str, Record] = {}  # by incarnation
        self._answered_at: dict[str, float] = {}  # incarnation -> when it answered
        self._unheard: dict[
            str, float
        ] = {}  # incarnation -> when the first question without an answer was sent
        self._asked_at: dict[str, float] = {}  # incarnation -> when the last question to it ended
        self._takeover = timing.takeover  # the longest of all holders' that it has read
        self._order: int | None = None  # the number of the last order when it first read the store
        self._free_since: float | None = None  # since when it could take a rank
        self._ran_since: float | None = None  # since when each answer has shown that the Unit has run
        self._vacant_since: dict[int, float] = {}  # rank -> since when no answer has shown a holder
        self.reply: Reply | None = None
        self.drained = False
        self.stands_by = spare is not Spare.HOME
        self.others: Sequence[Standby] = ()

    @property
    def settled(self) -> bool:
        """Whether I have watched the store for a lease."""
        return is_settled(self._leases, self._timing.lease)

    def note_outage(self) -> None:
        """The store did not answer."""
        self._leases, self.others = self._leases.after_lost_contact(), ()
        self._ran_since, self._vacant_since = None, {}

    def note_reply(self, reply: Reply, now: float) -> None:
        """The store has answered; ``now`` on my clock."""
        self.reply = reply
        gap, known = self._timing.contact_gap, tuple(self._leases.by_incarnation)
        self._leases = self._leases.after_reply(collect_beats(reply), now, gap, keep=known)
        self._known = remember_holders(reply, self._known, self._leases)
        self._takeover = find_longest_takeover(reply, self._takeover)
        self._unheard = {
            one: sent
            for one, sent in self._unheard.items()
            if self._leases.seconds_unchanged(one) >= now - sent
        }
        self._note_vacancies(reply, now)
        self._note_order(reply)
        if self._home is not None and self._leases.is_beating(_find_holder(reply, self._home)):
            self.stands_by = True

    def _note_vacancies(self, reply: Reply, now: float) -> None:
        """A store that is set back forgets who came between two looks of mine, without a break in contact."""
        if not _has_run(reply):
            self._ran_since = None
        elif self._ran_since is None:
            self._ran_since = now
        vacant = (rank for rank in range(self._me.size) if not _find_holder(reply, rank))
        self._vacant_since = {rank: self._vacant_since.get(rank, now) for rank in vacant}

    def _list_forgotten(self) -> list[int]:
        """List the ranks without a holder in a Unit that has run: each was held, by an instance that the
        store has forgotten and that may have yet to write again.
        """
        if self._ran_since is None or self._leases.last_reply_at is None:
            return []
        seen_by = self._leases.last_reply_at - self._takeover
        return [rank for rank, since in self._vacant_since.items() if max(since, self._ran_since) > seen_by]

    def _note_order(self, reply: Reply) -> None:
        """Whether the Unit has been drained since the first look; an earlier order was for others."""
        order = reply.order
        if self._order is None:  # a store that is set back shows old ones
            self._order = max(1000 * reply.now, order.number if order else 0)
        self.drained = order is not None and order.kind is OrderKind.DRAIN and order.number > self._order

    def joins_home(self) -> bool:
        """Whether the rank that I was given is nobody else's: where I cannot claim it yet, I join as it, as
        without spares.
        """
        if self.reply is None or self._home is None or self.stands_by:
            return False
        forgotten = self._leases.find_hidden(self._home, besides=self._me.incarnation)
        return forgotten is None and is_uncontested(self.reply, self._home, self._me)

    def find_holder_to_ask(self, now: float) -> Record | None:
        """Return a holder on whose answer the next step depends: early enough to know at its takeover that it
        does not answer; or the holder of my own rank, to learn whether I am a spare.
        """
        if self.reply is None or not self._asks:
            return None
        home = () if self.stands_by else (self._home,)
        early = self._takeover - self._timing.peer_timeout - PAUSE
        ranks = (*home, self._find_free_rank(early), self._find_free_rank(self._takeover))
        askable = (self._find_askable(rank) for rank in ranks if rank is not None)
        return next((one for one in askable if one is not None and self._may_ask(one, now)), None)

    def list_deciding(self, rank: int | None) -> set[str]:
        """List the holders whose answers I have to know before I take this rank, or join as my own."""
        home = None if self.stands_by else self._home
        ranks = (one for one in (rank, home) if one is not None)
        return {holder.incarnation for one in ranks if (holder := self._find_askable(one)) is not None}

    def list_late_holders(self, now: float) -> list[Record]:
        """List holders to ask because their heartbeats are late.

        Until the first question that a holder does not answer others may hear it, and as long as they do it
        need not stop.
        """
        askable = map(self._find_askable, self._list_unasked() if self._asks else ())
        return [one for one in askable if one is not None and self._may_ask(one, now)][:_MOST_QUESTIONS]

    def _may_ask(self, holder: Record, now: float) -> bool:
        return now - self._asked_at.get(holder.incarnation, NEVER) >= 3 * PAUSE

    def _find_askable(self, rank: int) -> Record | None:
        if self.reply is None:
            return None
        former = self._known.get(_find_former(rank, self._leases, self._me))
        if _find_holder(self.reply, rank) or former is None:
            return find_holder_to_ask(self.reply, rank, self._me, self._known)
        return former if _can_be_asked(former, self._me) else None

    def _list_unasked(self) -> list[int]:
        """List the ranks whose holders are late, and have not failed to answer yet."""
        return [
            rank
            for rank, holder in self._list_holders()
            if self._leases.seconds_unchanged(holder) > self._timing.beat_due and holder not in self._unheard
        ]

    def _list_holders(self) -> list[tuple[int, str]]:
        """List the holder of each rank, or the one that the store has forgotten."""
        reply = self.reply
        if reply is None:
            return []
        ranks = range(self._me.size)
        return [
            (rank, _find_holder(reply, rank) or _find_former(rank, self._leases, self._me)) for rank in ranks
        ]

    def note_answer(self, holder: Record, sent: float, now: float, *, alive: bool) -> None:
        """A holder that I asked at ``sent`` answers, or does not."""
        self._asked_at[holder.incarnation] = now
        if not alive:
            self._unheard.setdefault(holder.incarnation, sent)
            return
        self._answered_at[holder.incarnation] = now
        self._unheard.pop(holder.incarnation, None)
        if holder.rank == self._home:
            self.stands_by = True

    def _list_heard(self) -> dict[str, float]:
        """List when each holder may have been heard last; now, if I have yet to ask it."""
        last = self._leases.last_reply_at or 0.0
        heard = {one: max(at, self._unheard.get(one, NEVER)) for one, at in self._answered_at.items()}
        heard = {**self._unheard, **heard}
        if self._asks:
            unasked = filter(None, map(self._find_askable, self._list_unasked()))
            heard |= {holder.incarnation: last for holder in unasked}
        return heard

    def find_rank(self, number: int | None, now: float) -> int | None:
        """Return the rank to take now.

        A spare leaves it for a while to each one that stands by with a lower ``number`` than its own: that
        one may be new, and have yet to see that the rank is lost.
        """
        rank = self._find_free_rank(self._takeover)
        if rank is None or not (rank == self._home or (self.stands_by and self._fits_into(rank))):
            self._free_since = None
            return None
        if self._free_since is None:
            self._free_since = now
        before = sum(number is not None and one.number < number for one in self.others)
        return rank if now - self._free_since >= before * find_precedence(self._timing) else None

    def _fits_into(self, rank: int) -> bool:
        """Whether the others can start with me in this rank, as another spare may; or it was mine."""
        record = None if self.reply is None else self.reply.records.get(rank)
        return (record is not None and record.had_address_of(self._me)) or not self._explain_misfit()

    def _explain_misfit(self) -> str:
        beating = (both for both in self._list_holders() if self._leases.is_beating(both[1], self._takeover))
        living = {rank: self._known.get(holder) for rank, holder in beating}
        there = {rank: one for rank, one in living.items() if one is None or not one.has_left}
        return explain_misfit(self._me, there) if self._is_spare else ""

    def _find_free_rank(self, takeover: float) -> int | None:
        assert self.reply is not None  # noqa: S101 (for mypy; callers have looked)
        return find_free_rank(
            self.reply,
            self._leases,
            self._me,
            self._timing,
            self._list_heard(),
            takeover=takeover,
            lost_only=self._lost_only,
            home=self._home,
            forgotten=self._list_forgotten(),
        )

    def make_claim(self, rank: int) -> tuple[Claim, Exchange]:
        """Return my record with this rank, and the exchange that claims it."""
        assert self.reply is not None  # noqa: S101 (for mypy; callers have looked)
        now = self._leases.last_reply_at or 0.0
        observed = self.settled and now - self._vacant_since.get(rank, NEVER) >= self._timing.lease
        claim = make_claim(self.reply, rank, self._me, observed=observed)
        return claim, make_claim_exchange(claim, self.reply, guard=self._guard)

    def explain(self) -> str:
        """Explain why I have no rank."""
        reply, size = self.reply, self._me.size
        if reply is None:
            return "the store has yet to answer"
        if not self.settled:
            return _UNSETTLED
        if misfit := self._explain_misfit():
            return misfit
        forgotten = self._list_forgotten()
        if forgotten:
            ranks, verb = format_ranks(forgotten), "has" if len(forgotten) == 1 else "have"
            return f"{ranks} {verb} no holder any more, and {self._takeover:g} s to write again"
        unheld = [rank for rank in range(size) if not _find_holder(reply, rank) and rank != self._home]
        if self._lost_only and unheld and not _has_run(reply):
            return f"{format_ranks(unheld)} never joined, and are left to their own instances"
        return explain_all_held(size)

    def choose_pause(self) -> float:
        """Return the seconds until the next look at the store."""
        return choose_pause(self.reply, self._leases, self._timing)


def choose_number(others: Iterable[Standby], size: int) -> int:
    """Return the lowest place among the spares that nobody has."""
    taken = {one.number for one in others}
    return next(number for number in itertools.count(size) if number not in taken)


def find_precedence(timing: Timing) -> float:
    """Return the seconds for which a lost rank is left to the spare with the lowest number: time for it to
    look twice, and to ask the holder.
    """
    return max(LONGEST_PAUSE + 2 * PAUSE, timing.lease / 4)


def is_uncontested(reply: Reply, rank: int, me: Record) -> bool:
    """Whether no other instance may hold this rank: nobody does, its holder has left, or I have its place."""
    record, holder = reply.records.get(rank), _find_holder(reply, rank)
    return not holder or _has_left(rank, reply) or (record is not None and record.had_address_of(me))


def explain_all_held(size: int) -> str:
    """Explain why there is no rank to claim."""
    if size > 1:
        return f"all {size} ranks of the Unit are held"
    return "the only rank of the Unit is held (UNIT_SIZE=1); to run both, give this one another UNIT_ID"


def find_holder_to_ask(
    reply: Reply, rank: int, me: Record, known: Mapping[str, Record] | None = None
) -> Record | None:
    """Return the holder of a rank that can be asked: it has not left and does not use my own address.

    ``known``: the records that I have read, by incarnation, in case the store has lost the holder's since.
    """
    record, holder = reply.records.get(rank), _find_holder(reply, rank)
    if record is None or record.incarnation != holder:
        record = (known or {}).get(holder)
    return record if record is not None and _can_be_asked(record, me) else None


def _can_be_asked(record: Record, me: Record) -> bool:
    return not (record.has_left or record.had_address_of(me)) and bool(record.port)


def remember_holders(reply: Reply, known: Mapping[str, Record], leases: Leases) -> dict[str, Record]:
    """Return the records of all holders of ranks, also of those that the store has forgotten: as the store
    shows them, else as they were read before.
    """
    shown = {record.incarnation: record for record in reply.records.values()}
    holders = {beat.incarnation for beat in reply.beats.values()} | leases.by_incarnation.keys()
    return {**{one: record for one, record in known.items() if one in holders}, **shown}


def make_claim(reply: Reply, rank: int, me: Record, *, observed: bool) -> Claim:
    """Return my record with this rank; ``observed``: I had unbroken contact for a lease, and saw its holder
    silent, or nobody there, all the time.

    It keeps the charges of the record that it replaces: my successor needs them if I end before I write
    again.
    """
    took = reply.records.get(rank)
    tenure = choose_tenure(took, reply.now, observed=observed)
    charges = took.charges if took is not None and not took.budget_exhausted else ()
    return Claim(replace(me, rank=rank, tenure=tenure, charges=charges), took)


def make_claim_exchange(claimed: Claim, reply: Reply, *, guard: bool) -> Exchange:
    """Return the exchange that replaces the last holder, and ends its generation if we lead."""
    me, took = claimed.me, claimed.took
    over = took is not None and (guard or me.rank == 0) and ends_with_holder(took)
    return Exchange(
        record=me,
        take=_find_holder(reply, me.rank),
        seen=seen.count if (seen := reply.beats.get(me.rank)) else 0,
        generation=took.generation + 1 if took and over else 0,
        failure=None,
        judge=(),
        notify=over,
    )


def choose_pause(reply: Reply | None, leases: Leases, timing: Timing) -> float:
    """Return the seconds between two looks at the store: fewer while a holder may be lost, or I am new."""
    if reply is None or not is_settled(leases, timing.lease):
        return PAUSE
    holders = filter(None, (_find_holder(reply, rank) for rank in reply.records))
    quiet = any(leases.seconds_unchanged(holder) > timing.beat_due for holder in holders)
    return PAUSE if quiet else max(PAUSE, min(timing.heartbeat, LONGEST_PAUSE))


def find_longest_takeover(reply: Reply, known: float) -> float:
    """Return the seconds that the most patient holder keeps its rank in silence, of these and the known."""
    return max([known, *(takeover_after(record.lease) for record in reply.records.values())])


def find_free_rank(
    reply: Reply,
    leases: Leases,
    me: Record,
    timing: Timing,
    heard: Mapping[str, float] | None = None,
    *,
    takeover: float,
    lost_only: bool = False,
    home: int | None = None,
    forgotten: Collection[int] = (),
) -> int | None:
    """Return the lowest rank whose last holder is certainly gone, or None.

    A rank that was last held at my own address comes first, since its files may be here, then ``home``, the
    one that I was given. A holder that did not leave explicitly is not gone before I have watched the store
    for a lease: the store may have lost its data while all holders are alive. If the store is older than a
    lease by its own clock, which may have been set, I watch for as long as a connected holder needs to write.
    ``takeover`` is the longest of all holders that I have read: an agent lives by its own lease, which may be
    longer than mine. With ``lost_only`` I leave ranks that nobody has held to others, except my own, until
    the Unit has run. I take none whose holder the store may have ``forgotten``.
    """
    aged = reply.unit_age >= timing.lease
    settled = is_settled(leases, timing.contact_gap if aged else timing.lease)
    if not aged and not settled:
        return None
    ran = _has_run(reply) and is_settled(leases, takeover)  # all ranks were held: the store forgot who is not
    places = [
        rank
        for rank in sorted(range(me.size), key=lambda rank: rank != home)
        if rank not in forgotten
        and not _was_held_lately(rank, leases, me, takeover, heard or {})
        and (not lost_only or rank == home or _find_holder(reply, rank) or ran)
    ]
    mine = (rank for rank in places if (old := reply.records.get(rank)) and old.had_address_of(me))
    free = (
        rank
        for rank in places
        if _has_left(rank, reply) or (settled and _is_free(rank, reply, leases, takeover, heard or {}))
    )
    return next(mine, next(free, None))


def _has_run(reply: Reply) -> bool:
    """Whether the store shows that this Unit has run, so that each rank was held."""
    return reply.generation > 1 or any(
        one.predecessor_generation or one.state.started for one in reply.records.values()
    )


def is_settled(leases: Leases, seconds: float) -> bool:
    """Whether every living instance has had this many seconds, by my clock, to write to this store."""
    if leases.contact_since is None or leases.last_reply_at is None:
        return False
    return leases.last_reply_at - leases.contact_since >= seconds


def _was_held_lately(
    rank: int, leases: Leases, me: Record, takeover: float, heard: Mapping[str, float]
) -> bool:
    """Whether I saw a holder that the store has lost since: it still has time to write again, and is alive as
    long as it answers.
    """
    former = _find_former(rank, leases, me)
    if not former or leases.last_reply_at is None:
        return False
    last = max(leases.by_incarnation[former].unchanged_since, heard.get(former, NEVER))
    return leases.last_reply_at - last <= takeover


def _find_former(rank: int, leases: Leases, me: Record) -> str:
    """Return the last holder of a rank that I have seen and the store no longer shows; "" for none."""
    hidden = {
        one: lease.unchanged_since
        for one, lease in leases.by_incarnation.items()
        if lease.rank == rank and one != me.incarnation and not lease.shown
    }
    return max(hidden, key=hidden.__getitem__, default="")


def _is_free(rank: int, reply: Reply, leases: Leases, takeover: float, heard: Mapping[str, float]) -> bool:
    holder = _find_holder(reply, rank)
    answered = (leases.last_reply_at or 0.0) - heard.get(holder, NEVER) < takeover
    return not holder or (leases.seconds_unchanged(holder) > takeover and not answered)


def _has_left(rank: int, reply: Reply) -> bool:
    record = reply.records.get(rank)
    return record is not None and record.has_left and record.incarnation == _find_holder(reply, rank)


def _find_holder(reply: Reply, rank: int) -> str:
    """Return the incarnation that holds a rank: the one with a heartbeat, even if its record is lost or
    invalid.
    """
    beat, record = reply.beats.get(rank), reply.records.get(rank)
    if beat is not None:
        return beat.incarnation
    return record.incarnation if record is not None else ""


def collect_beats(reply: Reply) -> dict[int, Beat]:
    """Return every heartbeat; a record without one counts as unchanged since I first saw it."""
    return {rank: Beat(record.incarnation, 0) for rank, record in reply.records.items()} | reply.beats


def make_read_exchange(size: int) -> Exchange:
    """Return an exchange that writes nothing and reads every heartbeat."""
    everybody = tuple(range(size))
    return Exchange(record=None, take="", seen=0, generation=0, failure=None, judge=everybody, notify=False)
