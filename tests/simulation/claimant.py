"""``RANK_ID=auto`` in a simulated world: the production's choice of a rank, on this world's clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitagent.agent import rank_claim
from unitagent.core.leases import Leases
from unitagent.core.model import Record, Reply

if TYPE_CHECKING:
    from tests.simulation.instance import Instance


class Claimant:
    """Looks for a free rank until it has one, and then begins the life of its instance."""

    def __init__(self, one: Instance, me: Record) -> None:
        self._one, self._me = one, me
        self._leases = Leases()
        self._takeover = one.world.timing.takeover
        self._heard: dict[str, float] = {}
        self._reply: Reply | None = None
        self._known: dict[str, Record] = {}
        one.world.schedule(0.0, self._look)

    def _look(self) -> None:
        one, world = self._one, self._one.world
        if not one.alive:
            return
        reply = None
        if not one.paused and world.now >= one.names_until:
            reply = world.boards.exchange(
                one, None, rank_claim.make_read_exchange(self._me.size), one.next_count(), world.now
            )
        if reply is None:
            self._leases = self._leases.after_lost_contact()
            self._look_again()
        else:
            self._reply = reply = one.ignore_strangers(reply)
            self._known = rank_claim.remember_holders(reply, self._known)
            one.shown.update(record.gang for record in reply.records.values() if record.state.started)
            world.schedule(world.rng.uniform(0.002, 0.03), self._choose_rank, reply)

    def _look_again(self) -> None:
        plan = self._one.world.plan
        pause = rank_claim.choose_pause(self._reply, self._leases, plan.timing)
        self._one.world.schedule(max(pause, rank_claim.PAUSE * plan.pace), self._look)

    def _choose_rank(self, reply: Reply) -> None:
        one, world = self._one, self._one.world
        timing = world.timing
        if not one.alive:
            return
        known = tuple(self._leases.by_incarnation)
        self._leases = self._leases.after_reply(
            rank_claim.collect_beats(reply), one.clock, timing.contact_gap, keep=known
        )
        self._takeover = rank_claim.find_longest_takeover(reply, self._takeover)
        rank = rank_claim.find_free_rank(
            reply,
            self._leases,
            self._me,
            timing,
            self._heard,
            takeover=self._takeover,
            lost_only=one.slot >= world.plan.size,
        )
        if rank is None or one.paused or self._answers(reply, rank):
            self._look_again()
        else:
            one.world.schedule(one.world.rng.uniform(0.002, 0.03), self._put_claim, rank, reply)

    def _answers(self, reply: Reply, rank: int) -> bool:
        """Whether the silent holder answers when it is asked."""
        holder = rank_claim.find_holder_to_ask(reply, rank, self._me, self._known)
        if holder is None or not self._one.world.plan.probes:
            return False
        there = self._one.world.network.find_answerer(self._one, holder.ip)
        if there is None or there.incarnation != holder.incarnation:
            return False
        self._heard[holder.incarnation] = self._one.clock
        return True

    def _put_claim(self, rank: int, reply: Reply) -> None:
        one, world = self._one, self._one.world
        if not one.alive:
            return
        observed = rank_claim.is_settled(self._leases, world.timing.lease)
        claimed = rank_claim.make_claim(reply, rank, self._me, observed=observed)
        request = rank_claim.make_claim_exchange(claimed, reply, guard=world.plan.guard)
        answer = world.boards.exchange(one, rank, request, one.next_count(), world.now)
        if answer is not None and answer.holder == one.incarnation:
            one.begin_life(claimed.me, claimed.took)
        else:
            self._look_again()
