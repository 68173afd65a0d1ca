"""This process, what it was given, and what another one before it may have left here."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

from unitagent.errors import RebuildError
from unitagent.settings import Resolved
from unitagent.system.keyring import Keyring
from unitagent.workload import leftovers
from unitagent.workload.background import in_background
from unitagent.workload.leash import Leash
from unitagent.workload.reaper import Reaper
from unitagent.workload.signals import Birth

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Here:
    """This process: what it was born with, who reaps for it, who watches over it, and its Unit's keys."""

    born: Birth
    reaper: Reaper
    leash: Leash
    keys: Keyring


def given(found: Resolved) -> dict[str, str]:
    """The environment that the user gives a workload, the service file's part included."""
    return {**found.environment, **{name: text for name, text in os.environ.items() if text}}


async def end_former(unit: str, rank: int) -> None:
    """End what a former agent of this rank left behind.

    Raises:
        RebuildError: something of it cannot be ended.

    """
    former = await in_background(lambda: leftovers.end_former(unit, rank))
    if former.ended:
        _log.warning("ended %d processes that a former agent of this rank left behind", len(former.ended))
    if former.left:
        left = ", ".join(map(str, former.left))
        raise RebuildError(
            f"not even SIGKILL ended processes of a former agent of rank {rank}: {left}; until they are gone "
            "nothing may start in their place: rebuild this container, or this machine"
        )
