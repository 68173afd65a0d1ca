"""This process, what it was given, and what another one before it may have left here."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

from unitagent.errors import RebuildError
from unitagent.keys import Keyring
from unitagent.settings import Resolved
from unitagent.system.daemon_thread import run_in_daemon_thread
from unitagent.workload import leftovers
from unitagent.workload.reaper import Reaper
from unitagent.workload.signals import InheritedSignals
from unitagent.workload.watchdog_client import WatchdogClient

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProcessContext:
    """This process: what it was born with, who reaps for it, who watches over it, and its Unit's keys."""

    inherited_signals: InheritedSignals
    reaper: Reaper
    watchdog: WatchdogClient
    keys: Keyring


def merge_user_environment(resolved: Resolved) -> dict[str, str]:
    """The environment that the user gives a workload, the service file's part included."""
    return {**resolved.environment, **{name: text for name, text in os.environ.items() if text}}


async def kill_former_workload(unit: str, rank: int) -> None:
    """End what a former agent of this rank left behind.

    Raises:
        RebuildError: something of it cannot be ended.

    """
    former = await run_in_daemon_thread(lambda: leftovers.kill_leftovers(unit, rank))
    if former.ended:
        _log.warning("ended %d processes that a former agent of this rank left behind", len(former.ended))
    if former.left:
        left = ", ".join(map(str, former.left))
        raise RebuildError(
            f"not even SIGKILL ended processes of a former agent of rank {rank}: {left}; until they are gone "
            "nothing may start in their place: rebuild this container, or this machine"
        )
