"""An instance without a rank in a simulated world: the production's search for one, on this world's clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from unitagent.agent import rank_search
from unitagent.agent.rank_search import RankSearch, Spare
from unitagent.core.exits import ExitCode
from unitagent.core.model import Record, Reply
from unitagent.core.spares import Standby

if TYPE_CHECKING:
    from tests.simulation.instance import Instance


class Claimant:
    """Looks for a free rank until it has one, and then begins the life of its instance.

    Attributes:
        search: what it has seen.
        number: its place in the list of spares; None while it has none.
        contact: since when the store has answered each look.

    """

    def __init__(self, one: Instance, me: Record, spare: Spare) -> None:
        plan = one.world.plan
        self._one, self._me, self._spare = one, me, spare
        self.search = RankSearch(me, guard=plan.guard, timing=plan.timing, spare=spare, asks=plan.probes)
        first = one.slot if spare is Spare.BEYOND else plan.size
        self._line = Standby(number=first, incarnation=one.incarnation, ip=one.ip, port=me.port)
        self.number: int | None = None
        self.contact = float("inf")
        one.world.schedule(0.0, self._look)

    def _look(self) -> None:
        one, world = self._one, self._one.world
        if not one.alive:
            return
        reply = None
        if not one.paused and world.now >= one.names_until:
            reply = world.boards.exchange(
                one, None, rank_search.make_read_exchange(self._me.size), one.next_count(), world.now
            )
        if reply is None:
            self.search.note_outage()
            self.contact = float("inf")
            self._look_again()
        else:
            reply = one.ignore_strangers(reply)
            one.shown.update(record.gang for record in reply.records.values() if record.state.started)
            world.schedule(world.rng.uniform(0.002, 0.03), self._choose_rank, reply)

    def _look_again(self) -> None:
        plan = self._one.world.plan
        self._one.world.schedule(max(self.search.choose_pause(), rank_search.PAUSE * plan.pace), self._look)

    def _choose_rank(self, reply: Reply) -> None:
        one, world = self._one, self._one.world
        if not one.alive:
            return
        if one.paused:  # it has read this, and goes on with it once it is thawed
            world.schedule(rank_search.PAUSE * world.plan.pace, self._choose_rank, reply)
            return
        self.search.note_reply(reply, one.clock)
        self.contact = min(self.contact, world.now)
        if self.search.drained:
            self.end()
            return
        self._ask_holders()
        rank = self.search.find_rank(self.number, one.clock)
        if rank is None and self.search.joins_home():
            one.begin_life(self._me, None)
        elif rank is None:
            self._list_myself()
            self._look_again()
        else:
            world.schedule(world.rng.uniform(0.002, 0.03), self._put_claim, rank)

    def end(self) -> None:
        """The Unit is drained, or this instance is told to stop."""
        if self.number is not None:
            self._one.world.boards.unlist_spare(self._one, self._line)
        self._one.code = ExitCode.DONE
        self._one.world.end_agent(self._one)

    def _ask_holders(self) -> None:
        """Ask the holders that are late, and those on whose answer the next step depends."""
        for late in self.search.list_late_holders(self._one.clock):
            self._ask(late)
        for _ in range(3):
            holder = self.search.find_holder_to_ask(self._one.clock)
            if holder is None:
                return
            self._ask(holder)

    def _ask(self, holder: Record) -> None:
        one = self._one
        there = one.world.network.find_answerer(one, holder.ip)
        alive = there is not None and there.incarnation == holder.incarnation
        self.search.note_answer(holder, one.clock, one.clock, alive=alive)

    def _list_myself(self) -> None:
        """As the agent does it: the list decides only who goes first."""
        one, world = self._one, self._one.world
        if not world.plan.spares or not self.search.stands_by:
            return
        if self._spare is Spare.ANY and not self.search.settled:
            return
        listed = world.boards.list_spare(one, self._line, world.timing.lease, world.now)
        if listed is None:
            self.search.others, self.number = (), None
            return
        others = [spare for spare in listed if spare.incarnation != one.incarnation]
        self.search.others = tuple(spare for spare in others if spare.age <= world.timing.lease)
        self.number = self._line.number if len(others) < len(listed) else None
        if self.number is None:
            number = rank_search.choose_number(self.search.others, world.plan.size)
            self._line = replace(self._line, number=number)

    def _put_claim(self, rank: int) -> None:
        one, world = self._one, self._one.world
        if not one.alive:
            return
        claimed, request = self.search.make_claim(rank)
        answer = world.boards.exchange(one, rank, request, one.next_count(), world.now)
        if answer is not None and answer.holder == one.incarnation:
            if self.number is not None:
                world.watch.lookout.check_turn(one, rank, self.number)
                world.boards.unlist_spare(one, self._line)
            one.begin_life(claimed.me, claimed.took)
        else:
            self._look_again()
