"""A world in which all that happens follows from one seed: clock, network, store, containers, platform."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any

from tests.simulation.boards import Boards
from tests.simulation.instance import Instance
from tests.simulation.plan import Plan, draw
from tests.simulation.story import Story
from tests.simulation.validators import Watch
from tests.simulation.workload import Workload
from unitagent.core.events import PeerHungUp, Pushed
from unitagent.core.exits import Code, Exit
from unitagent.core.model import Gang, Mode

KEPT_CODES = (Code.BUDGET, Code.DISAGREE)  # the platform's own back-off is longer than our patience here
LOST_PUSHES = 0.03


class World:
    """Everything there is.

    Attributes:
        slots: the container that the platform wants for each rank.
        lives: all containers that ever were, in the order of their start.
        lossy: chance that an answer of the store is lost on its way.
        retired: ranks whose container the platform no longer wants.

    """

    def __init__(self, seed: int, told: bool = False) -> None:
        self.rng = Random(seed)
        self.plan: Plan = draw(self.rng, seed)
        self.now = 0.0
        self.story = Story(told)
        self.watch = Watch(self)
        self.boards = Boards(self.rng)
        self.slots: dict[int, Instance] = {}
        self.lives: list[Instance] = []
        self.retired: set[int] = set()
        self.lossy = 0.0
        self._at: dict[str, Instance] = {}
        self._lost: set[str] = set()
        self._apart: set[str] = set()
        self._pairs: set[frozenset[str]] = set()
        self._due: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = count()
        self._numbers = count(1)
        self._ports = count(20000)

    # time

    def after(self, delay: float, what: Callable[..., None], *facts: Any) -> None:
        """Something that will happen."""
        heapq.heappush(self._due, (self.now + delay, next(self._order), what, facts))

    def run(self, until: float) -> None:
        """Let time pass."""
        while self._due and self._due[0][0] <= until:
            self.now, _, what, facts = heapq.heappop(self._due)
            what(*facts)
        self.now = until

    # the network

    def reaches(self, one: str, other: str) -> bool:
        """Whether packets go from one address to the other and back."""
        if one == other:
            return True
        severed = {one, other} & self._apart or frozenset((one, other)) in self._pairs
        return not severed and other not in self._lost

    def frozen(self, ip: str) -> bool:
        """Whether the agent there accepts connections and never answers."""
        there = self._at.get(ip)
        return there is not None and there.paused

    def at(self, ip: str) -> Instance | None:
        """Who listens at an address."""
        there = self._at.get(ip)
        return there if there is not None and there.alive else None

    def accepts(self, one: str, other: str) -> bool:
        """Whether a connection is made."""
        return self.reaches(one, other) and self.at(other) is not None

    def sever(self, ip: str) -> None:
        """Cut an address off from all peers."""
        self._apart.add(ip)

    def sever_pair(self, one: str, other: str) -> None:
        """Cut two addresses off from each other."""
        self._pairs.add(frozenset((one, other)))

    def severed(self, ip: str) -> bool:
        """Whether this address is cut off from all peers."""
        return ip in self._apart

    @property
    def torn(self) -> bool:
        """Whether some pair of machines cannot talk while both can talk to others."""
        return bool(self._pairs)

    def splice(self, ip: str) -> None:
        """Undo ``sever``."""
        self._apart.discard(ip)

    def push(self, sender: Instance) -> None:
        """Tell everybody else on the sender's server to look."""
        for one in self.lives:
            hears = one is not sender and one.alive and self.boards.together(sender.ip, one.ip)
            if hears and self.rng.random() >= LOST_PUSHES:
                self.after(self.rng.uniform(0.001, 0.03), one.hear, Pushed)

    def port(self) -> int:
        """A free port."""
        return next(self._ports)

    # containers

    def create(self, rank: int, ip: str | None = None) -> None:
        """The platform starts a container for a rank."""
        held = self.slots.get(rank)
        if rank in self.retired or (held is not None and held.alive and ip is not None):
            return
        number = next(self._numbers)
        address = ip or f"10.0.{rank}.{number}"
        one = Instance(self, rank, address, number)
        self.slots[rank] = self._at[address] = one
        self.lives.append(one)
        self.story.add(self.now, one.incarnation, f"container starts at {address}")

    def members(self) -> list[Instance]:
        """Who holds a rank, as far as it knows itself."""
        return [one for one in self.lives if one.alive and one.state.joined and not one.state.fenced]

    def quit(self, one: Instance) -> None:
        """An agent ended by itself."""
        self.watch.quitting(one)
        self._end(one)
        if self._wanted(one):
            self.after(self.rng.uniform(0.3, 2.5), self.create, one.rank, one.ip)

    def kill(self, one: Instance) -> None:
        """The container is killed; the platform restarts it."""
        if not one.alive:
            return
        self.watch.struck(one.rank, "killed")
        self.story.add(self.now, one.incarnation, "container is killed")
        self._end(one)
        if self._wanted(one):
            self.after(self.rng.uniform(0.2, 3.0), self.create, one.rank, one.ip)

    def lose(self, one: Instance) -> None:
        """The machine dies without a packet; a replacement comes up elsewhere."""
        self.watch.struck(one.rank, "machine lost")
        self.story.add(self.now, one.incarnation, "machine is lost")
        self._lost.add(one.ip)
        one.paused = False
        one.die()
        self.after(self.rng.uniform(1.0, 9.0), self.replace, one)

    def replace(self, one: Instance) -> None:
        """A new container elsewhere, whatever the old one does."""
        if self.slots.get(one.rank) is one and one.rank not in self.retired:
            self.create(one.rank)

    def _wanted(self, one: Instance) -> bool:
        if self.slots.get(one.rank) is not one or one.rank in self.retired:
            return False
        succeeded = self.plan.mode is Mode.JOB and one.code == 0 and one.state.shutdown.completed
        return one.code not in KEPT_CODES and not succeeded

    def _end(self, one: Instance) -> None:
        one.paused = False
        one.die()
        for other in self.lives:
            if other.alive and one.incarnation in other.watching and self.reaches(other.ip, one.ip):
                self.after(self.rng.uniform(0.001, 0.05), other.hear, PeerHungUp, one.rank, one.incarnation)

    # workloads

    def complete(self, gang: Gang) -> bool:
        """Whether a workload of this generation runs on every rank."""
        running = {
            one.rank
            for one in self.lives
            if one.workload is not None
            and one.workload.main
            and one.workload.gang.generation == gang.generation
        }
        return len(running) == self.plan.size

    def workload_ended(self, ended: Workload) -> None:
        """Others of its gang may break because of it."""
        if ended.stopped is not None:
            return
        for one in self.lives:
            work = one.workload
            same = work is not None and work.main and work.gang.id == ended.gang.id
            if same and self.rng.random() < self.plan.contagion:
                self.after(self.rng.uniform(0.0, 4.0), self.crash, one, work)

    def crash(self, one: Instance, work: Workload | None, how: Exit | None = None) -> None:
        """The main process of a workload ends by itself."""
        if work is None or work is not one.workload or not work.main:
            return
        if work.stopped is None:
            self.watch.struck(one.rank, "crash")
        self.story.add(self.now, one.incarnation, "workload crashes")
        work.exit(how or Exit(1, None))

    # the end of all trouble

    def heal(self) -> None:
        """From here on only what is already broken has to be mended."""
        self.story.add(self.now, "world", "all faults are over")
        self.boards.heal()
        self.lossy = 0.0
        self._apart.clear()
        self._pairs.clear()
        for one in self.lives:
            one.thaw()
