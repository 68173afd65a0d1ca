"""A store in memory with the very semantics of the Redis script: for simulations and for quick tests.

``StoreState`` is synchronous and knows no clock but the one it is told; ``FakeStore`` is the same behind the
``Store`` protocol. The contract tests hold both to what a real server does.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING

from msgspec import Struct, field
from msgspec.structs import replace

from unitagent.core.model import LEAP, YEAR, Beat, Failure, Order, Record, Reply
from unitagent.core.spares import Standby
from unitagent.errors import StoreError
from unitagent.store.protocol import UnitSnapshot, WorkloadOutput

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from unitagent.core.actions import Exchange

KEPT_OUTPUTS = 4


class Board(Struct):
    """All that one server remembers of one Unit."""

    born: float | None = None
    generation: int = 0
    records: dict[int, Record] = field(default_factory=dict)
    newest: int | None = None
    holders: dict[int, str] = field(default_factory=dict)
    beats: dict[int, tuple[Beat, float]] = field(default_factory=dict)
    failure: Failure | None = None
    order: Order | None = None
    ordered: int = 0
    outputs: dict[int, WorkloadOutput] = field(default_factory=dict)
    spares: dict[int, tuple[Standby, float]] = field(default_factory=dict)

    def copy(self) -> Board:
        """A board of its own with the same contents: what a replica has at this moment."""
        return replace(
            self,
            records=dict(self.records),
            holders=dict(self.holders),
            beats=dict(self.beats),
            outputs=dict(self.outputs),
            spares=dict(self.spares),
        )


class StoreState:
    """One Unit's board, and the beat counters that each agent keeps on its own side."""

    def __init__(self) -> None:
        self.board = Board()
        self._counts: Counter[str] = Counter()

    def wipe(self) -> None:
        """Lose everything, as a server that restarts without persistence does."""
        self.board = Board()

    def copy(self) -> Board:
        """What a replica has now."""
        return self.board.copy()

    def restore(self, board: Board) -> None:
        """Fail over to that replica: writes since then are lost."""
        self.board = board.copy()

    def exchange(
        self, rank: int | None, incarnation: str, request: Exchange, now: float, count: int | None = None
    ) -> tuple[Reply, bool]:
        """The answer, and whether everybody else was pushed.

        Args:
            rank: of who asks, None while it has none.
            incarnation: that asks.
            request: what it says.
            now: the server's clock in seconds.
            count: of its beats when it sent this, by its own counting; None: it arrives in its turn.

        """
        board = self.board
        if board.born is None:
            board.born = now
        self._count(request.generation)
        self._keep_failure(request.failure, request.generation + LEAP)
        obeyed = request.record.order if request.record else 0
        if obeyed > board.ordered or board.ordered > now * 1e6 + YEAR:
            board.ordered = obeyed
        if count is None:
            self._counts[incarnation] += 1
            count = self._counts[incarnation]
        holder = "" if rank is None else self._holder(rank)
        if rank is not None and request.record and self._may_put(rank, holder, incarnation, count, request):
            holder = incarnation
            self._put(rank, request.record, Beat(incarnation, count), now)
        return self._reply(rank, holder, request, now), request.notify

    def _may_put(self, rank: int, holder: str, incarnation: str, count: int, request: Exchange) -> bool:
        """Whether the rank is free, mine, or of somebody who is silent; and nothing newer has come before."""
        if holder == "":
            return True
        beaten = self.board.beats[rank][0].count
        if holder == incarnation:
            return count >= beaten
        return holder == request.take and request.seen >= beaten

    def _put(self, rank: int, record: Record, beat: Beat, now: float) -> None:
        if self.board.records.get(rank) != record:
            self.board.newest = rank
        self.board.records[rank] = record
        self.board.holders[rank] = beat.incarnation
        self.board.beats[rank] = (beat, now)

    def _holder(self, rank: int) -> str:
        """Who holds a rank: a name that never beat holds none."""
        holder, beat = self.board.holders.get(rank, ""), self.board.beats.get(rank)
        return holder if beat is not None and beat[0].incarnation == holder else ""

    def _count(self, generation: int) -> None:
        known = self.board.generation
        self.board.generation = generation if known > generation + LEAP else max(known, generation)

    def _keep_failure(self, failure: Failure | None, credible: int) -> None:
        kept = self.board.failure
        if kept is None or kept.generation > credible or (failure and failure.generation > kept.generation):
            self.board.failure = failure or kept

    def _reply(self, rank: int | None, holder: str, request: Exchange, now: float) -> Reply:
        board = self.board
        asked = {*request.judge} if rank is None else {*request.judge, rank}
        return Reply(
            holder=holder,
            generation=board.generation,
            records=dict(board.records),
            beats={
                one: Beat(beat.incarnation, beat.count, max(0.0, now - at))
                for one, (beat, at) in board.beats.items()
                if one in asked
            },
            newest=board.newest,
            failure=board.failure,
            order=board.order,
            unit_age=max(0.0, now - (now if board.born is None else board.born)),
            now=int(now * 1000),
        )

    def order(self, order: Order, now: float) -> Order:
        """Keep an operator's wish, with its generation and number; it makes the Unit known, too."""
        board = self.board
        self._count(0)
        last = board.order.number if board.order else 0
        last = max(last if last <= now * 1e6 + YEAR else 0, board.ordered)
        number = max(last + 1, int(now * 1e6))
        board.order = replace(order, generation=board.generation, number=number)
        board.born = now if board.born is None else board.born
        return board.order

    def snapshot(self, now: float) -> UnitSnapshot:
        """What an operator reads."""
        board = self.board
        return UnitSnapshot(
            generation=board.generation,
            records=dict(board.records),
            ages={rank: max(0.0, now - at) for rank, (_, at) in board.beats.items()},
            failure=board.failure,
            order=board.order,
            age=None if board.born is None else max(0.0, now - board.born),
            now=now,
        )

    def put_spare(self, mine: Standby, fresh: float, now: float) -> None:
        """Keep its line, unless another one has written there within ``fresh`` seconds."""
        known = self.board.spares.get(mine.number)
        if known is None or known[0].incarnation == mine.incarnation or now - known[1] > fresh:
            self.board.spares[mine.number] = (mine, now)

    def remove_spare(self, mine: Standby) -> None:
        """Forget its line."""
        known = self.board.spares.get(mine.number)
        if known is not None and known[0].incarnation == mine.incarnation:
            del self.board.spares[mine.number]

    def list_spares(self, now: float) -> tuple[Standby, ...]:
        """All lines, by number."""
        spares = sorted(self.board.spares.items())
        return tuple(replace(one, age=max(0.0, now - at)) for _, (one, at) in spares)

    def put_output(self, output: WorkloadOutput) -> None:
        """Keep it in the place of the one that is ``KEPT_OUTPUTS`` generations older."""
        self.board.outputs[output.generation % KEPT_OUTPUTS] = output


class FakeServer:
    """One Unit's state, who listens, and whether it can be reached."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.state = StoreState()
        self.clock = clock
        self.trouble = ""  # set to a sentence: every operation fails with it
        self.listeners: dict[FakeStore, Callable[[], None]] = {}

    def check(self) -> None:
        """Fail when there is trouble."""
        if self.trouble:
            raise StoreError(self.trouble)

    def push(self, sender: FakeStore) -> None:
        """Tell everybody else."""
        for store, on_push in list(self.listeners.items()):
            if store.incarnation != sender.incarnation:
                on_push()


class FakeStore:
    """A ``Store`` on a :class:`FakeServer`."""

    def __init__(self, server: FakeServer, rank: int | None = None, incarnation: str = "") -> None:
        self.server = server
        self.rank = rank
        self.incarnation = incarnation

    def set_rank(self, rank: int) -> None:
        self.rank = rank

    async def exchange(self, request: Exchange) -> Reply:
        self.server.check()
        state = self.server.state
        reply, pushed = state.exchange(self.rank, self.incarnation, request, self.server.clock())
        if pushed:
            self.server.push(self)
        return reply

    async def listen(self, on_push: Callable[[], None]) -> None:
        self.server.listeners[self] = on_push
        on_push()
        try:
            await asyncio.Event().wait()
        finally:
            del self.server.listeners[self]

    async def read(self) -> UnitSnapshot:
        self.server.check()
        return self.server.state.snapshot(self.server.clock())

    async def put_order(self, order: Order) -> Order:
        self.server.check()
        kept = self.server.state.order(order, self.server.clock())
        self.server.push(self)
        return kept

    async def put_output(self, generation: int, rank: int, lines: Sequence[str]) -> None:
        self.server.check()
        self.server.state.put_output(
            WorkloadOutput(generation=generation, rank=rank, lines=tuple(lines[-20:]))
        )

    async def read_output(self, generation: int) -> WorkloadOutput | None:
        self.server.check()
        output = self.server.state.board.outputs.get(generation % KEPT_OUTPUTS)
        return output if output and output.generation == generation else None

    async def close(self) -> None:
        pass


class FakeSpares:
    """A ``SpareList`` on a :class:`FakeServer`."""

    def __init__(self, server: FakeServer) -> None:
        self.server = server

    async def put(self, mine: Standby, lease: float) -> tuple[Standby, ...]:
        self.server.check()
        self.server.state.put_spare(mine, lease, self.server.clock())
        return await self.read()

    async def remove(self, mine: Standby) -> None:
        self.server.check()
        self.server.state.remove_spare(mine)

    async def read(self) -> tuple[Standby, ...]:
        self.server.check()
        return self.server.state.list_spares(self.server.clock())

    async def close(self) -> None:
        pass
