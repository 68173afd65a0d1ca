"""Watches the files that a keeper has loaded (:mod:`kept_files`): no workload may start with old weights.

It checks the files before a stopped workload counts as gone, so that no barrier opens before a change is
known, and otherwise every few seconds. A change before a workload has used the keeper does not count: a file
that is written all the time would keep the Unit from ever starting.
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import TYPE_CHECKING

from unitagent.system.threads import run_in_daemon_thread
from unitagent.workload.kept_files import explain_change, take_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from unitagent.workload.kept_files import Snapshot

_log = logging.getLogger(__name__)

_INTERVAL = 2.0  # seconds between two looks
_SHARE = 0.05  # of the time, at most, that looks may take
_UNKNOWN = "whether the keeper's files have changed is not known"
_LIMIT = 5.0  # seconds that a look may take; a file server that hangs must not keep a Unit from restarting


class KeptFilesWatch:
    """The files of one keeper, from its start to its end.

    Args:
        paths: files and folders that it loads.
        report: called once, with what has changed, in words.

    """

    def __init__(self, paths: Sequence[str], report: Callable[[str], None]) -> None:
        self._paths, self._report = paths, report
        self._before: Snapshot | None = None
        self._is_used = self._has_reported = False
        self._told = ""
        self._looking: asyncio.Future[Snapshot] | None = None
        self._task = asyncio.create_task(self._run())

    def begin_use(self) -> None:
        """A workload uses the keeper from now on: what changes is to be reported."""
        self._is_used = True

    def close(self) -> None:
        """Look no more."""
        self._task.cancel()

    async def look(self) -> None:
        """Look at the files now, and report what has changed."""
        if self._before is None or not self._is_used or self._has_reported:
            return
        now = await self._take_snapshot()
        if now is not None and not self._has_reported and (change := explain_change(self._before, now)):
            self._has_reported = True
            self._report(change)

    async def _run(self) -> None:
        self._before = await self._take_snapshot()
        took = 0.0
        while self._before is not None and not self._has_reported:
            await asyncio.sleep(max(_INTERVAL, took / _SHARE))
            began = time.monotonic()
            await self.look()
            took = time.monotonic() - began

    async def _take_snapshot(self) -> Snapshot | None:
        try:
            async with asyncio.timeout(_LIMIT):
                return await self._look_anew()
        except TimeoutError:
            why = f"no answer within {_LIMIT:g} s"
        except OSError as error:
            why = f"{error.strerror}: {error.filename}"
        except Exception as error:  # noqa: BLE001 (a restart must not depend on it)
            why = f"internal error: {error!r}"
        what = "the keeper's files are not watched" if self._before is None else _UNKNOWN
        if why != self._told:
            _log.warning("%s: %s", what, why)
        self._told = why
        return None

    async def _look_anew(self) -> Snapshot:
        """Look once the last look, which may hang, is over: it may have missed what has changed since."""
        if self._looking is not None:
            await asyncio.wait([self._looking])
        look = partial(take_snapshot, self._paths, gone_ok=self._before is not None)
        self._looking = asyncio.ensure_future(run_in_daemon_thread(look, "kept-files"))
        self._looking.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may wait
        return await asyncio.shield(self._looking)
