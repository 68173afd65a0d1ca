"""One life of one container: the production ``decide`` in a shell that acts on the simulated world."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from tests.simulation.claimant import Claimant
from tests.simulation.keeper import Keeper
from tests.simulation.resting import check_rest
from tests.simulation.workload import FOREVER, Nature, Workload
from unitagent.agent.rank_search import Spare
from unitagent.core import actions as act
from unitagent.core import decide, isolation, probe_answers, rank_ownership
from unitagent.core.config import Mode
from unitagent.core.events import (
    Drained,
    Event,
    Exchanged,
    HealthChecked,
    HealthProbed,
    KeeperGone,
    PeerAnswered,
    PeersChecked,
    PortFound,
    ProbeResult,
    Spawned,
    StopRequested,
    StoreFailed,
    Tick,
    WorkloadGone,
    WorkloadUnhealthy,
)
from unitagent.core.exits import Exit
from unitagent.core.invariants import check_invariants
from unitagent.core.model import Gang, InstanceState, Reason, Record, Reply
from unitagent.core.state import State, initial_state, make_failure
from unitagent.core.state_parts import Shutdown
from unitagent.core.status import last_leader_contact

if TYPE_CHECKING:
    from tests.simulation.world import World

PROBE_PORT = 9470
BUSY = 0.25  # seconds between two looks at the clock while something is on
NO_RANK = -1
_STILL_FREE = 0.9  # how likely a port that was free at the last start is free at the next one
_UP = Shutdown()


class Instance:
    """An agent, its container and its workload.

    Attributes:
        slot: the place that the platform runs it for; also its rank, unless ranks are claimed.
        host: its machine; ``ip`` is its address there.
        secret: what it signs with.
        alive: the agent's process exists.
        paused: the agent is frozen; its workload goes on.
        woken: when it was last thawed.
        answered: when the store made the last answer that came.
        asked: when it was first told to stop by a signal.
        died: when its agent ended.
        code: what its agent exited with.
        watching: incarnations whose end it hears of.
        names_until: until when its first contacts fail.

    """

    def __init__(self, world: World, slot: int, host: str, ip: str, number: int) -> None:
        self.world, self.slot, self.host, self.ip = world, slot, host, ip
        self.incarnation = f"r{slot}i{number}"
        self.skew = world.rng.uniform(0.0, 1000.0)  # no two monotonic clocks agree
        self._wall = world.rng.uniform(-0.3, 0.3)  # nor do clocks of the day, quite
        self.alive, self.paused = True, False
        self._whole_machine = False
        self.born = world.now
        self._late = self._frozen = 0.0
        self._minded, self._fed = float("inf"), float("-inf")
        self.woken = self.answered = float("-inf")
        self.shown: set[str] = set()  # gangs that the store has shown it as started
        self.asked: float | None = None
        self.died: float | None = None
        self.code: int | None = None
        self.workload: Workload | None = None
        self.keeper: Keeper | None = None
        self.watching: frozenset[str] = frozenset()
        self.names_until = world.now + world.rng.uniform(0.0, world.plan.names)
        self._backlog: list[tuple[Callable[..., Event], tuple[Any, ...]]] = []
        self._count = self._sent = self._next_port = 0
        self._judged: State | None = None
        self._ready = False
        odd = dict(world.odd.get(slot, {}))
        self.secret = str(odd.pop("secret", ""))
        self.odd = bool(odd or self.secret)
        if self.secret:
            world.signers[self.incarnation] = self.secret
        port = PROBE_PORT if world.plan.probes else 0
        spare = self._find_kind_of_spare()
        me = Record(
            rank=slot, incarnation=self.incarnation, size=world.plan.size, ip=ip, port=port, netns=host
        )
        me = replace(me, lease=world.plan.lease, **odd)
        self.claimant: Claimant | None = None
        if spare is None:
            self._start(me)
            world.schedule(0.0, self._look_at_clock)
        else:
            placeless = replace(me, rank=NO_RANK)
            self._start(placeless)
            self.claimant = Claimant(self, me if spare is Spare.HOME else placeless, spare)

    def _find_kind_of_spare(self) -> Spare | None:
        """How it looks for a rank; None where it has one for certain."""
        plan = self.world.plan
        if self.slot >= plan.size:
            return Spare.BEYOND
        if plan.auto:
            return Spare.ANY if plan.spares else Spare.NONE
        return Spare.HOME if plan.spares else None

    def _start(self, me: Record, *, claimed: bool = False) -> None:
        epoch = self._wall - self.skew
        rules = self.world.plan.config_of(me.rank, self.incarnation)
        rules = replace(rules, size=me.size, epoch=epoch, claimed=claimed)
        self.state = initial_state(rules, me, self.clock)

    def begin_life(self, me: Record, took: Record | None) -> None:
        """It has claimed this rank, in the place of that record."""
        self._start(me, claimed=True)
        if took is not None:
            self.state = rank_ownership.succeed_holder(self.state, took)
        self.world.story.add(self.world.now, self.incarnation, f"has claimed rank {me.rank}")
        self._look_at_clock()

    @property
    def rank(self) -> int:
        """Its number in the Unit; ``NO_RANK`` while it has none."""
        return self.state.config.rank

    @property
    def clock(self) -> float:
        """This machine's monotonic clock."""
        return self.world.now + self.skew

    @property
    def working(self) -> bool:
        """Whether any process of its workload lives."""
        return self.workload is not None and self.workload.alive

    # what it believes, in the world's time

    @property
    def contact(self) -> float | None:
        """Since when its contact with the store is unbroken."""
        since = self.state.store.leases.contact_since
        return None if since is None else since - self.skew

    @property
    def last_answer(self) -> float:
        """When the store last answered it."""
        last = self.state.store.leases.last_reply_at
        return float("-inf") if last is None else last - self.skew

    @property
    def touched(self) -> float:
        """When it began the exchange that the store last answered, on its own clock."""
        return float("-inf") if self.state.store.last_contact_at is None else self.state.store.last_contact_at

    @property
    def joined(self) -> float:
        """Since when its rank is its own."""
        since = self.state.store.joined_at
        return float("inf") if since is None else since - self.skew

    def in_contact_since(self, at: float) -> bool:
        """Whether it has been in unbroken contact with the one store that counts since then."""
        boards, since = self.world.boards, self.contact
        return since is not None and max(since, boards.joined_at) <= at and boards.is_main(self.host)

    def can_know_of(self, rival: Instance) -> bool:
        """Whether it has had the chance to learn that another has its rank. An instance that is cut off from
        the store has not. Without probes the two sides of a split store know nothing of each other (143813
        with keepers).
        """
        world = self.world
        apart = not world.plan.probes and world.boards.are_apart(self.host, rival.host)
        return not apart and self.in_contact_since(world.now - world.bounds.waking)

    # what it hears

    def handle_event(self, kind: Callable[..., Event], *facts: Any) -> None:
        """An event for this agent, now or when it is thawed."""
        if not self.alive:
            return
        if self.paused:
            self._backlog.append((kind, facts))
            return
        event = kind(self.clock, *facts)
        if isinstance(event, Exchanged):
            self.shown.update(one.gang for one in event.reply.records.values() if one.state.started)
        before = self.state
        self.state, actions = decide.decide(before, event)
        check_invariants(self.state)
        check_rest(before, event, self.state, actions)
        if self.world.story.told:
            self.world.story.step(self.world.now, event, before, self.state, actions)
        self.world.watch.note_decision(self, before, event)
        for observe in self.world.observers:
            observe(self, before)
        self._feed_watchdog()
        for action in actions:
            self._carry_out(action)

    def _look_at_clock(self) -> None:
        if not self.alive:
            return
        if not self.paused:
            self.handle_event(Tick, self._late)
        world, state = self.world, self.state
        step = world.plan.tick
        if step > BUSY and (state.shutdown != _UP):
            step = BUSY
        self._late = world.rng.random() * world.plan.late
        world.schedule(step + self._late, self._look_at_clock)

    def report_gone(self, workload: Workload) -> None:
        """Proof that nothing of this workload is left."""
        if self.workload is workload:
            self.handle_event(WorkloadGone)

    def report_keeper_gone(self, keeper: Keeper) -> None:
        """Nothing of this keeper is left."""
        if self.keeper is keeper:
            self.handle_event(KeeperGone)

    def signal(self) -> None:
        """SIGTERM to the agent."""
        if not self.alive:
            return
        self.asked = self.world.now if self.asked is None else self.asked
        if self.claimant is None or self.rank != NO_RANK:
            self.handle_event(StopRequested)
        elif not self.paused:
            self.claimant.end()

    def freeze(self, *, machine: bool = False) -> None:
        """SIGSTOP to the agent. Its watchdog goes on, unless the whole machine stands still."""
        self.paused, self._frozen = True, self.world.now
        self._whole_machine = machine

    @property
    def stands_still(self) -> bool:
        """Whether its whole machine does, its workload included."""
        return self.paused and self._whole_machine

    def _feed_watchdog(self) -> None:
        """As the agent's loop does it: the workload may live for a while after the last contact."""
        state, world = self.state, self.world
        touched = isolation.last_contact(state) - self.skew
        if not state.occupied:
            self._minded, self._fed = float("inf"), float("-inf")
        elif touched > self._fed and touched + world.timing.watchdog > world.now:
            if self._minded == float("inf"):
                world.schedule(touched + world.timing.watchdog - world.now, self._watch_over)
            self._minded, self._fed = touched + world.timing.watchdog, touched

    def _watch_over(self) -> None:
        """The watchdog ends a workload that nobody minds any more; it hears no word that comes too late."""
        if not self.alive or self._minded == float("inf"):
            return
        if self.stands_still:
            self._minded = max(self._minded, self.world.now + self.world.timing.tick)
        if self.world.now < self._minded:
            self.world.schedule(self._minded - self.world.now, self._watch_over)
            return
        self._minded = float("inf")
        if self.workload is not None:
            self.workload.kill_by_watchdog()
        if self.keeper is not None:
            self.keeper.kill_by_watchdog()

    def thaw(self) -> None:
        """SIGCONT: what came meanwhile is heard, not always in its order, and timers may come first."""
        if not self.paused:
            return
        slept = self.world.now - self._frozen
        self.paused, self.woken = False, self.world.now
        if self._whole_machine:
            self._minded = max(self._minded, self._frozen) + slept
        self.world.watch.lookout.look_whether_isolated(self)
        backlog, self._backlog = self._backlog, []
        if self.rank != NO_RANK:  # the loop finds first how late it is
            self.handle_event(Tick, slept)
        for kind, facts in backlog:
            late = kind is Exchanged and self.world.rng.random() < 0.5
            self.handle_event(*((StoreFailed, "late") if late else (kind, *facts)))

    def end_container(self) -> None:
        """The container ends, with all that runs in it."""
        self.alive, self.paused, self.died = False, False, self.world.now
        if self.workload is not None:
            self.workload.end_processes()
        if self.keeper is not None:
            self.keeper.end_processes()

    def stall_workload(self) -> None:
        """Its shell has found that the workload lives and cannot work."""
        if self.workload is not None and self.workload.main and self.state.me.state.serving:
            self.handle_event(
                WorkloadUnhealthy, make_failure(self.state, self.rank, Reason.STALLED, "no token is made")
            )

    # what it does

    def _carry_out(self, action: act.Action) -> None:
        world, rng = self.world, self.world.rng
        match action:
            case act.Exchange():
                self._exchange(action)
            case act.AskPeer():
                self._ask(action.peer)
            case act.CheckPeers():
                world.schedule(rng.uniform(0.005, 0.05), self._check, action)
            case act.WatchPeers():
                self.watching = frozenset(peer.incarnation for peer in action.peers if peer.port)
            case act.FindPort():
                port = self._next_port if self._next_port and rng.random() < _STILL_FREE else world.port()
                self._next_port = world.port()
                facts = action.generation, port, self._next_port
                world.schedule(rng.uniform(0.01, 0.1), self.handle_event, PortFound, *facts)
            case act.Spawn() | act.Stop() | act.SpawnKeeper() | act.StopKeeper():
                self._start_or_stop(action)
            case act.AwaitDrain():
                world.schedule(rng.choice((0.0, 0.5, 3.0, 30.0)), self.handle_event, Drained)
            case act.Quit():
                self.code = action.code
                world.end_agent(self)

    # the store

    def next_count(self) -> int:
        """The number of its next beat."""
        self._count += 1
        return self._count

    def _exchange(self, request: act.Exchange) -> None:
        world, timeout = self.world, self.world.timing.operation_timeout
        self._sent += 1
        lost = world.lossy and world.rng.random() < world.lossy / 2
        if lost:
            world.schedule(timeout, self._report_failure, self._sent)
            return
        if world.now < self.names_until or world.boards.of(self.host) is None:
            world.schedule(min(world.rng.choice((0.01, timeout)), timeout), self._report_failure, self._sent)
            return
        way = world.draw_delay()
        world.schedule(way, self._reach_store, request, self._sent, self.next_count())
        world.schedule(timeout, self._report_failure, self._sent)

    def _reach_store(self, request: act.Exchange, sent: int, count: int) -> None:
        """It may be the word of an agent that has given up waiting, or that is dead."""
        world = self.world
        reply = world.boards.exchange(self, self.rank, request, count, world.now)
        if reply is None:
            return
        world.watch.note_exchange(self, request.record)
        if request.notify:
            world.push_wakeup(self)
        if world.rng.random() >= world.lossy:
            world.schedule(world.draw_delay(), self._deliver_reply, sent, reply, world.now)

    def _deliver_reply(self, sent: int, reply: Reply, made: float) -> None:
        if sent == self._sent and self.host not in self.world.boards.deaf:
            self._sent += 1
            self.answered = made
            self.handle_event(Exchanged, self.ignore_strangers(reply))

    def ignore_strangers(self, reply: Reply) -> Reply:
        """What an agent reads of this answer: no record that is signed with another secret than its own."""
        foreign = frozenset(
            rank
            for rank, one in reply.records.items()
            if self.world.signers.get(one.incarnation, "") != self.secret
        )
        if not foreign:
            return reply
        known = {rank: one for rank, one in reply.records.items() if rank not in foreign}
        return replace(reply, records=known, unverified_ranks=foreign)

    def _report_failure(self, sent: int) -> None:
        if sent == self._sent:
            self._sent += 1
            self.handle_event(StoreFailed, "no answer")

    # the peers

    def _ask(self, peer: Record) -> None:
        deadline = self.world.now + self.world.timing.peer_timeout
        if self._says_something(peer):
            self.world.schedule(self.world.rng.uniform(0.002, 0.03), self._judge, peer, deadline)
        else:
            self._wait(peer, deadline)

    def _says_something(self, peer: Record) -> bool:
        """Whether there is an answer at its address, be it that nobody listens."""
        there = self.world.network.find_listener(self, peer.ip)
        return self.world.network.is_reachable(self, peer.ip) and not (there and there.paused)

    def _wait(self, peer: Record, deadline: float) -> None:
        """An agent that is frozen has the question, and answers once it is thawed."""
        left = deadline - self.world.now
        if left <= 0:
            self.handle_event(PeerAnswered, peer.rank, peer.incarnation, ProbeResult.SILENT)
        else:
            self.world.schedule(
                min(left, max(0.1, self.world.timing.peer_timeout / 4)), self._judge, peer, deadline
            )

    def _judge(self, peer: Record, deadline: float) -> None:
        about = (peer.rank, peer.incarnation)
        if not self._says_something(peer):  # any more, or yet
            self._wait(peer, deadline)
            return
        other = self.world.network.find_answerer(self, peer.ip)
        opinion = self._judge_answer(peer, other)
        if other is not None and opinion is ProbeResult.ALIVE:
            now, state = other.state.me, replace(other.state, now=other.clock)
            working, word = now.state.started, last_leader_contact(state)
            self.handle_event(PeerAnswered, *about, opinion, now.generation, working, other.ready, *word)
        else:
            self.handle_event(PeerAnswered, *about, opinion)

    def _judge_answer(self, peer: Record, other: Instance | None) -> ProbeResult:
        """What an answer at a peer's address is worth."""
        if other is None:
            return ProbeResult.REFUSED
        if other.secret != self.secret:
            return ProbeResult.STRANGER
        if other.incarnation != peer.incarnation:
            return ProbeResult.SELF if other is self else ProbeResult.OTHER
        return ProbeResult.ALIVE

    def _check(self, action: act.CheckPeers) -> None:
        answers = {peer.incarnation: self._who_answers(peer) for peer in action.peers}
        self.handle_event(PeersChecked, action.gang, answers)

    def _who_answers(self, peer: Record) -> ProbeResult:
        there = self.world.network.find_listener(self, peer.ip)
        silent = there.paused if there else not self.world.network.is_reachable(self, peer.ip)
        return ProbeResult.SILENT if silent else self._judge_answer(peer, there)

    # the workload

    def _spawn(self, gang: Gang) -> None:
        world = self.world
        world.watch.check_spawn(self, gang)
        self.workload = Workload(self, gang, self._draw_nature(), world.workload_ended)
        world.schedule(world.rng.uniform(0.0, 0.05), self.handle_event, Spawned, 4711)
        if world.plan.health and self.rank == 0:
            world.schedule(world.plan.load, self._check_health, self.workload, 0)
        if world.plan.mode is Mode.JOB:
            length = world.rng.uniform(3.0, 9.0) * world.plan.pace
            world.schedule(length, self.workload.exit, Exit(0, None))

    def _start_or_stop(self, action: act.Spawn | act.Stop | act.SpawnKeeper | act.StopKeeper) -> None:
        world = self.world
        match action:
            case act.Spawn():
                self._spawn(action.gang)
            case act.Stop():
                self._stop(action.grace)
            case act.SpawnKeeper():
                world.watch.keepers.check_keeper_spawn(self, action.gang)
                self.keeper = Keeper(self, action.gang)
            case act.StopKeeper():
                world.watch.keepers.check_keeper_stop(self)
                if self.keeper is not None and self.keeper.alive:
                    self.keeper.stop(action.grace)
                else:
                    world.schedule(0.01, self.handle_event, KeeperGone)

    def _draw_nature(self) -> Nature:
        rng, plan = self.world.rng, self.world.plan
        stubborn = rng.random() < plan.stubborn
        if plan.immortal and rng.random() < plan.immortal:
            return Nature(stubborn, FOREVER)
        slow = plan.slow > 0 and rng.random() < plan.slow
        return Nature(stubborn or slow, rng.uniform(0.5, 4.0) if slow else 0.0)

    def _check_health(self, workload: Workload, failed: int) -> None:
        """An engine gets healthy when all its parts run; after that, three failures in a row count."""
        if workload is not self.workload or not workload.main or workload.stopped is not None:
            return
        healthy = self.state.me.state is InstanceState.HEALTHY
        passes = not workload.sick and (healthy or workload.unwell or self.world.is_complete(workload.gang))
        self.handle_event(HealthProbed, "health", "" if passes else "it does not answer")
        if passes:
            self.handle_event(HealthChecked, not workload.unwell, "", False)
            failed = 0
        elif healthy:
            failed += 1
            if failed == 3:
                self.handle_event(HealthChecked, False, "it does not answer")
                return
        self.world.schedule(0.7 * max(1.0, self.world.plan.pace), self._check_health, workload, failed)

    def _stop(self, grace: float) -> None:
        self.world.watch.check_stop(self, grace)
        if self.workload is not None and self.workload.alive:
            self.workload.stop(grace)
        else:
            self.world.schedule(0.01, self.handle_event, WorkloadGone)

    @property
    def ready(self) -> bool:
        """What its ``/readyz`` says, which follows from its state alone."""
        if self._judged is not self.state:
            self._judged, self._ready = self.state, probe_answers.is_ready(self.state)
        return self.alive and self._ready
