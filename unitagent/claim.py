"""``RANK_ID=auto``: claim the lowest free rank in the store."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace

from unitagent.core.actions import Exchange
from unitagent.core.exits import Code
from unitagent.core.joining import ISOLATION_MARGIN
from unitagent.core.model import Record
from unitagent.errors import StoreError, UnitAgentError
from unitagent.store.protocol import Store, UnitSnapshot

_log = logging.getLogger(__name__)

_PAUSE, _REPORT = 0.25, 10.0  # seconds between tries, and between reports on waiting


class _NoStoreError(UnitAgentError):
    exit_code = Code.STORE


async def claim(store: Store, me: Record, lease: float, store_timeout: float) -> Record:
    """Claim a rank: my record with the rank that is mine now. Waits while all ranks are held.

    Raises:
        UnitAgentError: with code 69, the store was not reached within ``store_timeout`` seconds.

    """
    began = time.monotonic()
    reached, report = False, began + _REPORT
    while True:
        try:
            found = await _try(store, me, lease)
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


async def _try(store: Store, me: Record, lease: float) -> Record | None:
    snapshot = await store.read()
    if snapshot.age is None:
        await store.exchange(_look())  # from now on the store has an age
        return None
    rank = free_rank(snapshot, me, lease)
    if rank is None:
        return None
    store.set_rank(rank)
    mine, holder = replace(me, rank=rank), snapshot.records.get(rank)
    reply = await store.exchange(_put(mine, holder.incarnation if holder else ""))
    return mine if reply.holder == me.incarnation else None


def free_rank(snapshot: UnitSnapshot, me: Record, lease: float) -> int | None:
    """The rank to claim: the one whose last holder stood at my address, else the lowest free one.

    On a store that is younger than a lease nobody claims: it may have been wiped, with all holders alive.
    """
    if snapshot.age is None or snapshot.age < lease:
        return None
    for rank, old in sorted(snapshot.records.items()):
        if old.port and (old.ip, old.port) == (me.ip, me.port):
            return rank
    silent = lease + ISOLATION_MARGIN
    for rank in range(me.size):
        record = snapshot.records.get(rank)
        if record is None or record.left or snapshot.ages.get(rank, silent + 1) > silent:
            return rank
    return None


def _look() -> Exchange:
    return Exchange(record=None, take="", generation=0, failure=None, judge=(), notify=False)


def _put(record: Record, take: str) -> Exchange:
    return Exchange(record=record, take=take, generation=0, failure=None, judge=(), notify=False)
