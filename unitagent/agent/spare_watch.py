"""Rank 0 watches the spares: how many stand by, and whether their addresses answer.

The invariant: nothing that a spare does or leaves undone touches the Unit. The list is read, and one spare is
asked, once in a while; neither depends on the size of the Unit.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from unitagent.core.events import ProbeResult
from unitagent.core.model import Record
from unitagent.core.spares import Standby, describe_spares, explain_missing
from unitagent.errors import StoreError
from unitagent.store.protocol import SpareList

_log = logging.getLogger(__name__)

_LEAST_PAUSE = 2.0  # seconds between two looks
_PATIENCE = 30.0  # seconds for which spares may be missing before that is logged, as while they start


class SpareWatch:
    """What rank 0 knows of the spares.

    Args:
        spares: their list in the store.
        ask: asks who answers at an address; None if agents cannot be asked.
        size: of the Unit.
        wanted: ``UNIT_SPARES``.
        lease: seconds after which a spare that has not renewed its line does not stand by any more.

    """

    def __init__(
        self,
        spares: SpareList,
        ask: Callable[[Record], Awaitable[ProbeResult]] | None,
        *,
        size: int,
        wanted: int,
        lease: float,
    ) -> None:
        self._list, self._ask, self._size, self._wanted, self._lease = spares, ask, size, wanted, lease
        self._listed: tuple[Standby, ...] = ()
        self._read_at: float | None = None
        self._answers: dict[str, bool] = {}  # by incarnation
        self._turn = 0
        self._bad_since: float | None = None
        self._told = ""

    @contextlib.asynccontextmanager
    async def watch_in_background(self) -> AsyncIterator[None]:
        """Watch for the duration of the block."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            await self._list.close()

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except StoreError as error:
                _log.debug("the list of spares was not read: %s", error)
            except Exception as error:  # noqa: BLE001 - it is only watched, and looked at again
                _log.error("internal error: cannot watch the spares: %r", error)
            await asyncio.sleep(max(_LEAST_PAUSE, self._lease / 2))

    async def look(self) -> None:
        """Read the list, and ask one spare."""
        self._listed, self._read_at = await self._list.read(), time.monotonic()
        known = {one.incarnation for one in self._listed}
        self._answers = {one: answers for one, answers in self._answers.items() if one in known}
        fresh = [one for one in self._listed if one.age <= self._lease and one.port]
        if fresh and self._ask is not None:
            self._turn += 1
            spare = fresh[self._turn % len(fresh)]
            self._answers[spare.incarnation] = await self._ask(self._make_record(spare)) is ProbeResult.ALIVE
        self._log_changes(time.monotonic())

    def _make_record(self, spare: Standby) -> Record:
        """Make the record by which a spare is asked: its number stands for its rank."""
        return Record(
            rank=spare.number, incarnation=spare.incarnation, size=self._size, ip=spare.ip, port=spare.port
        )

    def _log_changes(self, now: float) -> None:
        trouble = explain_missing(self.status())
        if not trouble:
            self._bad_since = None
            if self._told:
                _log.info("all %d spares stand by, and answer", self._wanted)
            self._told = ""
            return
        self._bad_since = now if self._bad_since is None else self._bad_since
        if now - self._bad_since >= _PATIENCE and trouble != self._told:
            self._told = trouble
            _log.warning("%s", trouble)

    def status(self) -> dict[str, Any] | None:
        """Return the key ``spares`` of ``/status``; None before the list was read."""
        if self._read_at is None:
            return None
        since = time.monotonic() - self._read_at
        return describe_spares(
            self._listed, self._lease, wanted=self._wanted, later=since, answers=self._answers
        )
