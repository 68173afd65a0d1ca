"""Whether a workload stops, or an agent ends, rightly: guarantees 4 to 8, exit codes, and the budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.plan import STOP_GRACE, Profile
from unitagent.core.exits import ExitCode
from unitagent.core.model import Mode, Restart
from unitagent.core.restart_budget import GAVE_UP_WITHIN
from unitagent.core.state import State

if TYPE_CHECKING:
    from tests.simulation.instance import Instance
    from tests.simulation.watch import Strike, Watch

LEADER_UNTIL = 0.88 * STOP_GRACE
FAREWELL = 1.0  # seconds that an agent tries to give its rank back
HOLD = 0.2 * STOP_GRACE


class Endings:
    """What was ended, and why."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self._over: set[int] = set()
        self._parting: dict[str, float] = {}

    # workloads

    def check_stop(self, one: Instance, grace: float) -> None:
        """A workload is told to stop: rightly, and in its turn."""
        if one.state.workload.cut_off:
            self._check_isolated(one, grace)
        else:
            self._check_reason(one)
        if self.watch.plan.profile is Profile.DRAIN and self.watch.pure:
            self._in_turn(one)

    def _check_reason(self, one: Instance) -> None:
        self._note_lost_members(one)
        self._note_unstarted_members(one)
        if not (self._list_reasons(one) or self.watch.blinded):
            about = "6 store" if self.watch.plan.profile is Profile.STORE else "5/6 restart"
            self.watch.report_violation(about, f"{one.incarnation} stops its workload for no reason")

    def _check_isolated(self, one: Instance, grace: float) -> None:
        """7: only who has heard nothing for a lease, neither from the store nor from who could vouch for it.
        Then there is no time for a grace.
        """
        world = self.watch.world
        if grace > world.timing.takeover - world.timing.lease:
            self.watch.report_violation(
                "7 isolated", f"{one.incarnation} gives its workload {grace:g} s, cut off"
            )
        if world.now + one.skew - one.touched < 0.99 * world.timing.lease:
            self.watch.report_violation(
                "7 needless", f"{one.incarnation} takes itself for isolated too early"
            )
        elif one.woken > world.now - world.timing.lease:  # whom it asked may still have slept
            self.watch.add_strike(one.rank, "isolated")
        if self.watch.plan.profile is Profile.STORE:
            self.watch.report_violation(
                "6 store", f"{one.incarnation} takes itself for isolated, and its peers answer"
            )

    def check_watchdog(self, one: Instance) -> None:
        """7: the watchdog ends a workload whose agent has heard nothing for a lease, and perhaps learns
        that later (seed 850005005).
        """
        world = self.watch.world
        if world.now + one.skew - world.watch.lookout.find_last_word(one) < 0.99 * world.timing.lease:
            self.watch.report_violation("7 needless", f"{one.incarnation}'s watchdog kills too early")
        self.watch.add_strike(one.rank, "watchdog")

    def _note_lost_members(self, one: Instance) -> None:
        """5: a member is replaced that the store lost, and that could not write again for a takeover; in a
        split store also one on the other side (seed 100005284).
        """
        work, world, boards = one.workload, self.watch.world, self.watch.world.boards
        server = boards.of(one.host)
        if work is None or server is None:
            return
        forgotten = world.now - world.timing.takeover
        for two in world.lives:
            elsewhere = boards.old is not None and boards.of(two.host) is not server
            silent = two.last_answer <= min(boards.lost_at, forgotten)
            holder = server.board.holders.get(two.rank) or two.incarnation
            replaced = two.incarnation in work.gang.incarnations and holder != two.incarnation
            if replaced and (silent or (elsewhere and boards.split_at <= forgotten)):
                self.watch.add_strike(two.rank, "replaced")

    def _note_unstarted_members(self, one: Instance) -> None:
        """4: a member is lost that confirmed the gang and has not started a lease after the others: the store
        did not answer it (seed 1062).
        """
        work, world = one.workload, self.watch.world
        if work is None or world.now - self.watch.starts.began[work.gang.generation] <= world.timing.lease:
            return
        for two in world.living:
            if two.incarnation in work.gang.incarnations and not two.working:
                self.watch.add_strike(two.rank, "unstarted")

    def _list_reasons(self, one: Instance) -> list[Strike]:
        """5 and 6: nobody is touched by what is not his, and the store's trouble is nobody's. What happened
        before the generation began counts only where it could not be noticed before.
        """
        plan, world = self.watch.plan, self.watch.world
        all_for_one = plan.guard or plan.mode is Mode.JOB  # a job whose rank 0 is done starts again
        began = self.watch.starts.began.get(one.state.me.generation, 0.0)
        since = began - world.timing.takeover - world.bounds.waking
        own = {one.rank, 0}
        return [s for s in self.watch.strikes if s.at >= since and (all_for_one or s.rank in own)]

    def _in_turn(self, one: Instance) -> None:
        """8: rank 0's workload stops first."""
        leader, work = self.watch.world.holder(0), one.workload
        theirs = leader.workload if leader is not None else None
        if one.rank == 0 or theirs is None or work is None or not theirs.alive or theirs.gang != work.gang:
            return
        going = [s.at for s in self.watch.strikes if self._is_drain(s)]
        begun = min(going, default=None)
        alone = begun is None or (one.asked is not None and begun > one.asked + HOLD)
        if not alone and begun is not None and self.watch.world.now < begun + LEADER_UNTIL:
            self.watch.report_violation("8 order", f"{one.incarnation} stops before rank 0")

    def _is_drain(self, strike: Strike) -> bool:
        asked = strike.what == "signal" or strike.what.startswith("order")
        return asked and (self.watch.plan.guard or strike.rank == 0)

    # agents

    def note_decision(self, one: Instance, before: State) -> None:
        """It has made up its mind to give its rank back."""
        if one.state.me.left and not before.me.left:
            self._parting[one.incarnation] = self.watch.world.now

    def check_exit(self, one: Instance) -> None:
        """The exit code is one that has a cause in this world."""
        if one.code in self._list_impossible_codes() or (
            one.code == ExitCode.DONE and not self._was_asked(one)
        ):
            self.watch.report_violation("exit code", f"{one.incarnation} exits {one.code}")
        if one.code == ExitCode.FENCED:
            self._check_fenced(one)
        else:
            self._check_farewell(one)
        if one.working and one.code != ExitCode.RECREATE:
            self.watch.report_violation("exit", f"{one.incarnation} exits before its workload")
        if self.watch.plan.profile is Profile.DRAIN and self.watch.pure:
            self._gone_well(one)

    def _list_impossible_codes(self) -> set[int]:
        """Exit codes for which this world has no cause."""
        plan = self.watch.plan
        never: set[int] = {ExitCode.STORE, ExitCode.CONFIGURATION}
        if not self.watch.disputed:
            never.add(ExitCode.DISAGREE)
        if not plan.barrier_timeout:
            never.add(ExitCode.BARRIER_TIMEOUT)
        if plan.guard and plan.restart is not Restart.RECREATE and not plan.immortal:
            never.add(ExitCode.RECREATE)
        if plan.max_restarts > 10:
            never.add(ExitCode.BUDGET)
        return never

    def _was_asked(self, one: Instance) -> bool:
        asked = one.asked is not None or one.incarnation in self.watch.orders
        return asked or self.watch.plan.mode is Mode.JOB

    def _check_fenced(self, one: Instance) -> None:
        """3: fencing needs living evidence: another of that rank lives, or did so within its lease."""
        world = self.watch.world
        since = world.now - world.timing.takeover
        rivals = [other for other in world.lives if other.rank == one.rank and other is not one]
        if not any(other.alive or (other.died or 0.0) > since for other in rivals):
            self.watch.report_violation(
                "3 ghost", f"{one.incarnation} is fenced, and nobody else of its rank lives"
            )

    def _check_farewell(self, one: Instance) -> None:
        """3: who ends by itself gives its rank back, and tries for a second where the store does not answer;
        unless a second signal hurries it, or another has the rank by now.
        """
        world, left = self.watch.world, self._parting.get(one.incarnation)
        hurried = left is None or one.state.shutdown.force_stop or world.boards.lost_at >= left
        if hurried or left is None or world.now - left >= FAREWELL - 1e-6:
            return
        server = world.boards.of(one.host)
        holder = "" if server is None else server.board.holders.get(one.rank, "")
        others = holder not in ("", one.incarnation)
        if not others and one.incarnation not in self.watch.memories.parted:
            self.watch.report_violation("3 farewell", f"{one.incarnation} keeps its rank when it ends")

    def _gone_well(self, one: Instance) -> None:
        """8: who was asked exits 0 within the grace, and nobody else exits."""
        world = self.watch.world
        asked = one.asked if one.asked is not None else self.watch.orders.get(one.incarnation)
        if asked is None or one.code != 0:
            self.watch.report_violation("8 codes", f"{one.incarnation} exits {one.code}, asked: {asked}")
            return
        heard = (
            0.0 if one.asked is not None else world.bounds.waking
        )  # a push that tells of an order may be lost
        if world.now > asked + heard + STOP_GRACE + 0.5 + 2 * world.bounds.slack:
            self.watch.report_violation("8 grace", f"{one.incarnation} took {world.now - asked:.1f} s")

    # restarts

    def check_budget(self) -> None:
        """The budget: no more generations start than it allows, those apart that were asked for. It cannot be
        kept where all memory of it is lost: all containers are rebuilt, on a store that lost what they wrote.
        Who is started after the Unit gave up begins anew, and a start that nobody told the store is known to
        nobody (seed 75429 of the critical moments).
        """
        plan = self.watch.plan
        gave_up = any(one.state.me.failed for one in self.watch.world.lives)
        if not plan.guard or gave_up or self._is_forgotten():
            return
        free = sum(s.what.startswith("order") or s.what == "signal" for s in self.watch.strikes)
        ended = self.watch.starts.count_ended()
        if ended - free > plan.max_restarts:
            told = f"{ended} generations have ended, {free} of them because they were asked to"
            self.watch.report_violation("budget", f"{told}; {plan.max_restarts} may fail")

    def _is_forgotten(self) -> bool:
        """Whether the store has lost something since the oldest living agent began, or all that lived then
        died before they had an answer again (seed 40011460): the dead tell nothing anew.
        """
        world = self.watch.world
        oldest = min((one.born for one in world.living), default=world.now)
        fresh = any(at > oldest - world.timing.takeover for at in world.boards.losses)
        return fresh or any(self._has_no_witness(at) for at in world.boards.losses)

    def _has_no_witness(self, lost_at: float) -> bool:
        """Whether no agent that lived when the store lost something had an answer after that."""
        lived = [
            one for one in self.watch.world.lives if one.born <= lost_at <= (one.died or self.watch.world.now)
        ]
        return bool(lived) and all(one.last_answer <= lost_at for one in lived)

    def check_burst(self) -> None:
        """4: however many failures came together, one new generation, and one restart counted; where they
        came before the first one, there was none to end.
        """
        begun = min(self.watch.starts.began.values(), default=float("inf"))
        if not self.watch.strikes or self.watch.strikes[0].at < begun:
            return
        if len(self.watch.starts.gangs) != 2:
            self.watch.report_violation(
                "4 once", f"generations {sorted(self.watch.starts.gangs)} were started"
            )
        for one in self.watch.world.list_members():
            if len(one.state.me.charges) > 1:
                self.watch.report_violation(
                    "4 budget", f"{one.incarnation} counted {len(one.state.me.charges)} restarts"
                )

    def _begins_anew(self, one: Instance) -> bool:
        """Whether it was started in the place of one that had given up."""
        return any(
            other.rank == one.rank and other.state.me.failed and other.born < one.born
            for other in self.watch.world.lives
        )

    def check_spent_budget(self) -> None:
        """Once the budget is spent for one, all that ran until then end with 70; but where the store lost
        that word, those who could not hear it before wait for the ranks that ended, and say so. Who is
        started after that begins anew, and so does who was out of contact for long (seed 800000677).
        """
        world = self.watch.world
        ends = [one.died for one in world.lives if one.code == ExitCode.BUDGET and one.died is not None]
        others = [
            one.incarnation
            for one in world.list_members()
            if one.state.workload.gang
            and not one.state.shutdown.leaving
            and self.watch.starts.ran_before(one, max(ends, default=0.0))
            and (one.contact or 0.0) <= max(ends, default=0.0) + GAVE_UP_WITHIN
            and not self._begins_anew(one)
        ]
        if ends and world.boards.lost_at >= min(ends) - FAREWELL:
            others = [one for one in others if one in self.watch.memories.warned]
        if ends and others and world.now > max(ends) + world.bounds.told:
            self.watch.report_violation("budget", f"it is spent, and {others} live on")
