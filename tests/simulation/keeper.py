"""A keeper of a simulated world: a process group that loads, and outlives the workloads beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitagent.core.events import KeeperExited, KeeperReady, KeeperStale
from unitagent.core.exits import Exit
from unitagent.core.model import Gang

if TYPE_CHECKING:
    from tests.simulation.instance import Instance

TERM, KILL = 15, 9


class Keeper:
    """The processes that one ``SpawnKeeper`` made.

    Attributes:
        alive: any process of it lives; ``main``: the main process does.
        stale: what it has loaded has changed.
        stopped: when the agent first told it to stop.

    """

    def __init__(self, owner: Instance, gang: Gang) -> None:
        self.owner = owner
        self.gang = gang
        self.alive = self.main = True
        self.stale = False
        self.stopped: float | None = None
        rng = owner.world.rng
        self._stubborn = rng.random() < owner.world.plan.stubborn
        owner.world.schedule(rng.uniform(0.1, 3.0), self._load)

    def exit(self) -> None:
        """The main process ends by itself; its descendant stays."""
        if self.main:
            self.main = False
            self.owner.handle_event(KeeperExited, Exit(1, None))

    def grow_stale(self) -> None:
        """What it has loaded changes; its agent finds that out."""
        self.stale = True
        self.owner.handle_event(KeeperStale, "a file has changed")

    def stop(self, grace: float) -> None:
        """SIGTERM, then SIGKILL after the grace."""
        world = self.owner.world
        if self.stopped is None:
            self.stopped = world.now
            if not self._stubborn:
                world.schedule(world.rng.uniform(0.02, 0.6), self._end_by_signal, TERM)
        world.schedule(grace, self._end_by_signal, KILL)

    def end_processes(self) -> None:
        """The container is gone, or the watchdog has killed it."""
        self.alive = self.main = False

    def kill_by_watchdog(self) -> None:
        """The agent's watchdog has killed it; the agent's shell finds that out."""
        self._end_by_signal(KILL)

    def _load(self) -> None:
        """It is ready when the keepers of all ranks are there: they load together."""
        world = self.owner.world
        if not self.main or self.stopped is not None:
            return
        together = {
            one.incarnation
            for one in world.living
            if one.keeper is not None and one.keeper.main and one.keeper.gang.id == self.gang.id
        }
        if together >= set(self.gang.incarnations):
            world.watch.keepers.note_ready(self.owner, self.gang)
            self.owner.handle_event(KeeperReady)
        else:
            world.schedule(0.2, self._load)

    def _end_by_signal(self, signal: int) -> None:
        if not self.alive:
            return
        if self.main:
            self.main = False
            self.owner.handle_event(KeeperExited, Exit(None, signal))
        self.end_processes()
        self.owner.world.schedule(0.01, self.owner.report_keeper_gone, self)
