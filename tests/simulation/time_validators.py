"""Guarantees that can be checked only over time: who goes on alone, who notices a death, and what probes say.

The invariant: a doubt has to last for its bound, without a break, before it is a violation.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tests.simulation.plan import Profile
from tests.simulation.probing import Probing
from unitagent.core.events import Event, Exchanged, PeerAnswered, StoreFailed
from unitagent.core.leases import find_neighbours
from unitagent.core.model import Gang, Mode, OrderKind
from unitagent.core.state import ALL_BEATS, find_relay
from unitagent.core.state_parts import Shutdown

if TYPE_CHECKING:
    from tests.simulation.instance import Instance
    from tests.simulation.watch import Watch


@dataclass(frozen=True, slots=True)
class _Death:
    """Of a member, without a word; ``everybody`` is to know of it, or one; ``waited`` for slow answers."""

    gang: Gang
    rank: int
    at: float
    everybody: bool
    waited: bool = False

    @property
    def who(self) -> str:
        return self.gang.incarnations[self.rank]


class Lookout:
    """Validators that need to see the same thing for a while."""

    def __init__(self, watch: Watch) -> None:
        self.watch, self.world = watch, watch.world
        self._since: dict[tuple[str, str], float] = {}
        self._probing = Probing(watch)
        self._served: set[str] = set()
        self._down: dict[tuple[str, tuple[bool, bool]], dict[int, float]] = {}

    def look(self) -> None:
        """Once in a while."""
        awake = [one for one in self.world.living if one.rank >= 0 and self._is_awake(one)]
        wide = {one.incarnation for one in self.world.living} | {"all"}
        self._since = {about: since for about, since in self._since.items() if about[1] in wide}
        for one in self.world.living:
            self.look_whether_isolated(one)
            self._check_replaced(one)
            self.measure_duration("answered", one.incarnation, self._is_answered(one))
        for one in awake:
            self._check_honest(one)
            self._probing.look(one)
        self._check_agreed([one for one in awake if self._is_connected(one)])
        self._check_vacant()
        self._check_spares()
        if self.watch.plan.profile is Profile.STORE and not self.world.healed:
            self._note_serving(awake)

    def _is_awake(self, one: Instance) -> bool:
        return not one.paused and self.world.now - one.woken > self.world.bounds.waking

    def measure_duration(self, what: str, who: str, holds: bool) -> float:
        """Seconds that something has been so."""
        if not holds:
            self._since.pop((what, who), None)
            return 0.0
        return self.world.now - self._since.setdefault((what, who), self.world.now)

    # 7: who goes on alone

    def look_whether_isolated(self, one: Instance) -> None:
        """7: cut off from the store and from rank 0, an instance stops in time, also one that hangs. What
        SIGKILL does not end at once, nobody can.
        """
        minded = one.workload is not None and one.workload.alive and not one.workload.killed
        minded = minded or (one.keeper is not None and one.keeper.alive)
        alone = minded and self.watch.plan.probes and self.watch.plan.size > 1 and self.is_alone(one)
        lasts = min(
            self.measure_duration("alone", one.incarnation, alone), one.clock - self.find_last_word(one)
        )
        if lasts > self.world.bounds.isolated:
            self.watch.report_violation("7 isolated", f"{one.incarnation} goes on alone")

    def is_alone(self, one: Instance) -> bool:
        """Whether neither the store nor anybody who could vouch for it answers. On a machine that stands
        still nothing runs; its time begins when it goes on.
        """
        gang = one.state.workload.gang
        if one.paused:
            return not one.stands_still
        if self.world.boards.of(one.host) is not None or gang is None:
            return False
        ranks = [rank for rank in range(1, self.watch.plan.size) if self._is_member(one, rank)]
        if one.rank != 0:
            return not self._reaches_leader(one, gang)
        return not any(self._answers(one, gang.ips[rank], gang.incarnations[rank]) for rank in ranks)

    def _reaches_leader(self, one: Instance, gang: Gang) -> bool:
        """Whether rank 0 answers it, or in a large Unit whoever tells it of rank 0, and is answered."""
        if self._answers(one, gang.ips[0], gang.incarnations[0]):
            return True
        through = find_relay(one.rank, self.watch.plan.size)
        return through != 0 and any(
            self._answers(one, other.ip, other.incarnation)
            and self._answers(other, gang.ips[0], gang.incarnations[0])
            for other in self.world.living
            if other.incarnation == gang.incarnations[through]
        )

    def serves_alone(self, one: Instance) -> bool:
        """Whether it is cut off from all, and its workload has yet to be stopped."""
        work, plan = one.workload, self.watch.plan
        runs = work is not None and work.main and work.stopped is None
        return runs and plan.probes and plan.size > 1 and self.is_alone(one)

    def is_within_its_time(self, one: Instance) -> bool:
        """7: whether it has had a word so lately that it may still run, although no newcomer can know of it:
        of somebody who vouched for it, or of a store that has lost this since. (A store that comes back as it
        was breaks its connections as a rule, and with them what a newcomer has seen; here it does not.)
        """
        lost = one.touched - one.skew <= self.world.boards.lost_at
        last = self.find_last_word(one) if lost else self._last_vouch(one)
        return one.clock - last <= self.world.bounds.isolated

    def find_last_word(self, one: Instance) -> float:
        """When it last had a word of the store, or of somebody who could vouch for it, on its clock."""
        return max(one.touched, self._last_vouch(one))

    def _last_vouch(self, one: Instance) -> float:
        gang, heard = one.state.workload.gang, one.state.peers.heard
        vouch = () if gang is None else gang.incarnations[: None if one.rank == 0 else 1]
        return max((heard[peer] for peer in vouch if peer in heard), default=float("-inf"))

    def _is_member(self, one: Instance, rank: int) -> bool:
        """Whether it believes that the member it started with is still there."""
        record, gang = one.state.store.records.get(rank), one.state.workload.gang
        if record is None or gang is None or record.left:
            return False
        return record.incarnation == gang.incarnations[rank]

    def _answers(self, one: Instance, ip: str, incarnation: str) -> bool:
        there = self.world.network.find_answerer(one, ip)
        return there is not None and there.incarnation == incarnation and there.secret == one.secret

    def answers(self, asker: Instance, other: Instance) -> bool:
        """Whether this one, asked at its address, answers."""
        return self.watch.plan.probes and self._answers(asker, other.ip, other.incarnation)

    def _is_answered(self, one: Instance) -> bool:
        """Whether this newcomer waits for a rank whose holder, as the store shows it, answers it."""
        waits = one.rank >= 0 and not one.state.joined and not one.paused
        holder = self.world.boards.main.board.holders.get(one.rank, "")
        return waits and any(
            other.incarnation == holder and other.state.joined and self.answers(one, other)
            for other in self.world.living
        )

    def answered_for(self, one: Instance) -> float:
        """Seconds for which this newcomer has been answered by the holder of its rank."""
        return self.world.now - self._since.get(("answered", one.incarnation), self.world.now)

    def _check_replaced(self, one: Instance) -> None:
        """3 and 7: whose rank runs elsewhere by now stops within the time of an isolated one; where peers
        cannot be asked, or there are none, nobody is isolated, so then it has to hear of it first. While the
        store is split, each side may have a whole Unit (seed 50062 of the critical moments).
        """
        work, now = one.workload, self.world.now
        asks = self.watch.plan.probes and self.watch.plan.size > 1
        hears = asks or one.in_contact_since(now - self.world.bounds.waking)
        stale = (
            hears
            and work is not None
            and work.alive
            and not work.killed
            and any(
                other.rank == one.rank and other is not one and other.workload is not None
                and other.workload.alive and other.workload.gang.generation >= work.gang.generation
                and other.born > one.born and not self.world.boards.are_apart(one.host, other.host)
                for other in self.world.living
            )
        )  # fmt: skip
        if self.measure_duration("replaced", one.incarnation, stale) > self.world.bounds.isolated:
            self.watch.report_violation("3 incarnation", f"{one.incarnation} goes on beside its successor")

    def _check_vacant(self) -> None:
        """7: a spare that sees the store all the time takes a lost rank once its holder has had
        its time. Whoever has been here for less than a lease has to watch it first.
        """
        world = self.world
        held = {one.rank for one in world.living if one.rank >= 0}
        vacant = [rank for rank in range(world.plan.size) if rank not in held]
        spares = [one for one in world.living if one.rank < 0 and self._sees_everything(one)]
        bound = 2 * world.timing.takeover + world.bounds.waking + 4 * world.plan.pace
        if self.measure_duration("vacant", "all", bool(vacant and spares)) > bound:
            self.watch.report_violation("7 spare", f"{spares[0].incarnation} leaves ranks {vacant} vacant")

    def _sees_everything(self, spare: Instance) -> bool:
        """Whether nothing has been in its way lately."""
        world, boards = self.world, self.world.boards
        since = world.now - 2 * world.timing.takeover - world.bounds.waking
        clear = not (world.network.torn or world.lossy or world.slow or spare.paused or spare.odd)
        woken = max(spare.born, spare.woken, spare.names_until)
        settled = max(woken, boards.lost_at, boards.joined_at) < since
        known = spare.slot < world.plan.size or world.watch.starts.began
        return bool(clear and settled and boards.is_main(spare.host) and known)

    def _check_spares(self) -> None:
        """7 and 8: a spare that stands by runs nothing, and ends with a Unit that is drained. A store that
        has lost the order tells nobody of it.
        """
        world, boards = self.world, self.world.boards
        for one in [one for one in world.living if one.rank < 0]:
            contact = one.claimant.contact if one.claimant is not None else float("inf")
            if one.working:
                self.watch.report_violation("7 spare", f"{one.incarnation} stands by, and runs a workload")
            ordered = self.watch.drained.get(one.incarnation, float("-inf"))
            order = boards.main.board.order
            drained = order is not None and order.kind is OrderKind.DRAIN and not boards.shift
            told = drained and contact < ordered == self.watch.last_order
            due = told and boards.lost_at < ordered and boards.is_main(one.host) and not one.paused
            lasts = self.measure_duration("drained", one.incarnation, due)
            if lasts > world.bounds.waking + 2 * self.watch.plan.pace:
                self.watch.report_violation("8 spare", f"{one.incarnation} outlives the drain of its Unit")
            settles = 2 * world.timing.heartbeat + world.bounds.waking + 4 * self.watch.plan.pace
            if self.measure_duration("comes back", one.incarnation, self._sees_its_rank_held(one)) > settles:
                self.watch.report_violation("7 spare", f"{one.incarnation} does not become a spare")

    def _sees_its_rank_held(self, one: Instance) -> bool:
        """Whether it waits for a rank of its own, in whose place another one sends heartbeats."""
        if one.claimant is None or one.claimant.search.stands_by or one.paused or one.odd:
            return False
        holder, boards = self.world.holder(one.slot), self.world.boards
        told = holder is not None and holder.state.joined and holder.state.connected and not holder.paused
        return bool(told and one.claimant.contact < self.world.now and boards.is_main(one.host))

    def check_turn(self, one: Instance, rank: int, number: int) -> None:
        """7: of several spares that all see each other and the store, the one with the lowest number takes a
        lost rank.
        """
        before = [
            other
            for other in self.world.living
            if self._has_place(other, range(number)) and self._sees_everything(other)
        ]
        if before and self._has_place(one, range(number, number + 1)) and self._sees_everything(one):
            what = f"{one.incarnation} takes rank {rank} before {before[0].incarnation}"
            self.watch.report_violation("7 turn", what)

    def _has_place(self, one: Instance, numbers: Collection[int]) -> bool:
        """Whether it has stood by in one of these places for a while, and the store answered all the time."""
        since = self.world.now - 2 * self.world.timing.takeover
        spare = one.claimant if one.rank < 0 else None
        return spare is not None and spare.number in numbers and spare.contact < since

    # 4: who notices a death

    def note_death(self, dead: Instance) -> None:
        """4: with guard, a member that dies without a word is noticed by the survivors in contact."""
        work, plan = dead.workload, self.watch.plan
        counts = plan.guard and plan.mode is Mode.SERVICE and plan.size > 1 and dead.asked is None
        if not counts or work is None or not work.main or dead.state.me.left or dead.state.fenced:
            return
        if (
            dead.state.generation > work.gang.generation
            or dead.state.shutdown.leaving
            or dead.state.shutdown.draining
        ):
            return
        for bound, everybody in ((self.world.bounds.detected, False), (self.world.bounds.told, True)):
            death = _Death(work.gang, dead.rank, self.world.now, everybody)
            self.world.schedule(bound, self._noticed, death, bound)

    def _noticed(self, death: _Death, bound: float) -> None:
        """Whether somebody, or everybody, who could judge all the time knows that the generation is over. A
        store that has lost something since says nothing about the dead until the living have told it again,
        nor does one whose answers get lost. A last word may reach it after the death, and an answer that
        takes long dates it later by as much. Who starts after the death judges from then on (seed 850000500).
        """
        works = (one.workload for one in self.world.living)
        told = max(
            *(work.born for work in works if work is not None and work.gang.id == death.gang.id),
            self.world.boards.lost_at + self.world.timing.heartbeat,
            self.world.lossy_until,
            self.world.boards.words.get(death.who, death.at),
        )
        if told > death.at:
            self.world.schedule(told + bound - self.world.now, self._noticed, replace(death, at=told), bound)
        elif (self.world.slow or self.world.straggling) and not death.waited:
            pause = 2 * self.world.timing.operation_timeout
            self.world.schedule(pause, self._noticed, replace(death, waited=True), bound)
        else:
            self._mourned(death)

    def _mourned(self, death: _Death) -> None:
        """In a large Unit two ranks look after each; while both are out of touch, nobody does."""
        gang = death.gang
        judges = [one for one in self.world.living if self._could_judge(one, gang, death.at)]
        if not any(death.rank in self._looked_after(one) for one in judges):
            return
        blind = [one for one in judges if one.state.generation <= gang.generation]
        knows = any(  # perhaps somebody who is on its way out because of it
            one.state.generation > gang.generation
            for one in self.world.lives
            if one.incarnation in gang.incarnations
        )
        if blind and (death.everybody or not knows):
            who, ago = ", ".join(one.incarnation for one in blind), self.world.now - death.at
            self.watch.report_violation("4 detect", f"{who} did not notice a death of {ago:.1f} s ago")

    def _looked_after(self, one: Instance) -> Collection[int]:
        """The ranks whose beats it reads."""
        size = self.watch.plan.size
        leader = (0,) if find_relay(one.rank, size) == 0 else ()
        return range(size) if size <= ALL_BEATS else (*leader, *find_neighbours(one.rank, size))

    def _could_judge(self, one: Instance, gang: Gang, since: float) -> bool:
        """Whether it has run in this gang, in contact and awake, since then."""
        work = one.workload
        runs = work is not None and work.alive and work.gang.id == gang.id
        undisturbed = one.state.shutdown == Shutdown() and not one.state.workload.cut_off
        awake = not one.paused and one.woken < since
        return runs and undisturbed and awake and one.in_contact_since(since)

    # what probes say

    def _check_honest(self, one: Instance) -> None:
        """Probes: nobody says ready for long while a member's workload is down."""
        connected = self.world.boards.of(one.host) is not None
        says_so = one.ready and (connected or self.watch.plan.probes)
        down = self.world.list_missing(one.workload.gang) if says_so and one.workload else set()
        clear = not self.world.network.torn and self.world.lossy == 0 and self.world.slow == 0
        settled = self.world.now - self.world.bounds.settled
        # Who is silent has a lease more where a store has lost its last beat.
        told = one.in_contact_since(settled) and self.world.boards.lost_at < settled
        judges = told if connected else not self._leader_is_severed()  # without the store rank 0 tells
        # Each time that the store comes or goes, evidence begins anew: mine, or rank 0's on which mine rests.
        basis = (connected, connected or self._leader_sees_store())
        for one_basis in ((True, True), (False, True), (False, False)):
            lies = down if clear and judges and basis == one_basis else set()
            if self._down_for(one, lies, one_basis) > self.world.bounds.unready:
                self.watch.report_violation(
                    "readyz", f"{one.incarnation} says ready while a workload is down"
                )

    def _leader_sees_store(self) -> bool:
        return any(one.rank == 0 and self.world.boards.of(one.host) for one in self.world.living)

    def _leader_is_severed(self) -> bool:
        return any(one.rank == 0 and self.world.network.is_cut(one.host) for one in self.world.living)

    def _down_for(self, one: Instance, down: set[int], basis: tuple[bool, bool]) -> float:
        """Seconds for which one of these has been down, and this agent has said ready on this basis."""
        known = self._down.get((one.incarnation, basis), {})
        since = {rank: known.get(rank, self.world.now) for rank in down}
        self._down[one.incarnation, basis] = since
        return self.world.now - min(since.values(), default=self.world.now)

    def note_start(self, one: Instance) -> None:
        """A workload starts, so whoever says ready again may be right, though nobody has looked meanwhile."""
        for down in self._down.values():
            down.pop(one.rank, None)

    def _is_connected(self, one: Instance) -> bool:
        """Whether it holds its rank, and has seen the one store and its peers for long enough to judge."""
        judges = one.in_contact_since(self.world.now - self.world.bounds.settled)
        return (
            judges and not self.world.network.is_cut(one.host) and one.state.joined and not one.state.fenced
        )

    def _check_agreed(self, connected: list[Instance]) -> None:
        """Probes: the same answer on every rank. What a store lost is told again with the next heartbeat; by
        who hangs, is cut off, or is dead and cannot be asked, only when it is lost itself. What wakes one
        may get lost in each generation (seed 64338 of the critical moments).
        """
        newest = max((one.state.generation for one in connected), default=0)
        split = len({one.ready for one in connected}) > 1 and not self.world.network.torn
        bounds = self.world.bounds
        silent = self._is_untold() or self._has_died_unasked() or self._has_yet_to_be_seen()
        for blind, bound in ((True, bounds.unready), (False, bounds.agreed)):
            if self.measure_duration(f"split {blind}", str(newest), split and silent is blind) > bound:
                ready, everybody = [one.incarnation for one in connected if one.ready], len(connected)
                self.watch.report_violation("readyz", f"only {ready} of {everybody} in contact say ready")

    def _is_untold(self) -> bool:
        """Whether somebody hangs, or cannot tell again what the store has lost of it, as the dead cannot: for
        who had yet to find that out, its lease begins anew.
        """
        boards, unready = self.world.boards, self.world.bounds.unready
        lost = boards.lost_at > self.world.now - unready
        cut_off = any(one.paused or (lost and not boards.is_main(one.host)) for one in self.world.living)
        dead = (
            boards.lost_at - one.died
            for one in self.world.lives
            if one.died is not None and one.incarnation not in boards.returned
        )
        return cut_off or (lost and any(before < unready for before in dead))

    def _has_died_unasked(self) -> bool:
        """Whether somebody's lease has run since its death, where nobody can be asked for another's word."""
        since = self.world.now - self.world.bounds.unready
        return not self.watch.plan.probes and any((one.died or 0.0) > since for one in self.world.lives)

    def _has_yet_to_be_seen(self) -> bool:
        """Whether somebody is cut off and has its lease, of whom an instance that has rejoined meanwhile has
        seen no sign of life (seed 52693 of the critical moments).
        """
        cut = any(self.world.network.is_cut(one.host) for one in self.world.living)
        return cut and not self.watch.plan.guard

    # 6: the store's trouble changes no answer

    def _note_serving(self, awake: list[Instance]) -> None:
        """Once the whole Unit is ready, it stays so until the end of this world's trouble."""
        if not self._served and len(awake) == self.watch.plan.size and all(one.ready for one in awake):
            self._served = {one.incarnation for one in awake}

    def note_decision(self, one: Instance, event: Event) -> None:
        """6: what happens to the store turns no readiness off, not for a moment. A Unit that restarts because
        it was blinded has to be ready again first.
        """
        if one.incarnation not in self._served or self.world.healed:
            return
        of_the_store = isinstance(event, Exchanged | StoreFailed | PeerAnswered)
        if not (self.watch.blinded or of_the_store) or one.ready:
            return
        if self.watch.blinded:
            self._served = set()
        else:
            self.watch.report_violation(
                "6 readyz", f"{one.incarnation} is not ready any more because of the store"
            )
