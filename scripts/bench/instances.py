"""Instances without processes: the real core and the real store, and workloads that are only said to run.

A few driver processes hold many instances each, so that a store can be shown thousands of them. Peers are not
asked; whoever the store shows is taken to answer. A driver is this file, run with a JSON object of what to
hold; it writes a line of JSON for every event, and obeys lines on its standard input: ``crash UNIT RANK``,
``replace UNIT RANK``, ``latencies``, ``counts``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from unitagent.core import actions as act
from unitagent.core import events as ev
from unitagent.core.config import CoreConfig
from unitagent.core.decide import decide, next_wakeup
from unitagent.core.exits import Exit
from unitagent.core.model import InstanceState, Record
from unitagent.core.state import initial_state
from unitagent.core.state_parts import WorkloadPhase
from unitagent.errors import StoreError
from unitagent.store.redis_store import RedisStore

CALM, BUSY = 0.25, 0.05  # seconds between two looks at the clock, as in an agent
COMPARED = 10  # records compared with the store's each second in a large Unit, as in an agent
FILES = 20000
LEASE = 5.0  # seconds, or heartbeats where these are longer than a second

Told = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Hold:
    """What one driver holds: these ranks of each of these Units.

    Attributes:
        heartbeat: seconds; a thousand instances that share a core have to be slower than a thousand machines.

    """

    url: str
    units: Sequence[str]
    size: int
    ranks: Sequence[int]
    heartbeat: float = 1.0


class Instance:
    """One rank of one Unit.

    Attributes:
        latencies: seconds that each exchange with the store took.
        counts: of exchanges begun, of those that wake the others up, and of wake-ups by others.

    """

    def __init__(self, unit: str, rank: int, hold: Hold, on_start: Callable[[int], None]) -> None:
        incarnation = uuid.uuid4().hex
        rules = CoreConfig(
            unit=unit,
            rank=rank,
            size=hold.size,
            incarnation=incarnation,
            guard=True,
            heartbeat=hold.heartbeat,
            lease=LEASE * hold.heartbeat if hold.heartbeat > 1 else LEASE,
            max_restarts=10**6,
            backoff=(0.0,),
            epoch=time.time() - time.monotonic(),
        )
        ip = f"10.0.{rank // 250}.{rank % 250 + 1}"
        me = Record(
            rank=rank, incarnation=incarnation, size=hold.size, ip=ip, port=9470, netns=ip, lease=rules.lease
        )
        self._state = initial_state(rules, me, time.monotonic())
        self._store = RedisStore(
            unit,
            hold.url,
            timeout=rules.timing.operation_timeout * max(1.0, hold.heartbeat),
            rank=rank,
            incarnation=incarnation,
            size=hold.size,
            refresh=max(rules.lease, hold.size / COMPARED),
        )
        self._on_start = on_start
        self._queue: asyncio.Queue[ev.Event] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self.latencies: list[float] = []
        self.counts: Counter[str] = Counter()

    async def run(self) -> None:
        """Live until cancelled, or until the core ends."""
        self._begin(self._store.listen(self._wake_up))
        self._put(ev.Tick)
        try:
            while True:
                event, late = await self._next()
                if late > 0:
                    self._step(ev.Tick(time.monotonic(), late))
                if self._step(event):
                    return
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._store.close()

    def crash(self) -> None:
        """The workload ends by itself."""
        self._put(ev.WorkloadExited, Exit(1, None))

    def _wake_up(self) -> None:
        self.counts["wake-ups"] += 1
        self._put(ev.StoreNotified)

    async def _next(self) -> tuple[ev.Event, float]:
        loop, pause = asyncio.get_running_loop(), self._pause()
        timer = loop.call_later(pause, self._put, ev.Tick)
        due = loop.time() + pause
        try:
            event = await self._queue.get()
        finally:
            timer.cancel()
        return event, loop.time() - due - self._state.config.timing.tick

    def _pause(self) -> float:
        wake = next_wakeup(self._state)
        if wake is not None and (left := wake - time.monotonic()) > 0:
            return left
        calm = self._state.me.state in (InstanceState.IDLE, InstanceState.RUNNING, InstanceState.HEALTHY)
        slow = self._state.config.heartbeat
        return (CALM if calm else BUSY) if slow <= 1 else slow

    def _put(self, kind: Callable[..., ev.Event], *facts: Any) -> None:
        self._queue.put_nowait(kind(time.monotonic(), *facts))

    def _step(self, event: ev.Event) -> bool:
        self._state, actions = decide(self._state, event)
        for action in actions:
            self._perform(action)
        return bool(actions) and isinstance(actions[-1], act.Quit)

    def _perform(self, action: act.Action) -> None:
        match action:
            case act.Exchange():
                self._begin(self._exchange(action))
            case act.FindPort():
                port = 20000 + 8 * (action.generation % 1000)
                self._put(ev.PortFound, action.generation, port, port + 8)
            case act.CheckPeers():
                alive = dict.fromkeys((peer.incarnation for peer in action.peers), ev.ProbeResult.ALIVE)
                self._put(ev.PeersChecked, action.gang, alive)
            case act.AskPeer():
                peer = action.peer
                word = (peer.generation, peer.state.started, True)
                self._put(ev.PeerAnswered, peer.rank, peer.incarnation, ev.ProbeResult.ALIVE, *word)
            case act.Spawn():
                self._put(ev.Spawned, 1)
                self._on_start(action.gang.generation)
            case act.Stop():
                if (
                    self._state.workload.exit is None
                    or self._state.workload.phase is not WorkloadPhase.STOPPING
                ):
                    self._put(ev.WorkloadExited, Exit(None, 15))
                self._put(ev.WorkloadGone)

    async def _exchange(self, action: act.Exchange) -> None:
        begun = time.monotonic()
        self.counts["exchanges"] += 1
        self.counts["pushes"] += action.notify
        try:
            reply = await self._store.exchange(action)
        except StoreError as error:
            self._put(ev.StoreFailed, str(error))
        else:
            self.latencies.append(time.monotonic() - begun)
            self._put(ev.Exchanged, reply)

    def _begin(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Driver:
    """Holds instances, tells of their starts and obeys orders."""

    def __init__(self, hold: Hold, tell: Told) -> None:
        self._hold, self._tell = hold, tell
        self._lives: dict[tuple[str, int], tuple[Instance, asyncio.Task[None]]] = {}
        self._starts: dict[tuple[str, int], set[int]] = {}

    async def run(self) -> None:
        """Hold all until standard input ends."""
        for unit in self._hold.units:
            for rank in self._hold.ranks:
                self._begin(unit, rank)
        orders = await _lines_of_stdin()
        while line := await orders.readline():
            self._obey(*line.decode().split())

    def _begin(self, unit: str, rank: int) -> None:
        def started(generation: int) -> None:
            ranks = self._starts.setdefault((unit, generation), set())
            ranks.add(rank)
            if len(ranks) == len(self._hold.ranks):
                self._tell({"unit": unit, "generation": generation, "at": time.time()})

        instance = Instance(unit, rank, self._hold, started)
        self._lives[unit, rank] = instance, asyncio.create_task(instance.run())

    def _obey(self, order: str, unit: str = "", rank: str = "0") -> None:
        if order == "latencies":
            found = [one.latencies for one, _ in self._lives.values()]
            self._tell({"latencies": [round(each, 6) for times in found for each in times]})
            for times in found:
                times.clear()
            return
        if order == "counts":
            counts = sum((one.counts for one, _ in self._lives.values()), Counter())
            self._tell({"counts": {**counts, "CPU": time.process_time()}})
            return
        instance, task = self._lives[unit, int(rank)]
        if order == "crash":
            instance.crash()
        else:
            task.cancel()
            self._begin(unit, int(rank))


async def _lines_of_stdin() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    return reader


class Drivers:
    """The driver processes of a benchmark.

    Attributes:
        begun: seconds since the epoch when they were started.

    """

    def __init__(self, holds: Sequence[Hold]) -> None:
        self._holds = holds
        self.begun = time.time()
        self._processes = [
            subprocess.Popen(
                [sys.executable, __file__, json.dumps({**asdict(hold), "ranks": list(hold.ranks)})],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
            for hold in holds
        ]  # fmt: skip
        self._told: list[dict[str, Any]] = []
        self._news = threading.Condition()
        for process in self._processes:
            threading.Thread(target=self._read, args=(process,), daemon=True).start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with self._news:
                self._told.append(json.loads(line))
                self._news.notify_all()

    def started(self, unit: str, generation: int, patience: float = 600.0) -> tuple[int, float]:
        """Wait until a Unit has started in a generation, or in a later one: in which one, and when."""
        parts = sum(unit in hold.units for hold in self._holds)

        def found() -> list[tuple[int, float]]:
            told = [(one["generation"], one["at"]) for one in self._told if one.get("unit") == unit]
            latest = max((number for number, _ in told), default=0)
            return [start for start in told if start[0] == latest >= generation]

        with self._news:
            if not self._news.wait_for(lambda: len(found()) >= parts, patience):
                raise RuntimeError(f"{unit} has not started in generation {generation} in {patience:g} s")
            return max(found())

    def order(self, word: str, unit: str, rank: int) -> None:
        """Give an order to whichever driver holds that rank."""
        for hold, process in zip(self._holds, self._processes, strict=True):
            if unit in hold.units and rank in hold.ranks:
                _write(process, f"{word} {unit} {rank}")

    def latencies(self) -> list[float]:
        """Seconds of all exchanges since this was asked last."""
        return [each for times in self._ask("latencies") for each in times]

    def counts(self) -> Counter[str]:
        """What all instances have done so far: exchanges, pushes and wake-ups, and seconds of CPU."""
        return sum((Counter(one) for one in self._ask("counts")), Counter())

    def _ask(self, word: str) -> list[Any]:
        before = len(self._told)
        for process in self._processes:
            _write(process, word)

        def found() -> list[Any]:
            return [one[word] for one in self._told[before:] if word in one]

        with self._news:
            self._news.wait_for(lambda: len(found()) == len(self._processes), 60)
            return found()

    def close(self) -> None:
        """End all."""
        for process in self._processes:
            process.kill()
            process.wait()


def _write(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


@contextlib.contextmanager
def driving(holds: Sequence[Hold]) -> Iterator[Drivers]:
    """Run drivers for the time of a block."""
    drivers = Drivers(holds)
    try:
        yield drivers
    finally:
        drivers.close()


def raise_limits() -> None:
    """Allow as many files as there may be connections."""
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))


if __name__ == "__main__":
    raise_limits()
    asyncio.run(
        Driver(Hold(**json.loads(sys.argv[1])), lambda told: print(json.dumps(told), flush=True)).run()
    )
