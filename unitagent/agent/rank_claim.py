"""``RANK_ID=auto``, and spares: claim the lowest free rank in the store, and stand by until there is one.

The decisions are in :mod:`rank_search`; this module carries them out: it reads the store, asks the agents
that hold ranks, lists the instance among the spares, and claims.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from unitagent.agent import rank_search
from unitagent.agent.background_tasks import BackgroundTasks, ignore_failure
from unitagent.agent.rank_search import Claim, RankSearch, Spare, make_read_exchange
from unitagent.core.events import ProbeResult
from unitagent.core.exits import ExitCode
from unitagent.core.leases import NEVER
from unitagent.core.model import Record, Reply
from unitagent.core.rank_ownership import FIRST_WARNING, explain_never_reached, explain_not_reached
from unitagent.core.spares import Standby
from unitagent.core.timing import Timing
from unitagent.errors import StoreError, UnitAgentError
from unitagent.store.protocol import SpareList, Store

_log = logging.getLogger(__name__)

_REPORT = 10.0  # seconds between reports on waiting
_LONGEST_REPORT = 600.0  # of a spare, which waits for long
_MOST_QUESTIONS = 3  # one after the other
_AT_ONCE = 0.1  # seconds in which an agent that is there answers

AskHolder = Callable[[Record], Awaitable[ProbeResult]]
"""Asks which instance answers at the address of a record."""


class _NoStoreError(UnitAgentError):
    exit_code = ExitCode.STORE


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
    """An instance that looks for a rank.

    Attributes:
        reply: what the store answered last, at ``read_at`` on the monotonic clock.
        why: why it has no rank yet.
        entry: its place in the list of spares; None for none.

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
        entry: SpareEntry | None = None,
    ) -> None:
        """``ask`` asks a holder that is silent in the store directly; None if holders cannot be asked."""
        self._store, self._me, self._ask, self._spare = store, me, ask, spare
        self._search = RankSearch(me, guard=guard, timing=timing, spare=spare, asks=ask is not None)
        self.entry = entry
        self._questions = BackgroundTasks()
        self._asking: set[str] = set()
        at_once = spare is not Spare.NONE  # to which waiting is normal
        self._report_at = time.monotonic() + (0.0 if at_once else _REPORT)
        self._report_pause = _REPORT
        self.read_at = time.monotonic()
        self.why = self._search.explain()

    @property
    def reply(self) -> Reply | None:
        """What the store answered last."""
        return self._search.reply

    @property
    def drained(self) -> bool:
        """Whether an operator has drained the Unit since this instance first read the store."""
        return self._search.drained

    def choose_pause(self) -> float:
        """Return the seconds until the next look at the store."""
        return self._search.choose_pause()

    def report_waiting(self) -> None:
        """Log why there is no rank yet: a spare, to which that is normal, more and more rarely."""
        if time.monotonic() < self._report_at:
            return
        if self._spare is Spare.NONE:
            _log.warning("waiting for a free rank: %s", self.why)
        elif not self._search.stands_by:
            _log.info("waiting for rank %d: its last holder is silent", self._me.rank)
        else:
            _log.info("standing by, to take a rank when its instance is lost: %s", self.why)
            self._report_pause = min(2 * self._report_pause, _LONGEST_REPORT)
        self._report_at = time.monotonic() + self._report_pause

    async def try_claim(self) -> Claim | None:
        """Read the store once, and claim a free rank if there is one."""
        try:
            reply = await self._store.exchange(make_read_exchange(self._me.size))
        except StoreError as error:
            self._search.note_outage()
            self.why = str(error)
            raise
        self.read_at = time.monotonic()
        self._search.note_reply(reply, self.read_at)
        if self._search.drained:
            return None
        await self._ask_holders()
        rank = self._search.find_rank(self.entry.number if self.entry else None, time.monotonic())
        if self._asking & self._search.list_deciding(rank):
            rank = None
        elif rank is None and self._search.joins_home():
            return Claim(self._me)
        if rank is None:
            self.why = self._search.explain()
            await self._list_myself()
            return None
        self._store.set_rank(rank)
        claim, request = self._search.make_claim(rank)
        answer = await self._store.exchange(request)
        return claim if answer.holder == claim.me.incarnation else None

    async def _ask_holders(self) -> None:
        """Ask the holders that are late, and those on whose answer the next step depends.

        Whoever is there answers at once. While I wait for the others I go on looking at the store, or my
        contact with it would break.
        """
        for late in self._search.list_late_holders(time.monotonic()):
            self._start_question(late)
        for _ in range(_MOST_QUESTIONS):
            holder = self._search.find_holder_to_ask(time.monotonic())
            question = None if holder is None else self._start_question(holder)
            if question is None:
                return
            await asyncio.wait({question}, timeout=_AT_ONCE)

    def _start_question(self, holder: Record) -> asyncio.Task[None] | None:
        """Ask a holder; None if it is being asked."""
        if holder.incarnation in self._asking:
            return None
        self._asking.add(holder.incarnation)
        return self._questions.start_task(self._ask_holder(holder), ignore_failure)

    async def _ask_holder(self, holder: Record) -> None:
        sent, result = time.monotonic(), ProbeResult.SILENT
        try:
            if self._ask is not None:
                result = await self._ask(holder)
        finally:
            self._asking.discard(holder.incarnation)
        alive = result is ProbeResult.ALIVE
        self._search.note_answer(holder, sent, time.monotonic(), alive=alive)

    async def close(self) -> None:
        """End the questions that are under way, and leave the list."""
        await self._questions.close()
        if self.entry is not None:
            await self.entry.leave()

    async def _list_myself(self) -> None:
        """Stand in the list of spares, unless I may have a rank of my own yet."""
        if self.entry is None or not self._search.stands_by:
            return
        if self._spare is Spare.ANY and not self._search.settled:
            return
        self._search.others = await self.entry.renew()


class SpareEntry:
    """The place of this instance in the list of spares.

    The invariant: the list decides nothing but who goes first, and whom people see. Without it a spare takes
    a lost rank all the same.

    Attributes:
        number: its place; None while it has none.
        listed: all lines of the list, mine included.
        others: the other spares that stand by.

    """

    def __init__(self, spares: SpareList, me: Standby, *, size: int, lease: float) -> None:
        """``me``: with the number that it would like to have."""
        self._list, self._me, self._size, self._lease = spares, me, size, lease
        self._renewed, self._read_at = NEVER, time.monotonic()
        self.number: int | None = None
        self.listed: tuple[Standby, ...] = ()
        self.others: tuple[Standby, ...] = ()

    async def renew(self) -> tuple[Standby, ...]:
        """Write my line if it is due, and return the others that stand by; none if the store fails."""
        now = time.monotonic()
        if now - self._renewed < min(rank_search.LONGEST_PAUSE, self._lease / 4):
            return self.others
        self._renewed = now
        try:
            listed = await self._list.put(self._me, self._lease)
        except StoreError:
            self.others = ()
            return ()
        self.listed, self._read_at = listed, time.monotonic()
        mine = any(one.incarnation == self._me.incarnation for one in listed)
        self.others = tuple(
            one for one in listed if one.incarnation != self._me.incarnation and one.age <= self._lease
        )
        self.number = self._me.number if mine else None
        if not mine:  # another has that place
            self._me = replace(self._me, number=rank_search.choose_number(self.others, self._size))
            self._renewed = NEVER
        return self.others

    @property
    def age(self) -> float:
        """Seconds since the list was read."""
        return max(0.0, time.monotonic() - self._read_at)

    async def leave(self) -> None:
        """Remove my line: I have a rank, or end."""
        if self.number is None:
            return
        try:
            await self._list.remove(self._me)
        except StoreError as error:
            _log.debug("still listed among the spares: %s", error)
        self.number = None
