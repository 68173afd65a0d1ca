"""``RANK_ID=auto``: claim the lowest free rank in the store.

The invariant: a rank is taken from a living holder by no clock but mine. Its beat has stood still for a lease
and the margin, in my unbroken contact; however long the store slept, and whatever its clock says.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, replace

from unitagent.core.actions import Exchange
from unitagent.core.exits import Code
from unitagent.core.joining import ISOLATION_MARGIN
from unitagent.core.leases import Leases
from unitagent.core.model import Beat, Record, Reply
from unitagent.errors import StoreError, UnitAgentError
from unitagent.store.protocol import Store

_log = logging.getLogger(__name__)

_PAUSE, _REPORT = 0.25, 10.0  # seconds between tries, and between reports on waiting


class _NoStoreError(UnitAgentError):
    exit_code = Code.STORE


@dataclass(frozen=True, slots=True)
class Claimed:
    """My record with the rank that is mine now, and the record whose place it took."""

    me: Record
    took: Record | None = None


async def claim(store: Store, me: Record, *, guard: bool, lease: float, store_timeout: float) -> Claimed:
    """Claim a rank. Waits while all ranks are held.

    Raises:
        UnitAgentError: with code 69, the store was not reached within ``store_timeout`` seconds.

    """
    began = time.monotonic()
    reached, report = False, began + _REPORT
    claimant = _Claimant(store, me, guard=guard, lease=lease)
    while True:
        try:
            found = await claimant.attempt()
        except StoreError as error:
            if not reached and time.monotonic() - began > store_timeout:
                why = f"the store was not reached within {store_timeout:g} s (UNIT_STORE_TIMEOUT_SECONDS)"
                raise _NoStoreError(f"{why}: {error}") from error
        else:
            if found is not None:
                return found
            reached = True
        if time.monotonic() > report:
            _log.warning("waiting for a free rank: all %d ranks of the Unit are held", me.size)
            report = time.monotonic() + _REPORT
        await asyncio.sleep(_PAUSE)


class _Claimant:
    """Who looks for a rank, and what it has seen of the holders' beats."""

    def __init__(self, store: Store, me: Record, *, guard: bool, lease: float) -> None:
        self._store, self._me = store, me
        self._guard, self._lease = guard, lease
        self._leases = Leases()

    async def attempt(self) -> Claimed | None:
        """Look once, and put my record into a free place."""
        try:
            reply = await self._store.exchange(_look(self._me.size))
        except StoreError:
            self._leases = self._leases.broken()
            raise
        self._leases = self._leases.seen(_beats(reply), time.monotonic(), gap=self._lease / 2)
        rank = free_rank(reply, self._leases, self._me, self._lease)
        if rank is None:
            return None
        self._store.set_rank(rank)
        mine, took = replace(self._me, rank=rank), reply.records.get(rank)
        over = took is not None and (self._guard or rank == 0)  # then so is my predecessor's generation
        put = _put(mine, took, generation=took.generation + 1 if took and over else 0)
        answer = await self._store.exchange(put)
        return Claimed(mine, took) if answer.holder == mine.incarnation else None


def free_rank(reply: Reply, leases: Leases, me: Record, lease: float) -> int | None:
    """The rank to claim: the one whose last holder stood at my address, else the lowest free one.

    On a store that is younger than a lease nobody claims: it may have been wiped, with all holders alive.
    """
    if reply.age < lease:
        return None
    everywhere = range(me.size)
    here = (me.ip, me.port)
    for rank in everywhere:
        old = reply.records.get(rank)
        if old is not None and old.port and (old.ip, old.port) == here:
            return rank
    silent = lease + ISOLATION_MARGIN
    for rank in everywhere:
        record = reply.records.get(rank)
        if record is None or record.left or leases.unchanged(rank) > silent:
            return rank
    return None


def _beats(reply: Reply) -> dict[int, Beat]:
    """Everybody's beat; a record without one has stood still since I first saw it."""
    return {rank: Beat(record.incarnation, 0) for rank, record in reply.records.items()} | reply.beats


def _look(size: int) -> Exchange:
    return Exchange(record=None, take="", generation=0, failure=None, judge=tuple(range(size)), notify=False)


def _put(record: Record, took: Record | None, generation: int) -> Exchange:
    take = took.incarnation if took else ""
    return Exchange(record=record, take=take, generation=generation, failure=None, judge=(), notify=False)
