"""A Unit on a table: the production ``decide`` of all ranks, one store, and no time but what a test passes.

Every action is carried out at once, in the order given; how workloads end by themselves is the test's to say.
What was done is kept as short words, so that a test can compare a whole story.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from tests.fakestore import StoreState
from unitagent.core import actions as act
from unitagent.core import probe_answers
from unitagent.core.config import CoreConfig
from unitagent.core.decide import decide
from unitagent.core.events import (
    Exchanged,
    KeeperExited,
    KeeperGone,
    KeeperReady,
    PeerAnswered,
    PeersChecked,
    PortFound,
    ProbeResult,
    Spawned,
    StoreFailed,
    StoreNotified,
    Tick,
    WorkloadExited,
    WorkloadGone,
)
from unitagent.core.exits import Exit
from unitagent.core.invariants import check_invariants
from unitagent.core.model import Beat, Order, OrderKind, Record, Reply
from unitagent.core.state import State, initial_state
from unitagent.core.state_parts import WorkloadPhase
from unitagent.core.status import last_leader_contact

STEP = 0.25


class Unit:
    """N agents and their store.

    Attributes:
        did: what the agents did, as ``rank word``, oldest first; exchanges and sentences are left out.
        said: what they told the operator.
        watched: who asked to hold connections to whom.
        codes: exit codes of the agents that have ended, by rank.
        cut: ranks that cannot reach the store.
        silent: ranks that answer no question.
        strangers: ranks that have another secret than the rest.
        trouble: why the store does not answer whoever is cut off.
        slow: ranks whose stopped workloads end only when the test says so.
        loading: ranks whose keepers are ready only when the test says so.
        slow_keepers: ranks whose stopped keepers end only when the test says so.
        elsewhere: incarnations that answer, though they are none of these agents.
        unread: what the store answered to ranks that do not read it, which are the keys.

    """

    def __init__(self, size: int, **rules: Any) -> None:
        self.now = 100.0
        self.size = size
        self.rules = rules
        self.store = StoreState()
        self.agents: dict[int, State] = {}
        self.did: list[str] = []
        self.said: list[str] = []
        self.watched: list[tuple[int, tuple[int, ...]]] = []
        self.codes: dict[int, int] = {}
        self.cut: set[int] = set()
        self.silent: set[int] = set()
        self.refusing: set[int] = set()
        self.strangers: set[int] = set()
        self.slow: set[int] = set()
        self.loading: set[int] = set()
        self.slow_keepers: set[int] = set()
        self.elsewhere: set[str] = set()
        self.unread: dict[int, Reply | None] = {}
        self.trouble = "cut"
        self._queue: deque[tuple[int, str, Any, tuple[Any, ...]]] = deque()
        self._lives = 0

    def create(self, *ranks: int, **record: Any) -> None:
        """Start agents, and let everything settle."""
        for rank in ranks:
            self._lives += 1
            incarnation = f"i{self._lives}"
            size = record.pop("size", self.size)
            own = CoreConfig(unit="u", rank=rank, size=size, incarnation=incarnation, **self.rules)
            ip = record.pop("ip", f"10.0.0.{rank}")
            place = {"ip": ip, "port": 9470, "netns": f"of {ip}", **record}  # the address tells the machine
            me = Record(rank=rank, incarnation=incarnation, size=size, lease=own.lease, **place)
            self.agents[rank] = initial_state(own, me, self.now)
            self.codes.pop(rank, None)
            self.tell(rank, Tick)

    def tell(self, rank: int, kind: Any, *facts: Any) -> None:
        """One event for one agent, and all that follows from it at this moment."""
        self._put(rank, kind, *facts)
        while self._queue:
            to, incarnation, event, told = self._queue.popleft()
            state = self.agents.get(to)
            if state is not None and state.me.incarnation == incarnation:
                self._step(to, event(self.now, *told))

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds / STEP)):
            self.now += STEP
            for rank in range(self.size):
                if rank in self.agents:
                    self.tell(rank, Tick)

    def crash(self, rank: int, code: int | None = 1, signal: int | None = None) -> None:
        """The main process of a workload ends by itself."""
        self.tell(rank, WorkloadExited, Exit(code, signal))

    def finish(self, rank: int) -> None:
        """A stopped workload's last process is gone."""
        self.tell(rank, WorkloadGone)

    def load(self, rank: int) -> None:
        """A keeper is ready."""
        self.tell(rank, KeeperReady)

    def crash_keeper(self, rank: int) -> None:
        """The main process of a keeper ends by itself."""
        self.tell(rank, KeeperExited, Exit(1, None))

    def finish_keeper(self, rank: int) -> None:
        """A stopped keeper's last process is gone."""
        self.tell(rank, KeeperGone)

    def kill(self, rank: int) -> None:
        """The container is gone, without a word."""
        del self.agents[rank]

    def take(self) -> list[str]:
        """What was done since the last time that somebody looked."""
        did, self.did = self.did, []
        return did

    def ready(self) -> set[int]:
        """The ranks that say ready."""
        return {rank for rank, state in self.agents.items() if probe_answers.is_ready(state)}

    def generations(self) -> set[int]:
        """In which generations the agents stand."""
        return {state.me.generation for state in self.agents.values()}

    def order(self, kind: OrderKind, reason: str = "", seconds: float = 0.0) -> Order:
        """An operator leaves an order in the store."""
        return self.store.order(Order(kind=kind, generation=0, reason=reason, seconds=seconds), self.now)

    def pause(self, seconds: float) -> None:
        """An operator pauses restarts, and all have heard of it."""
        self.order(OrderKind.PAUSE, "work on the machine", seconds)
        self.wait(2)

    def rival(self, rank: int, beats: int) -> None:
        """Another incarnation takes a rank in the store, later than its holder did, and lives for a while."""
        board, old = self.store.board, self.store.board.records[rank]
        later = old.tenure + 10**15
        board.records[rank] = replace(
            old, incarnation="rival", tenure=later, ip="10.9.9.9", netns="elsewhere"
        )
        board.holders[rank] = "rival"
        for count in range(1, beats + 1):
            board.beats[rank] = (Beat("rival", count), self.now)
            self.wait(1)

    def formed(self) -> Unit:
        """All ranks are there and run."""
        self.create(*range(self.size))
        self.wait(2)
        assert self.ready() == set(range(self.size))
        self.take()
        return self

    def _put(self, rank: int, kind: Any, *facts: Any) -> None:
        self._queue.append((rank, self.agents[rank].me.incarnation, kind, facts))

    def _step(self, rank: int, event: Any) -> None:
        before = self.agents[rank]
        self.agents[rank], actions = decide(before, event)
        check_invariants(self.agents[rank])
        self.stepped(before, self.agents[rank], actions)
        for action in actions:
            self._do(rank, action)

    def stepped(self, before: State, after: State, actions: tuple[act.Action, ...]) -> None:
        """Look on: an agent has made a step."""

    def _do(self, rank: int, action: act.Action) -> None:
        match action:
            case act.Log() | act.WatchPeers() | act.AwaitDrain():
                self._note(rank, action)
            case act.Exchange():
                self._exchange(rank, action)
            case act.FindPort():
                port = 20000 + action.generation
                self._put(rank, PortFound, action.generation, port, port + 1)
            case act.CheckPeers():
                self._check(rank, action)
            case act.AskPeer():
                self._ask(rank, action.peer)
            case act.Spawn():
                self.did.append(f"{rank} spawn {action.gang.generation}")
                self._put(rank, Spawned, 1000 + rank)
            case act.Stop():
                self._stop(rank, action.grace)
            case act.SpawnKeeper() | act.StopKeeper():
                self._keep(rank, action)
            case act.Quit():
                self.did.append(f"{rank} quit {action.code}")
                self.codes[rank] = action.code
                del self.agents[rank]

    def _note(self, rank: int, action: act.Log | act.WatchPeers | act.AwaitDrain) -> None:
        match action:
            case act.Log():
                self.said.append(action.text)
            case act.WatchPeers():
                self.watched.append((rank, tuple(peer.rank for peer in action.peers)))
            case act.AwaitDrain():
                self.did.append(f"{rank} await drain")

    def _keep(self, rank: int, action: act.SpawnKeeper | act.StopKeeper) -> None:
        match action:
            case act.SpawnKeeper():
                self.did.append(f"{rank} keep {action.gang.generation}")
                if rank not in self.loading:
                    self._put(rank, KeeperReady)
            case act.StopKeeper():
                self.did.append(f"{rank} end keeper {action.grace:g}")
                if rank not in self.slow_keepers:
                    self._put(rank, KeeperExited, Exit(None, 15))
                    self._put(rank, KeeperGone)

    def _exchange(self, rank: int, request: act.Exchange) -> None:
        if rank in self.cut:
            self._put(rank, StoreFailed, self.trouble)
            return
        incarnation = self.agents[rank].me.incarnation
        reply, pushed = self.store.exchange(rank, incarnation, request, self.now)
        if rank in self.unread:
            self.unread[rank] = reply
        else:
            self._put(rank, Exchanged, reply)
        for other in self._others(rank) if pushed else ():
            if other not in self.cut:
                self._put(other, StoreNotified)

    def _others(self, rank: int) -> Iterable[int]:
        return (other for other in self.agents if other != rank)

    def _check(self, rank: int, action: act.CheckPeers) -> None:
        odd = [(rank in self.strangers) != (peer.rank in self.strangers) for peer in action.peers]
        answers = [ProbeResult.STRANGER if one else ProbeResult.ALIVE for one in odd]
        names = (peer.incarnation for peer in action.peers)
        self._put(rank, PeersChecked, action.gang, dict(zip(names, answers, strict=True)))

    def _ask(self, rank: int, peer: Record) -> None:
        other = self.agents.get(peer.rank)
        about = (peer.rank, peer.incarnation)
        if {rank, peer.rank} & self.silent:
            self._put(rank, PeerAnswered, *about, ProbeResult.SILENT)
        elif peer.incarnation in self.elsewhere:
            self._put(rank, PeerAnswered, *about, ProbeResult.ALIVE, peer.generation, True, False)
        elif other is None or peer.rank in self.refusing:
            self._put(rank, PeerAnswered, *about, ProbeResult.REFUSED)
        elif other.me.incarnation != peer.incarnation:
            self._put(rank, PeerAnswered, *about, ProbeResult.OTHER)
        else:
            now, ready = other.me, probe_answers.is_ready(other)
            word = last_leader_contact(replace(other, now=self.now))
            working = now.state.started
            self._put(rank, PeerAnswered, *about, ProbeResult.ALIVE, now.generation, working, ready, *word)

    def _stop(self, rank: int, grace: float) -> None:
        self.did.append(f"{rank} stop {grace:g}")
        if rank in self.slow:
            return
        if (
            self.agents[rank].workload.exit is None
            or self.agents[rank].workload.phase is not WorkloadPhase.STOPPING
        ):
            self._put(rank, WorkloadExited, Exit(None, 15))
        self._put(rank, WorkloadGone)
