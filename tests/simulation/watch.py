"""The guarantees of the contract, watched from outside: by what processes live where, not by what agents say.

Each violation names the guarantee that it breaks by its number in the contract's "what must always hold".
This is where the world tells what happens; who judges it are the validators beside this file.

The invariant: nothing is excused for a time. Where something may be unknown, it is said to whom, and why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.simulation.endings import Endings
from tests.simulation.keeper_validators import Keepers
from tests.simulation.memory_validators import Memories
from tests.simulation.pauses import Pauses
from tests.simulation.plan import Plan
from tests.simulation.starts import Starts
from tests.simulation.time_validators import Lookout
from unitagent.core.events import Event
from unitagent.core.failures import REBUILT_WITHIN
from unitagent.core.model import Gang, OrderKind, Record
from unitagent.core.state import State

if TYPE_CHECKING:
    from tests.simulation.instance import Instance
    from tests.simulation.world import World

MOST = 5  # violations that are told


@dataclass(frozen=True, slots=True)
class Strike:
    """Something that may rightly end a generation."""

    at: float
    rank: int
    what: str


class Watch:
    """All validators of one world.

    Attributes:
        violations: what was broken, with its time.
        strikes: what may rightly have ended a generation.
        orders: when an operator's wish was first left in an agent's life, by incarnation.
        drained: when the Unit was last drained in an agent's life, by incarnation.
        pure: nothing but what the profile stands for has happened.
        disputed: some instance was told something else than the others.

    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.violations: list[str] = []
        self.strikes: list[Strike] = []
        self.orders: dict[str, float] = {}
        self.drained: dict[str, float] = {}
        self.last_order = float("-inf")
        self.pure = True
        self.disputed = False
        self.starts = Starts(self)
        self.endings = Endings(self)
        self.memories = Memories(self)
        self.lookout = Lookout(self)
        self.pauses = Pauses(self)
        self.keepers = Keepers(self)

    @property
    def plan(self) -> Plan:
        """What this world is about."""
        return self.world.plan

    def report_violation(self, guarantee: str, what: str) -> None:
        """A violation."""
        line = f"{self.world.now:.3f}: [{guarantee}] {what}"
        self.world.story.add(self.world.now, "VIOLATED", f"[{guarantee}] {what}")
        if len(self.violations) < MOST:
            self.violations.append(line)

    @property
    def blinded(self) -> bool:
        """Whether the store has of late lost all beats but two of a lease, where no peer can be asked: the
        one of a lease of less than three heartbeats, or one each time that it was set back (seed 40001935).
        """
        timing = self.world.timing
        since = self.world.now - self.world.bounds.told
        lost = sum(at > since for at in self.world.boards.losses)
        return not self.plan.probes and lost > max(0.0, timing.lease / timing.heartbeat - 3)

    # what is told

    def add_strike(self, rank: int, what: str) -> None:
        """Something may rightly end a generation."""
        self.strikes.append(Strike(self.world.now, rank, what))

    def note_order(self, living: Sequence[Instance], kind: OrderKind) -> None:
        """An operator's wish has been left while these agents lived."""
        self.last_order = self.world.now
        if kind is OrderKind.DRAIN:
            self.drained.update((one.incarnation, self.world.now) for one in living)
        for one in living:
            self.orders.setdefault(one.incarnation, self.world.now)

    def note_start(self, one: Instance) -> None:
        """An agent starts; one whose predecessor could not hear the last order any more hears it instead. How
        old an order is nobody can tell where the store's clock was set back since.
        """
        if self.world.now - self.last_order < REBUILT_WITHIN or self.world.boards.shift < 0:
            self.orders.setdefault(one.incarnation, self.last_order)

    def note_decision(self, one: Instance, before: State, event: Event) -> None:
        """An agent has heard something, and drawn its conclusions."""
        if one.state is not before:
            self.pauses.note_decision(one, event)
            self.memories.note_decision(one, before, event)
            self.starts.note_decision(one, before)
            self.endings.note_decision(one, before)
            self.lookout.note_decision(one, event)

    def note_exchange(self, one: Instance, said: Record | None) -> None:
        """An agent's word has reached the store."""
        self.memories.note_exchange(one, said)

    def check_spawn(self, one: Instance, gang: Gang) -> None:
        """A workload starts."""
        self.starts.check_spawn(one, gang)
        self.keepers.check_spawn(one, gang)
        self.lookout.note_start(one)

    def check_stop(self, one: Instance, grace: float) -> None:
        """A workload is told to stop within this grace."""
        work = one.workload
        if work is not None and work.main and work.stopped is None:
            self.endings.check_stop(one, grace)

    def check_exit(self, one: Instance) -> None:
        """An agent ends by itself."""
        self.endings.check_exit(one)
        self.keepers.check_exit(one)

    def died(self, one: Instance) -> None:
        """A container is about to end without a word."""
        self.lookout.note_death(one)

    def look(self) -> None:
        """Once in a while: what shows only over time."""
        self.lookout.look()
