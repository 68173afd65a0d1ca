"""Run an agent that is broken on purpose: ``sabotaged.py NAME run …``. The checker must notice each one.

What is broken is replaced in the memory of this process; nothing in the package knows of it.
"""

from __future__ import annotations

import asyncio
import runpy
import sys
from collections.abc import Callable

from msgspec.structs import replace

from unitagent.agent.launch import Launcher
from unitagent.core import decide, isolation, rank_ownership, shutdown
from unitagent.core.model import Gang, Record
from unitagent.core.state import Result, State
from unitagent.core.state_parts import WorkloadPhase
from unitagent.workload.environment import GangInfo
from unitagent.workload.lifecycle import Workload


def leaves_the_old_one() -> None:
    """The next generation is entered while the old workload is still being ended."""
    real = Workload._end_workload

    async def end(self: Workload, *, polite: bool) -> None:
        self._detached = asyncio.ensure_future(real(self, polite=polite))  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        self.pid = self._ending = None

    Workload._end_workload = end  # type: ignore[method-assign]


def never_isolates() -> None:
    """Cut off from everything, it serves on, and tells its watchdog that all is well."""
    isolation.is_isolated = lambda state: False
    isolation.last_contact = lambda state: state.now


def panics_without_store() -> None:
    """An outage of the store alone makes it stop."""
    isolation.is_isolated = lambda state: not state.connected and state.store.leases.last_reply_at is not None


def ignores_the_others() -> None:
    """It serves on when another rank's failure has ended the generation."""
    real = shutdown.stop_ended_generation

    def wind_down(state: State) -> Result:
        return (
            real(state)
            if state.workload.phase is WorkloadPhase.MAIN_EXITED or state.shutdown.leaving
            else (state, ())
        )

    decide.RULES = tuple((wind_down if rule is real else rule, stages) for rule, stages in decide.RULES)


def mixes_up_the_leader() -> None:
    """Every rank tells its workload that rank 0 is here."""
    real = Launcher._make_gang_info

    def info(self: Launcher, gang: Gang) -> GangInfo:
        return replace(real(self, gang), master_address=self._ip)

    Launcher._make_gang_info = info  # type: ignore[method-assign]


def obeys_a_memory() -> None:
    """Whoever the store shows as the holder of its rank fences it, alive or not, later or not."""
    real, latest = rank_ownership.leave_when_fenced, 2**60

    def fence(state: State) -> Result:
        holder = state.store.records.get(state.config.rank)
        if holder is None or holder.incarnation == state.me.incarnation:
            return real(state)
        shown = {**state.store.records, state.config.rank: replace(holder, tenure=latest)}
        after, actions = real(state.with_store(records=shown))
        return (after, actions) if after.fenced else (state, actions)

    rank_ownership.is_living = lambda state, incarnation: True
    decide.RULES = tuple((fence if rule is real else rule, stages) for rule, stages in decide.RULES)


def believes_an_address() -> None:
    """It takes a rank whose holder says the address that it has itself, in whatever network."""

    def had_address_of(self: Record, me: Record) -> bool:
        return bool(self.port) and (self.ip, self.port) == (me.ip, me.port)

    Record.had_address_of = had_address_of  # type: ignore[method-assign]


SABOTAGES: dict[str, Callable[[], None]] = {
    "leaves-the-old-one": leaves_the_old_one,
    "never-isolates": never_isolates,
    "panics-without-store": panics_without_store,
    "ignores-the-others": ignores_the_others,
    "mixes-up-the-leader": mixes_up_the_leader,
    "obeys-a-memory": obeys_a_memory,
    "believes-an-address": believes_an_address,
}

if __name__ == "__main__":
    SABOTAGES[sys.argv.pop(1)]()
    runpy.run_module("unitagent", run_name="__main__", alter_sys=True)
