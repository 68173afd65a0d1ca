"""A Unit of hundreds on the table, that serves already."""

from __future__ import annotations

from collections import Counter

from msgspec.structs import replace

from tests.core.unit import Unit
from unitagent.core.config import CoreConfig
from unitagent.core.events import Tick
from unitagent.core.gang_checks import build_gang
from unitagent.core.leases import Leases, find_neighbours
from unitagent.core.model import Beat, InstanceState, Record
from unitagent.core.state import State, initial_state
from unitagent.core.state_parts import WorkloadPhase


class Large(Unit):
    """A Unit that serves already; to form one on the table takes as long as the square of its size.

    Attributes:
        asked: how often each rank was asked in this second.
        most: the most that any rank was asked in a second, by rank.

    """

    def __init__(self, size: int) -> None:
        super().__init__(size, guard=True)
        self.asked: Counter[int] = Counter()
        self.most: Counter[int] = Counter()
        records = {
            rank: Record(
                rank=rank, incarnation=f"i{rank}", tenure=1, size=size, lease=5.0, port=9470,
                ip=f"10.0.{rank // 250}.{rank % 250}", generation=1, state=InstanceState.RUNNING,
            )
            for rank in range(size)
        }  # fmt: skip
        records[0] = replace(records[0], master_port=20000, state=InstanceState.HEALTHY)
        gang = build_gang(1, list(records.values()))
        records = {rank: replace(one, gang=gang.id) for rank, one in records.items()}
        self.agents = {rank: self._serving(rank, records) for rank in records}

    def _serving(self, rank: int, records: dict[int, Record]) -> State:
        me, now = records[rank], self.now
        rules = CoreConfig(unit="u", rank=rank, size=self.size, incarnation=me.incarnation, guard=True)
        leases = Leases()
        for count, at in ((6, now - 60), (7, now)):
            judged = {0, *find_neighbours(rank, self.size)}
            leases = leases.after_reply({one: Beat(f"i{one}", count) for one in judged}, at, gap=100)
        state = replace(initial_state(rules, me, now - 60), now=now, generation=1)
        state = state.with_store(
            records=records, holder=me.incarnation, ever_answered=True, joined_at=now - 60,
            tenure_confirmed=True, last_contact_at=now, published=me, next_beat=now + 1, leases=leases,
        )  # fmt: skip
        return state.with_workload(gang=build_gang(1, list(records.values())), phase=WorkloadPhase.ALIVE)

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds)):
            self.asked.clear()
            for _ in range(2):
                self.now += 0.5
                for rank in list(self.agents):
                    self.tell(rank, Tick)
            self.most |= self.asked

    def _ask(self, rank: int, peer: Record) -> None:
        self.asked[peer.rank] += 1
        super()._ask(rank, peer)
