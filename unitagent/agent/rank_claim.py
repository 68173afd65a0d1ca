"""``RANK_ID=auto``, and spares: claim the lowest free rank in the store.

The invariant: only my own clock decides that a holder is dead. Its heartbeat has not changed for a lease and
a margin while I had unbroken contact, however long the store was away and whatever its clock says.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum

from msgspec import Struct
from msgspec.structs import replace

from unitagent.core.actions import Exchange
from unitagent.core.events import ProbeResult
from unitagent.core.exits import ExitCode
from unitagent.core.leases import NEVER, Leases
from unitagent.core.model import Beat, OrderKind, Record, Reply, format_ranks
from unitagent.core.rank_ownership import (
    FIRST_WARNING,
    choose_tenure,
    explain_never_reached,
    explain_not_reached,
)
from unitagent.core.timing import Timing, takeover_after
from unitagent.errors import StoreError, UnitAgentError
from unitagent.store.protocol import Store

_log = logging.getLogger(__name__)

PAUSE, _REPORT = 0.25, 10.0  # seconds between tries, and between reports on waiting
_LONGEST_PAUSE, _LONGEST_REPORT = 1.0, 600.0  # while every holder is well; of a spare, which waits for long
NO_RANK = -1
_UNSETTLED = "the store may be new or may have lost its data; the holders have one lease to renew their ranks"


class _NoStoreError(UnitAgentError):
    exit_code = ExitCode.STORE


class Spare(Enum):
    """Whether an instance is one of ``UNIT_SPARES``."""

    NONE = "none"
    ANY = "any"  # it has RANK_ID=auto, as all others: whoever comes first has a rank, and the last ones wait
    BEYOND = "beyond"  # its number is UNIT_SIZE or above: it leaves ranks that nobody has held to others


class Claim(Struct, frozen=True):
    """My record with its new rank, and the record that it replaced."""

    me: Record
    took: Record | None = None


AskHolder = Callable[[Record], Awaitable[ProbeResult]]
"""Asks which instance answers at the address of a record."""


async def claim_free_rank(claimant: Claimant, *, store_timeout: float) -> Claim | None:
    """Claim a rank, waiting while all ranks are held; None when the Unit is drained meanwhile.

    Raises:
        UnitAgentError: with code 69, the store could not be reached within ``store_timeout`` seconds.

    """
    began = time.monotonic()
    reached, logged = False, set[str]()
    while True:
        try:
            claim = await claimant.try_claim()
        except StoreError as error:
            waited, why = time.monotonic() - began, str(error)
            if not reached and waited > store_timeout:
                raise _NoStoreError(explain_never_reached(store_timeout, why)) from error
            if not reached and waited >= FIRST_WARNING and why not in logged:
                logged.add(why)
                _log.warning("%s", explain_not_reached(waited, store_timeout, why))
        else:
            if claim is not None:
                return claim
            reached = True
            if claimant.drained:
                return None
        if reached:
            claimant.report_waiting()
        await asyncio.sleep(claimant.choose_pause())


class Claimant:
    """An instance that looks for a rank, and what it has seen of the holders' heartbeats.

    Attributes:
        reply: what the store answered last, at ``read_at`` on the monotonic clock.
        why: why it has no rank yet.
        drained: an operator has drained the Unit since this instance first read the store.

    """

    def __init__(
        self,
        store: Store,
        me: Record,
        *,
        guard: bool,
        timing: Timing,
        ask: AskHolder | None,
        spare: Spare = Spare.NONE,
    ) -> None:
        """``ask`` asks a holder that is silent in the store directly; None if holders cannot be asked."""
        self._store, self._me = store, me
        self._guard, self._timing, self._ask, self._spare = guard, timing, ask, spare
        self._known: dict[str, Record] = {}  # by incarnation
        self._answered_at: dict[str, float] = {}  # incarnation -> when it answered
        self._silent_at: dict[str, float] = {}  # incarnation -> when a question to it ended without an answer
        self._leases = Leases()
        self._takeover = timing.takeover  # the longest of all holders' that it has read
        self._order: int | None = None  # the number of the last order when it first read the store
        at_once = spare is not Spare.NONE  # to which waiting is normal
        self._report_at = time.monotonic() + (0.0 if at_once else _REPORT)
        self._report_pause = _REPORT
        self.reply: Reply | None = None
        self.read_at = time.monotonic()
        self.why = "the store has yet to answer"
        self.drained = False

    def choose_pause(self) -> float:
        """Return the seconds until the next look at the store."""
        return choose_pause(self.reply, self._leases, self._timing)

    def report_waiting(self) -> None:
        """Log why there is no rank yet: a spare, to which that is normal, more and more rarely."""
        if time.monotonic() < self._report_at:
            return
        if self._spare is Spare.NONE:
            _log.warning("waiting for a free rank: %s", self.why)
        else:
            _log.info("standing by, to take a rank when its instance is lost: %s", self.why)
            self._report_pause = min(2 * self._report_pause, _LONGEST_REPORT)
        self._report_at = time.monotonic() + self._report_pause

    async def try_claim(self) -> Claim | None:
        """Read the store once, and claim a free rank if there is one."""
        try:
            reply = await self._store.exchange(make_read_exchange(self._me.size))
        except StoreError as error:
            self._leases = self._leases.after_lost_contact()
            self.why = str(error)
            raise
        self.reply, self.read_at = reply, time.monotonic()
        self._known = remember_holders(reply, self._known)
        gap, known = self._timing.contact_gap, tuple(self._leases.by_incarnation)
        self._leases = self._leases.after_reply(collect_beats(reply), self.read_at, gap, keep=known)
        self._takeover = find_longest_takeover(reply, self._takeover)
        if self._find_drain(reply):
            return None
        await self._ask_ahead(reply)
        rank = self._find_free_rank(reply, self._takeover)
        if rank is None or await self._holder_answers(reply, rank):
            settled = is_settled(self._leases, self._timing.lease)
            self.why = self._explain_no_rank(reply) if settled else _UNSETTLED
            return None
        self._store.set_rank(rank)
        observed = is_settled(self._leases, self._timing.lease)
        claimed = make_claim(reply, rank, self._me, observed=observed)
        answer = await self._store.exchange(make_claim_exchange(claimed, reply, guard=self._guard))
        return claimed if answer.holder == claimed.me.incarnation else None

    def _find_free_rank(self, reply: Reply, takeover: float) -> int | None:
        return find_free_rank(
            reply,
            self._leases,
            self._me,
            self._timing,
            self._answered_at,
            takeover=takeover,
            lost_only=self._spare is Spare.BEYOND,
        )

    async def _ask_ahead(self, reply: Reply) -> None:
        """Ask a silent holder early enough to know at its takeover that it does not answer."""
        rank = self._find_free_rank(reply, self._takeover - self._timing.peer_timeout - PAUSE)
        if rank is not None:
            await self._holder_answers(reply, rank)

    def _explain_no_rank(self, reply: Reply) -> str:
        unheld = [rank for rank in range(self._me.size) if not _find_holder(reply, rank)]
        if self._spare is Spare.BEYOND and unheld:
            return f"{format_ranks(unheld)} never joined, and are left to their own instances"
        return explain_all_held(self._me.size)

    def _find_drain(self, reply: Reply) -> bool:
        """Whether the Unit has been drained since the first look; an earlier order was for others."""
        order = reply.order
        if self._order is None:  # a store that is set back shows old ones
            self._order = max(1000 * reply.now, order.number if order else 0)
        self.drained = order is not None and order.kind is OrderKind.DRAIN and order.number > self._order
        return self.drained

    async def _holder_answers(self, reply: Reply, rank: int) -> bool:
        """Whether the silent holder of a rank answers when it is asked directly; or has just not answered."""
        holder = find_holder_to_ask(reply, rank, self._me, self._known)
        if holder is None or self._ask is None:
            return False
        if time.monotonic() - self._silent_at.get(holder.incarnation, NEVER) < 3 * PAUSE:
            return False
        alive = await self._ask(holder) is ProbeResult.ALIVE
        (self._answered_at if alive else self._silent_at)[holder.incarnation] = time.monotonic()
        return alive


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
    if record is None:
        return None
    return None if record.left or record.had_address_of(me) or not record.port else record


def remember_holders(reply: Reply, known: Mapping[str, Record]) -> dict[str, Record]:
    """Return the records of all holders of ranks: as the store shows them, else as they were read before."""
    shown = {record.incarnation: record for record in reply.records.values()}
    holders = {beat.incarnation for beat in reply.beats.values()}
    return {**{one: record for one, record in known.items() if one in holders}, **shown}


def make_claim(reply: Reply, rank: int, me: Record, *, observed: bool) -> Claim:
    """Return my record with this rank; ``observed``: I had unbroken contact for a lease.

    It keeps the charges of the record that it replaces: my successor needs them if I end before I write
    again.
    """
    took = reply.records.get(rank)
    tenure = choose_tenure(took, reply.now, observed=observed)
    charges = took.charges if took is not None and not took.failed else ()
    return Claim(replace(me, rank=rank, tenure=tenure, charges=charges), took)


def make_claim_exchange(claimed: Claim, reply: Reply, *, guard: bool) -> Exchange:
    """Return the exchange that replaces the last holder, and ends its generation if we lead."""
    me, took = claimed.me, claimed.took
    over = took is not None and (guard or me.rank == 0)
    return Exchange(
        record=me,
        take=_find_holder(reply, me.rank),
        seen=seen.count if (seen := reply.beats.get(me.rank)) else 0,
        generation=took.generation + 1 if took and over else 0,
        failure=None,
        judge=(),
        notify=False,
    )


def choose_pause(reply: Reply | None, leases: Leases, timing: Timing) -> float:
    """Return the seconds between two looks at the store: fewer while a holder may be lost, or I am new."""
    if reply is None or not is_settled(leases, timing.lease):
        return PAUSE
    holders = filter(None, (_find_holder(reply, rank) for rank in reply.records))
    quiet = any(leases.seconds_unchanged(holder) > timing.beat_due for holder in holders)
    return PAUSE if quiet else max(PAUSE, min(timing.heartbeat, _LONGEST_PAUSE))


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
) -> int | None:
    """Return the lowest rank whose last holder is certainly gone, or None.

    A rank that was last held at my own address comes first, since its files may be here. A holder that did
    not leave explicitly is not gone before I have watched the store for a lease: the store may have lost its
    data while all holders are alive. If the store is older than a lease by its own clock, which may have been
    set, I watch for as long as a connected holder needs to write. ``takeover`` is the longest of all holders
    that I have read: an agent lives by its own lease, which may be longer than mine. With ``lost_only`` I
    leave ranks that nobody has held to others.
    """
    aged = reply.age >= timing.lease
    settled = is_settled(leases, timing.contact_gap if aged else timing.lease)
    if not aged and not settled:
        return None
    places = [
        rank
        for rank in range(me.size)
        if not _was_held_lately(rank, leases, me, takeover) and (not lost_only or _find_holder(reply, rank))
    ]
    mine = (rank for rank in places if (old := reply.records.get(rank)) and old.had_address_of(me))
    free = (
        rank
        for rank in places
        if _has_left(rank, reply) or (settled and _is_free(rank, reply, leases, takeover, heard or {}))
    )
    return next(mine, next(free, None))


def is_settled(leases: Leases, seconds: float) -> bool:
    """Whether every living instance has had this many seconds, by my clock, to write to this store."""
    if leases.contact is None or leases.last is None:
        return False
    return leases.last - leases.contact >= seconds


def _was_held_lately(rank: int, leases: Leases, me: Record, takeover: float) -> bool:
    """Whether I saw a holder that the store has lost since: it still has time to write again."""
    former = leases.find_hidden(rank, besides=me.incarnation)
    return former is not None and leases.last is not None and leases.last - former.since <= takeover


def _is_free(rank: int, reply: Reply, leases: Leases, takeover: float, heard: Mapping[str, float]) -> bool:
    holder = _find_holder(reply, rank)
    answered = (leases.last or 0.0) - heard.get(holder, NEVER) < takeover
    return not holder or (leases.seconds_unchanged(holder) > takeover and not answered)


def _has_left(rank: int, reply: Reply) -> bool:
    record = reply.records.get(rank)
    return record is not None and record.left and record.incarnation == _find_holder(reply, rank)


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
