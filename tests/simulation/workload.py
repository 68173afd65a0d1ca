"""A workload of a simulated world: a main process and a descendant that outlives it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from unitagent.core.events import WorkloadExited
from unitagent.core.exits import Exit
from unitagent.core.model import Gang

if TYPE_CHECKING:
    from tests.simulation.instance import Instance

TERM, KILL = 15, 9
FOREVER = float("inf")


class Workload:
    """The processes that one ``Spawn`` made.

    Attributes:
        alive: any process of it lives.
        main: the main process lives.
        sick: its health check fails.
        stopped: when the agent first told it to stop.
        ended: when its last process died.

    """

    def __init__(
        self, owner: Instance, gang: Gang, stubborn: bool, on_end: Callable[[Workload], None]
    ) -> None:
        self.owner = owner
        self.gang = gang
        self.alive = self.main = True
        self.sick = False
        self.stubborn = stubborn
        self.stopped: float | None = None
        self.ended: float | None = None
        self._deadline = FOREVER
        self._on_end = on_end

    def exit(self, how: Exit) -> None:
        """The main process ends by itself; its descendant stays."""
        if self.main:
            self.main = False
            self.owner.hear(WorkloadExited, how)
            self._on_end(self)

    def stop(self, grace: float) -> None:
        """SIGTERM, then SIGKILL after the grace, as the agent's shell does it; a shorter grace counts."""
        world = self.owner.world
        if self.stopped is None:
            self.stopped = world.now
            if not self.stubborn:
                world.after(world.rng.uniform(0.02, 0.4), self._die, TERM)
        if world.now + grace < self._deadline:
            self._deadline = world.now + grace
            world.after(grace, self._die, KILL)

    def vanish(self) -> None:
        """The container is gone, and all processes with it."""
        if self.alive:
            self.alive = self.main = False
            self.ended = self.owner.world.now
            self._on_end(self)

    def _die(self, signal: int) -> None:
        if not self.alive:
            return
        if self.main:
            self.main = False
            self.owner.hear(WorkloadExited, Exit(None, signal))
        self.vanish()
        self.owner.world.after(0.01, self.owner.gone, self)
