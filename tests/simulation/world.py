"""A world in which all that happens follows from one seed: clock, network, store, containers, platform."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from random import Random
from typing import Any

from tests.simulation.embedded import Embedded
from tests.simulation.instance import Instance
from tests.simulation.network import Network
from tests.simulation.plan import Plan, draw_plan
from tests.simulation.stores import Boards
from tests.simulation.story import Story
from tests.simulation.watch import Watch
from tests.simulation.workload import Workload
from unitagent.core.config import Mode
from unitagent.core.events import PeerDisconnected, StoreNotified
from unitagent.core.exits import Exit, ExitCode
from unitagent.core.model import Gang
from unitagent.core.state import State

LOST_PUSHES = 0.03


class World:
    """Everything there is.

    Attributes:
        slots: the container that the platform wants in each place.
        lives: all containers that ever were, in the order of their start; ``living``: whose agents live.
        odd: settings by slot that differ from all others', for containers that are started from now on.
        signers: the secrets by incarnation of those who have another one than all others.
        lossy: chance that an answer of the store is lost on its way.
        lossy_until: when that last ended, or will.
        slow: chance that a word to or from the store is slow; ``straggling``: that it comes when nobody waits
            for it any more.
        retired: slots whose container the platform no longer wants.
        healed: all faults are over.
        observers: who hears of each decision of an agent, before it is carried out.

    """

    def __init__(self, seed: int, told: bool = False, **changes: Any) -> None:
        self.rng = Random(seed)
        self.plan: Plan = replace(draw_plan(self.rng, seed), **changes)
        self.timing, self.bounds = self.plan.timing, self.plan.bounds
        self.now = 0.0
        self.story = Story(told)
        self.watch = Watch(self)
        self.network = Network()
        self.boards = Embedded(self) if self.plan.embedded else Boards(self.rng)
        self.slots: dict[int, Instance] = {}
        self.lives: list[Instance] = []
        self.living: list[Instance] = []
        self.odd: dict[int, Mapping[str, Any]] = {}
        self.signers: dict[str, str] = {}
        self.retired: set[int] = set()
        self.healed = False
        self.observers: list[Callable[[Instance, State], None]] = []
        self.lossy = self.slow = self.straggling = 0.0
        self.lossy_until = float("-inf")
        self._due: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = count()
        self._numbers = count(1)
        self._ports = count(20000)

    # time

    def schedule(self, delay: float, what: Callable[..., None], *facts: Any) -> None:
        """Something that will happen."""
        heapq.heappush(self._due, (self.now + max(0.0, delay), next(self._order), what, facts))

    def run(self, until: float) -> None:
        """Let time pass."""
        due = self._due
        while due and due[0][0] <= until:
            self.now, _, what, facts = heapq.heappop(due)
            what(*facts)
        self.now = until

    def draw_span(self, least: float, most: float) -> float:
        """Seconds of trouble, stretched by the world's pace."""
        return self.rng.uniform(least, most) * self.plan.pace

    def draw_delay(self) -> float:
        """Seconds that a word to the store, or from it, is on its way."""
        if self.straggling and self.rng.random() < self.straggling:
            return self.rng.uniform(1.0, 4.0) * self.timing.operation_timeout
        if self.slow and self.rng.random() < self.slow:
            return self.rng.uniform(0.0, 0.7) * self.timing.operation_timeout
        return self.rng.uniform(0.001, 0.02)

    # the network

    def push_wakeup(self, sender: Instance) -> None:
        """Tell everybody else on the sender's server to look."""
        for one in self.living:
            hears = one is not sender and one.rank >= 0 and self.boards.are_together(sender.host, one.host)
            if hears and self.rng.random() >= LOST_PUSHES:
                self.schedule(self.rng.uniform(0.001, 0.03), one.handle_event, StoreNotified)

    def port(self) -> int:
        """A free port."""
        return next(self._ports)

    # containers

    def create_container(self, slot: int, before: Instance | None = None, ip: str = "") -> None:
        """The platform starts a container: where the one before was, or elsewhere, at an address if given."""
        held = self.slots.get(slot)
        if slot in self.retired or (held is not None and held.alive and before is not None):
            return
        if before is not None and self.healed and self._is_twin(before):
            before = None  # by now the twins have addresses of their own
        number = next(self._numbers)
        host = before.host if before else f"m{number}"
        address = before.ip if before else ip or f"10.0.{slot}.{number}"
        one = Instance(self, slot, host, address, number)
        self.slots[slot] = one
        self.network.add_listener(one)
        self.boards.note_container(one)
        self.lives.append(one)
        self.living.append(one)
        self.watch.note_start(one)
        self.story.add(self.now, one.incarnation, f"container starts on {host} at {address}")

    def list_members(self) -> list[Instance]:
        """Who holds a rank, as far as it knows itself."""
        return [one for one in self.living if one.state.joined and not one.state.fenced]

    def holder(self, rank: int) -> Instance | None:
        """Who is this rank, as far as it knows itself; the last one that began."""
        return next((one for one in reversed(self.living) if one.rank == rank), None)

    def end_agent(self, one: Instance) -> None:
        """An agent ended by itself."""
        self.watch.check_exit(one)
        self._end_container(one)
        if self._is_wanted(one):
            self.schedule(self.rng.uniform(0.3, 2.5), self.create_container, one.slot, one)

    def kill(self, one: Instance) -> None:
        """The container is killed; the platform restarts it."""
        if not one.alive:
            return
        self.watch.add_strike(one.rank, "killed")
        self.story.add(self.now, one.incarnation, "container is killed")
        self.watch.died(one)
        self._end_container(one)
        if self._is_wanted(one):
            self.schedule(self.rng.uniform(0.2, 3.0), self.create_container, one.slot, one)

    def lose(self, one: Instance) -> None:
        """The machine dies without a packet; a replacement comes up elsewhere."""
        self.watch.add_strike(one.rank, "machine lost")
        self.story.add(self.now, one.incarnation, "machine is lost")
        self.network.lose(one.host)
        self.watch.died(one)
        self._bury(one)
        self.schedule(self.draw_span(1.0, 15.0), self.replace, one)

    def replace(self, one: Instance, ip: str = "") -> None:
        """A new container elsewhere, whatever the old one does."""
        second_store = self.plan.embedded and one.slot == 0 and one.alive  # of which the first never hears
        if self.slots.get(one.slot) is one and one.slot not in self.retired and not second_store:
            self.create_container(one.slot, ip=ip)

    def _is_wanted(self, one: Instance) -> bool:
        """Whether the platform starts it again; its back-off after what people have to mend is long."""
        if self.slots.get(one.slot) is not one or one.slot in self.retired:
            return False
        succeeded = self.plan.mode is Mode.JOB and one.code == 0 and one.state.shutdown.completed
        kept = one.code == ExitCode.BUDGET or (one.code == ExitCode.DISAGREE and not self.healed)
        return not kept and not succeeded

    def _end_container(self, one: Instance) -> None:
        self._bury(one)
        for other in self.living:
            if one.incarnation in other.watching and self.network.are_linked(other.host, one.host):
                self.schedule(
                    self.rng.uniform(0.001, 0.05),
                    other.handle_event,
                    PeerDisconnected,
                    one.rank,
                    one.incarnation,
                )

    def _bury(self, one: Instance) -> None:
        if one.alive:
            self.living.remove(one)
        one.end_container()

    # workloads

    def is_complete(self, gang: Gang) -> bool:
        """Whether a workload of this generation runs on every rank."""
        return not self.list_missing(gang)

    def list_missing(self, gang: Gang) -> set[int]:
        """The ranks on which no workload of this generation runs."""
        running = {
            one.rank
            for one in self.living
            if one.workload is not None
            and one.workload.main
            and one.workload.gang.generation == gang.generation
        }
        return set(range(self.plan.size)) - running

    def workload_ended(self, ended: Workload) -> None:
        """Others of its gang may break because of it."""
        if ended.stopped is not None or not self.plan.contagion:
            return
        for one in self.living:
            work = one.workload
            same = work is not None and work.main and work.gang.id == ended.gang.id
            if same and self.rng.random() < self.plan.contagion:
                self.schedule(self.rng.uniform(0.0, 4.0), self.crash, one, work)

    def crash(self, one: Instance, work: Workload | None, how: Exit | None = None) -> None:
        """The main process of a workload ends by itself."""
        if work is None or work is not one.workload or not work.main:
            return
        if work.stopped is None:
            self.watch.add_strike(one.rank, "crash")
        self.story.add(self.now, one.incarnation, "workload crashes")
        work.exit(how or Exit(1, None))

    # the end of all trouble

    def heal(self) -> None:
        """From here on only what is already broken has to be mended."""
        self.story.add(self.now, "world", "all faults are over")
        self.healed = True
        self.boards.heal(self.now)
        self.lossy = self.slow = self.straggling = 0.0
        self.network.heal()
        for one in list(self.living):
            one.names_until = min(one.names_until, self.now)
            one.thaw()
        self.odd.clear()
        for one in list(self.living):
            if one.odd or self._is_twin(one):
                self.lose(one)
        for one in list(self.slots.values()):
            if not one.alive and one.code == ExitCode.DISAGREE:
                self.create_container(one.slot, one)

    def _is_twin(self, one: Instance) -> bool:
        """Whether another container has its address, and came first, or comes again at it."""
        rebuilt = any(other.slot < one.slot and other.ip == one.ip for other in self.slots.values())
        first = any(
            other is not one and other.ip == one.ip and other.born <= one.born for other in self.living
        )
        return rebuilt or first
