"""This process: what it inherited, and what a former agent may have left behind."""

from __future__ import annotations

import logging
import os

from msgspec import Struct

from unitagent.errors import RebuildError
from unitagent.settings import Resolved
from unitagent.system.keyring import Keyring
from unitagent.system.threads import run_in_thread_or_here
from unitagent.workload import leftovers
from unitagent.workload.reaper import Reaper
from unitagent.workload.signals import InheritedSignals
from unitagent.workload.watchdog_client import WatchdogClient

_log = logging.getLogger(__name__)


class ProcessContext(Struct, frozen=True):
    """This process: its inherited signals, its reaper, its watchdog, and the keys of its Unit."""

    inherited_signals: InheritedSignals
    reaper: Reaper
    watchdog: WatchdogClient
    keys: Keyring


def merge_user_environment(resolved: Resolved) -> dict[str, str]:
    """Return the environment that the user gives the workload, including the service file's part."""
    return {**resolved.environment, **{name: text for name, text in os.environ.items() if text}}


async def kill_former_workload(unit: str, rank: int) -> None:
    """Kill the processes that a former agent of this rank left behind.

    Raises:
        RebuildError: some of them survive SIGKILL.

    """
    former = await run_in_thread_or_here(lambda: leftovers.kill_leftovers(unit, rank))
    if former.ended:
        _log.warning("killed %d processes that a former agent of this rank left behind", len(former.ended))
    if former.left:
        left = ", ".join(map(str, former.left))
        raise RebuildError(
            f"SIGKILL did not end processes of a former agent of rank {rank}: {left}; nothing can start here "
            "while they exist: recreate this container or reboot this machine"
        )
