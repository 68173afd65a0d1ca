"""One life of one container: the production ``decide`` in a shell that acts on the simulated world."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.simulation.boards import TIMEOUT
from tests.simulation.workload import Workload
from unitagent.core import actions as act
from unitagent.core import checks, decide
from unitagent.core.events import (
    Drained,
    Event,
    Exchanged,
    HealthChecked,
    Opinion,
    PeerAnswered,
    PeersChecked,
    PortFound,
    Spawned,
    StopAsked,
    StoreFailed,
    Tick,
    WorkloadGone,
)
from unitagent.core.exits import Exit
from unitagent.core.invariants import check_invariants
from unitagent.core.model import Gang, Mode, Record, Reply
from unitagent.core.state import first

if TYPE_CHECKING:
    from tests.simulation.world import World

ASK_TIMEOUT = 2.0  # seconds
PROBE_PORT = 9470


class Instance:
    """An agent, its container and its workload.

    Attributes:
        alive: the agent's process exists.
        paused: the agent is frozen; its workload goes on.
        woken: when it was last thawed.
        asked: when it was first told to stop by a signal.
        code: what its agent exited with.
        watching: incarnations whose end it hears of.

    """

    def __init__(self, world: World, rank: int, ip: str, number: int) -> None:
        self.world, self.rank, self.ip = world, rank, ip
        self.incarnation = f"r{rank}i{number}"
        self.skew = world.rng.uniform(0.0, 1000.0)  # no two monotonic clocks agree
        self.alive, self.paused = True, False
        self.born = world.now
        self.woken = -1e9
        self.asked: float | None = None
        self.code: int | None = None
        self.workload: Workload | None = None
        self.watching: frozenset[str] = frozenset()
        self._backlog: list[tuple[Callable[..., Event], tuple[Any, ...]]] = []
        rules = world.plan.rules(rank, self.incarnation)
        port = PROBE_PORT if rules.probes else 0
        me = Record(
            rank=rank, incarnation=self.incarnation, size=rules.size, ip=ip, port=port, netns=f"of {ip}"
        )
        self.state = first(rules, me, self.clock)
        world.after(0.0, self._tick)

    @property
    def clock(self) -> float:
        """This machine's monotonic clock."""
        return self.world.now + self.skew

    @property
    def working(self) -> bool:
        """Whether any process of its workload lives."""
        return self.workload is not None and self.workload.alive

    # what it hears

    def hear(self, kind: Callable[..., Event], *facts: Any) -> None:
        """An event for this agent, now or when it is thawed."""
        if not self.alive:
            return
        if self.paused:
            self._backlog.append((kind, facts))
            return
        event = kind(self.clock, *facts)
        before = self.state
        self.state, actions = decide.decide(before, event)
        check_invariants(self.state)
        self.world.story.step(self.world.now, event, before, self.state, actions)
        self.world.watch.decided(self, before)
        for action in actions:
            self._do(action)

    def _tick(self) -> None:
        if self.alive:
            if not self.paused:
                self.hear(Tick)
            self.world.after(self.world.plan.tick, self._tick)

    def gone(self, workload: Workload) -> None:
        """Proof that nothing of this workload is left."""
        if self.workload is workload:
            self.hear(WorkloadGone)

    def signal(self) -> None:
        """SIGTERM to the agent."""
        if self.alive:
            self.asked = self.world.now if self.asked is None else self.asked
            self.hear(StopAsked)

    def freeze(self) -> None:
        """SIGSTOP to the agent."""
        self.paused = True

    def thaw(self) -> None:
        """SIGCONT: what came meanwhile is heard, not always in its order, and timers may come first."""
        if not self.paused:
            return
        self.paused, self.woken = False, self.world.now
        backlog, self._backlog = self._backlog, []
        if self.world.rng.random() < 0.5:
            self.hear(Tick)
        for kind, facts in backlog:
            late = kind is Exchanged and self.world.rng.random() < 0.5
            self.hear(*((StoreFailed, "late") if late else (kind, *facts)))

    def die(self) -> None:
        """The container ends, with all that runs in it."""
        self.alive = False
        if self.workload is not None:
            self.workload.vanish()

    # what it does

    def _do(self, action: act.Action) -> None:
        world, rng = self.world, self.world.rng
        match action:
            case act.Exchange():
                self._exchange(action)
            case act.AskPeer():
                self._ask(action.peer)
            case act.CheckPeers():
                world.after(rng.uniform(0.005, 0.05), self._check, action)
            case act.WatchPeers():
                self.watching = frozenset(peer.incarnation for peer in action.peers if peer.port)
            case act.FindPort():
                world.after(rng.uniform(0.01, 0.1), self.hear, PortFound, action.generation, world.port())
            case act.Spawn():
                self._spawn(action.gang)
            case act.Stop():
                self._stop(action.grace)
            case act.AwaitDrain():
                world.after(rng.choice((0.0, 0.5, 3.0, 30.0)), self.hear, Drained)
            case act.Quit():
                self.code = action.code
                world.quit(self)

    def _exchange(self, request: act.Exchange) -> None:
        rng = self.world.rng
        if self.world.boards.of(self.ip) is None:
            self.world.after(rng.choice((0.01, TIMEOUT)), self.hear, StoreFailed, "no store")
            return
        self.world.after(rng.uniform(0.001, 0.02), self._arrive, request)

    def _arrive(self, request: act.Exchange) -> None:
        world = self.world
        reply = world.boards.exchange(self.ip, self.rank, self.incarnation, request, world.now)
        if request.notify and reply is not None:
            world.push(self)
        if reply is None or world.rng.random() < world.lossy:
            world.after(TIMEOUT, self.hear, StoreFailed, "no answer")
            return
        world.after(world.rng.uniform(0.001, 0.02), self._answered, reply)

    def _answered(self, reply: Reply) -> None:
        self.hear(Exchanged, reply)

    def _ask(self, peer: Record) -> None:
        world = self.world
        if world.reaches(self.ip, peer.ip) and not world.frozen(peer.ip):
            world.after(world.rng.uniform(0.002, 0.03), self._judge, peer)
        else:
            world.after(ASK_TIMEOUT, self.hear, PeerAnswered, peer.rank, peer.incarnation, Opinion.SILENT)

    def _judge(self, peer: Record) -> None:
        about = (peer.rank, peer.incarnation)
        other = self.world.at(peer.ip)
        if other is None:
            self.hear(PeerAnswered, *about, Opinion.REFUSED)
        elif other.incarnation != peer.incarnation:
            self.hear(PeerAnswered, *about, Opinion.OTHER)
        else:
            now = other.state.me
            self.hear(PeerAnswered, *about, Opinion.ALIVE, now.generation, now.state.started, other.ready)

    def _check(self, action: act.CheckPeers) -> None:
        answers = {peer.incarnation: self._who_answers(peer) for peer in action.peers}
        self.hear(PeersChecked, action.gang, answers)

    def _who_answers(self, peer: Record) -> Opinion:
        if not self.world.reaches(self.ip, peer.ip) or self.world.frozen(peer.ip):
            return Opinion.SILENT
        other = self.world.at(peer.ip)
        if other is None:
            return Opinion.REFUSED
        return Opinion.ALIVE if other.incarnation == peer.incarnation else Opinion.OTHER

    def _spawn(self, gang: Gang) -> None:
        world = self.world
        self.world.watch.spawning(self, gang)
        self.workload = Workload(self, gang, world.rng.random() < world.plan.stubborn, world.workload_ended)
        world.after(world.rng.uniform(0.0, 0.05), self.hear, Spawned, 4711)
        if world.plan.health and self.rank == 0:
            world.after(world.plan.load, self._check_health, self.workload, 0)
        if world.plan.mode is Mode.JOB:
            world.after(world.rng.uniform(3.0, 9.0), self.workload.exit, Exit(0, None))

    def _check_health(self, workload: Workload, failed: int) -> None:
        """An engine gets healthy when all its parts run; after that, three failures in a row count."""
        if workload is not self.workload or not workload.main or workload.stopped is not None:
            return
        well = not workload.sick and (self.state.me.state == "healthy" or self.world.complete(workload.gang))
        if well:
            self.hear(HealthChecked, True)
            failed = 0
        elif self.state.me.state == "healthy":
            failed += 1
            if failed == 3:
                self.hear(HealthChecked, False, "it does not answer")
                return
        self.world.after(0.7, self._check_health, workload, failed)

    def _stop(self, grace: float) -> None:
        self.world.watch.stopping(self, grace)
        if self.workload is not None and self.workload.alive:
            self.workload.stop(grace)
        else:
            self.world.after(0.01, self.hear, WorkloadGone)

    @property
    def ready(self) -> bool:
        """What its ``/readyz`` says."""
        return self.alive and checks.is_ready(self.state)
