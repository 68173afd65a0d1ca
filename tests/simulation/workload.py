"""A workload of a simulated world: a main process and a descendant that outlives it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unitagent.core.events import WorkloadExited, WorkloadStuck
from unitagent.core.exits import Exit
from unitagent.core.model import Gang

if TYPE_CHECKING:
    from tests.simulation.instance import Instance

TERM, KILL = 15, 9
FOREVER = float("inf")
STUCK_AFTER = 5.0  # seconds after SIGKILL by which the agent's shell says that something cannot be killed


@dataclass(frozen=True, slots=True)
class Nature:
    """How it takes to signals: ``slow`` seconds from SIGKILL to its end, infinite for never."""

    stubborn: bool = False
    slow: float = 0.0


class Workload:
    """The processes that one ``Spawn`` made.

    Attributes:
        alive: any process of it lives.
        main: the main process lives.
        sick: its health check fails; ``unwell``: its readiness check does.
        stopped: when the agent first told it to stop.
        killed: it got SIGKILL; from then on the kernel decides how long it lives.

    """

    def __init__(
        self, owner: Instance, gang: Gang, nature: Nature, on_end: Callable[[Workload], None]
    ) -> None:
        self.owner = owner
        self.gang = gang
        self.born = owner.world.now
        self.alive = self.main = True
        self.sick = self.unwell = self.killed = False
        self.stopped: float | None = None
        self._draw_nature = nature
        self._deadline = FOREVER
        self._on_end = on_end

    def exit(self, how: Exit) -> None:
        """The main process ends by itself; its descendant stays."""
        if self.main:
            self.main = False
            self.owner.handle_event(WorkloadExited, how)
            self._on_end(self)

    def stop(self, grace: float) -> None:
        """SIGTERM, then SIGKILL after the grace, as the agent's shell does it; a shorter grace counts."""
        world = self.owner.world
        if self.stopped is None:
            self.stopped = world.now
            if not self._draw_nature.stubborn and self._draw_nature.slow < FOREVER:
                world.schedule(world.rng.uniform(0.02, 0.4), self._end_by_signal, TERM)
        if world.now + grace < self._deadline:
            self._deadline = world.now + grace
            world.schedule(grace, self._kill)

    def end_processes(self) -> None:
        """The container is gone, and all processes with it."""
        if self.alive:
            self.alive = self.main = False
            self._on_end(self)

    def kill_by_watchdog(self) -> None:
        """The agent's watchdog has killed it."""
        if not self.alive:
            return
        self.owner.world.watch.endings.check_watchdog(self.owner)
        if self.main:
            self.owner.handle_event(WorkloadExited, Exit(None, KILL))
        self.end_processes()
        if self.stopped is not None:
            self.owner.report_gone(self)

    def _kill(self) -> None:
        self.killed = True
        if self._draw_nature.slow < FOREVER:
            self.owner.world.schedule(self._draw_nature.slow, self._end_by_signal, KILL)
        else:
            self.owner.world.schedule(STUCK_AFTER, self._report_stuck)

    def _report_stuck(self) -> None:
        if self.alive:
            self.owner.handle_event(WorkloadStuck, "process 4711 cannot be killed")

    def _end_by_signal(self, signal: int) -> None:
        if not self.alive:
            return
        if self.main:
            self.main = False
            self.owner.handle_event(WorkloadExited, Exit(None, signal))
        self.end_processes()
        self.owner.world.schedule(0.01, self.owner.report_gone, self)
