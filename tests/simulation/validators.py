"""The guarantees of the contract, watched from outside: by what processes live where, not by what agents say.

Each violation names the guarantee that it breaks by its number in the contract's "what must always hold".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.simulation.lookouts import LEASE, LOOK, WAKING, Lookout
from tests.simulation.plan import Plan, Profile
from unitagent.core.exits import Code
from unitagent.core.model import Gang, Mode, Restart
from unitagent.core.state import State

if TYPE_CHECKING:
    from tests.simulation.instance import Instance
    from tests.simulation.world import World

FORGOTTEN = 15.0  # seconds after which a store that lost its memory has it back from the agents
STOP_GRACE = 15.0
LEADER_UNTIL = 0.8 * STOP_GRACE
HOLD = 0.2 * STOP_GRACE


@dataclass(frozen=True, slots=True)
class Strike:
    """Something that may rightly end a generation."""

    at: float
    rank: int
    what: str


class Watch:
    """All validators of one world.

    Attributes:
        violations: what was broken, with its time.
        forgetful: when the store last lost what it had acknowledged.
        pure: nothing but what the profile stands for has happened.
        ready_since: since when every wanted instance says ready.

    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.violations: list[str] = []
        self.strikes: list[Strike] = []
        self.forgetful = -1e9
        self.pure = True
        self.gangs: dict[int, list[Gang]] = {}
        self.started: dict[int, float] = {}
        self._stood: set[tuple[str, int]] = set()
        self._spawned: set[tuple[str, str]] = set()
        self._tables: dict[str, Gang] = {}
        self.lookout = Lookout(self)
        self._ordered: dict[str, float] = {}

    @property
    def plan(self) -> Plan:
        """What this world is about."""
        return self.world.plan

    def broken(self, guarantee: str, what: str) -> None:
        """A violation."""
        line = f"{self.world.now:.3f}: [{guarantee}] {what}"
        self.world.story.add(self.world.now, "VIOLATED", f"[{guarantee}] {what}")
        if len(self.violations) < 5:
            self.violations.append(line)

    # what is told

    def struck(self, rank: int, what: str) -> None:
        """Something may rightly end a generation."""
        self.strikes.append(Strike(self.world.now, rank, what))

    def ordered(self, one: Instance) -> None:
        """An operator's wish has been left while this agent lived."""
        self._ordered.setdefault(one.incarnation, self.world.now)

    def decided(self, one: Instance, before: State) -> None:
        """6: a generation never goes backwards. 1: none is entered over a living workload."""
        state = one.state
        if state.generation < before.generation or state.me.generation < before.me.generation:
            self.broken("6 generation", f"{one.incarnation} went back from {before.generation}")
        if state.me.generation != before.me.generation:
            self._stood.add((one.incarnation, state.me.generation))
            if one.working:
                self.broken("1 overlap", f"{one.incarnation} announced {state.me.generation} with a workload")

    def spawning(self, one: Instance, gang: Gang) -> None:
        """A workload starts."""
        self._same_table(one, gang)
        self._no_overlap(one, gang)
        self.gangs.setdefault(gang.generation, []).append(gang)
        self.started.setdefault(gang.generation, self.world.now)

    def _same_table(self, one: Instance, gang: Gang) -> None:
        """2: one table for all ranks of a generation, and only after all stood at its barrier."""
        missing = [who for who in gang.incarnations if (who, gang.generation) not in self._stood]
        if missing or len(gang.incarnations) != self.plan.size:
            self.broken("2 unanimity", f"{one.incarnation} starts {gang.id} without {missing}")
        if self.plan.guard and (one.incarnation, gang.id) in self._spawned:
            self.broken("2 token", f"{one.incarnation} starts {gang.id} twice")
        self._spawned.add((one.incarnation, gang.id))
        if self._tables.setdefault(gang.id, gang) != gang:
            self.broken("2 token", f"{gang.id} was issued for two tables")
        if self._forgotten():
            return
        for other in self.gangs.get(gang.generation, []):
            same_leader = other.incarnations[0] == gang.incarnations[0] and other.ips[0] == gang.ips[0]
            same = other == gang if self.plan.guard else same_leader
            if self._nobody_remembers(other):
                continue
            if not same or other.master_port != gang.master_port:
                self.broken("2 table", f"{one.incarnation} starts {gang.id}, others have {other.id}")

    def _nobody_remembers(self, gang: Gang) -> bool:
        """Whether all who knew of this generation are gone, the store too: its number may come again."""
        alive = any(one.alive and one.incarnation in gang.incarnations for one in self.world.lives)
        return not alive and self.forgetful > self.started[gang.generation]

    def _no_overlap(self, one: Instance, gang: Gang) -> None:
        """1 and 3: nothing older lives on a rank that takes part, and each rank lives once."""
        for other in self.world.lives:
            if other.workload is None or not other.working:
                continue
            if other is one:
                self.broken("1 overlap", f"{one.incarnation} starts {gang.id} over its own workload")
            elif other.workload.gang.generation < gang.generation and not self._out_of_reach(other, gang):
                self.broken("1 overlap", f"{gang.id} starts while {other.incarnation} has an older workload")
            elif other.rank == one.rank and not self._out_of_reach(other, gang):
                self.broken("3 incarnation", f"{one.incarnation} starts beside {other.incarnation}")

    def _out_of_reach(self, other: Instance, gang: Gang) -> bool:
        """Whether this replaced instance could not know, and its successor could not ask."""
        if other.incarnation in gang.incarnations:
            return False
        asleep = other.paused or self.world.now - other.woken < WAKING
        return asleep or self._forgotten() or not self.plan.probes

    def _forgotten(self) -> bool:
        return self.world.now - self.forgetful < FORGOTTEN or self.world.boards.old is not None

    def stopping(self, one: Instance, grace: float) -> None:
        """A workload is told to stop: rightly, and in its turn."""
        work = one.workload
        if work is None or not work.main or work.stopped is not None:
            return
        self._rightly(one)
        if self.plan.profile is Profile.DRAIN and self.pure:
            self._in_turn(one)

    def _rightly(self, one: Instance) -> None:
        """5 and 6: nobody is touched by what is not his, and the store's trouble is nobody's."""
        last = one.state.store.leases.last
        if self.lookout.alone(one) or (
            one.state.workload.cut_off and last is not None and one.clock - last > LEASE
        ):
            return
        own = {one.rank, 0}
        since = self.started.get(one.state.me.generation, 0.0) - FORGOTTEN
        all_for_one = self.plan.guard or self.plan.mode is Mode.JOB  # a job whose rank 0 is done starts again
        reasons = [s for s in self.strikes if s.at >= since and (all_for_one or s.rank in own)]
        if not reasons and not self._forgotten():
            self.broken("5/6 restart", f"{one.incarnation} stops its workload for no reason")
        if not reasons and self.plan.profile is Profile.STORE:
            self.broken("6 store", f"{one.incarnation} stops its workload because of the store")

    def _in_turn(self, one: Instance) -> None:
        """8: rank 0's workload stops first."""
        leader = self.world.slots[0].workload
        work = one.workload
        if one.rank == 0 or leader is None or work is None or not leader.alive or leader.gang != work.gang:
            return
        begun = min(
            (
                s.at
                for s in self.strikes
                if s.what in ("signal", "order") and (self.plan.guard or s.rank == 0)
            ),
            default=None,
        )
        alone = begun is None or (one.asked is not None and begun > one.asked + HOLD)
        if not alone and begun is not None and self.world.now < begun + LEADER_UNTIL:
            self.broken("8 order", f"{one.incarnation} stops before rank 0")

    def quitting(self, one: Instance) -> None:
        """The exit code is one that has a cause in this world."""
        code, plan = one.code, self.plan
        never = {Code.STORE, Code.DISAGREE, Code.BARRIER_TIMEOUT, Code.CONFIGURATION}
        if not plan.guard or plan.restart is Restart.RECREATE:
            never.discard(Code.RECREATE)
        else:
            never.add(Code.RECREATE)
        if plan.max_restarts > 10:
            never.add(Code.BUDGET)
        asked = one.asked is not None or one.incarnation in self._ordered or plan.mode is Mode.JOB
        if code in never or (code == 0 and not asked):
            self.broken("exit code", f"{one.incarnation} exits {code}")
        if one.working:
            self.broken("exit", f"{one.incarnation} exits before its workload")
        if plan.profile is Profile.DRAIN and self.pure:
            self._gone_well(one)

    def _gone_well(self, one: Instance) -> None:
        """8: who was asked exits 0 within the grace, and nobody else exits."""
        asked = one.asked if one.asked is not None else self._ordered.get(one.incarnation)
        if asked is None or one.code != 0:
            self.broken("8 codes", f"{one.incarnation} exits {one.code}, asked: {asked}")
        elif self.world.now > asked + STOP_GRACE + LOOK:
            self.broken("8 grace", f"{one.incarnation} took {self.world.now - asked:.1f} s")

    def burst(self) -> None:
        """4: however many failures came together, one new generation, and one restart counted."""
        if len(self.gangs) != 2:
            self.broken("4 once", f"generations {sorted(self.gangs)} were started")
        for one in self.world.members():
            if len(one.state.me.charges) > 1:
                self.broken("4 budget", f"{one.incarnation} counted {len(one.state.me.charges)} restarts")
