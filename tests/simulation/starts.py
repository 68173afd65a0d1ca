"""Whether a workload starts rightly: guarantees 1 to 3, and the master port."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.bounds import ROUND_TRIP
from unitagent.core.config import Restart
from unitagent.core.model import Gang
from unitagent.core.state import State

if TYPE_CHECKING:
    from tests.simulation.instance import Instance
    from tests.simulation.watch import Watch


class Starts:
    """What was started, by whom.

    Attributes:
        gangs: by generation, in the order of their starts.
        began: when the first workload of a generation started.

    """

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.gangs: dict[int, list[Gang]] = {}
        self.began: dict[int, float] = {}
        self._stood: dict[tuple[str, int], float] = {}  # since when
        self._first_answers: dict[str, float] = {}  # of each agent's contact
        self._spawned: dict[tuple[str, str], float] = {}
        self._ports: dict[int, int] = {}
        self._tables: dict[str, Gang] = {}
        self._leaders: dict[str, Gang] = {}

    def note_decision(self, one: Instance, before: State) -> None:
        """1: no generation is entered over a living workload."""
        if one.state.store.leases.contact_since != before.store.leases.contact_since:
            self._first_answers[one.incarnation] = one.answered
        here = one.state.me.generation
        if here != before.me.generation:
            self._stood.setdefault((one.incarnation, here), self.watch.world.now)
            if one.working:
                self.watch.report_violation(
                    "1 overlap", f"{one.incarnation} announced {here} with a workload"
                )

    def check_spawn(self, one: Instance, gang: Gang) -> None:
        """A workload starts."""
        self._all_stood(one, gang)
        self._all_told(one, gang)
        self._is_told_now(one, gang)
        self._same_leader(one, gang)
        self._same_table(one, gang)
        self._new_port(gang)
        self._one_of_each(one, gang)
        self._no_overlap(one, gang)
        self._spawned[one.incarnation, gang.id] = self.watch.world.now
        if gang.generation in self.began and not self.watch.plan.guard:
            self.watch.pauses.check_rejoin(one, gang)
        self.gangs.setdefault(gang.generation, []).append(gang)
        if gang.generation not in self.began:
            self.began[gang.generation] = self.watch.world.now
            self.watch.pauses.check_start(gang)
            self.watch.endings.check_budget()

    def ran_before(self, one: Instance, moment: float) -> bool:
        """Whether this instance is of a generation that had begun by then."""
        return any(
            who == one.incarnation and self.began[_read_generation(gang)] <= moment
            for who, gang in self._spawned
        )

    def count_ended(self) -> int:
        """How many generations have ended of which somebody told the store that it had started."""
        words = self.watch.world.boards.words
        told = {
            _read_generation(gang)
            for (who, gang), at in self._spawned.items()
            if words.get(who, float("-inf")) > at
        }
        return len(told - {max(self.began)})

    def _all_stood(self, one: Instance, gang: Gang) -> None:
        """2: only after all stood at its barrier; with guard nobody starts the same gang twice."""
        absent = [who for who in gang.incarnations if (who, gang.generation) not in self._stood]
        missing = [who for who in absent if not self._is_coming(who, gang)]
        if missing or len(gang.incarnations) != self.watch.plan.size:
            self.watch.report_violation(
                "2 unanimity", f"{one.incarnation} starts {gang.id} without {missing}"
            )
        if self.watch.plan.guard and (one.incarnation, gang.id) in self._spawned:
            self.watch.report_violation("2 token", f"{one.incarnation} starts {gang.id} twice")

    def _is_coming(self, who: str, gang: Gang) -> bool:
        """Whether it is rebuilt and rejoins, too: it has its rank, and may not have heard that yet. Without
        guard whoever rejoins waits for rank 0 only (seed 1143).
        """
        runs = any(old.incarnations[0] == gang.incarnations[0] for old in self.gangs.get(gang.generation, []))
        holders = self.watch.world.boards.main.board.holders
        return runs and not self.watch.plan.guard and who in holders.values()

    def _all_told(self, one: Instance, gang: Gang) -> None:
        """2: with guard, only after all have confirmed this very gang in the store."""
        told = self.watch.memories.confirmed
        missing = [who for who in gang.incarnations if (who, gang.id) not in told]
        if self.watch.plan.guard and missing:
            self.watch.report_violation(
                "2 unanimity", f"{one.incarnation} starts {gang.id}, unconfirmed by {missing}"
            )

    def _is_told_now(self, one: Instance, gang: Gang) -> None:
        """2: nobody starts with what the store only remembers: another one of the gang has had a word with it
        since it made the first answer of this one's contact.
        """
        words, since = self.watch.world.boards.words, self._first_answers.get(one.incarnation)
        others = [who for who in gang.incarnations if who != one.incarnation]
        if others and since is not None and all(words.get(who, 0.0) <= since for who in others):
            self.watch.report_violation(
                "2 memory", f"{one.incarnation} starts {gang.id}, and nobody else of it is heard"
            )

    def _same_leader(self, one: Instance, gang: Gang) -> None:
        """5: without guard a rank 0 that is rebuilt has all others rebuilt, unless it left because it was
        asked, or they stood at a later barrier already when it took the rank, and start anew in any case.
        Where the store loses the old one, or that the new one came, they may meet that one there, too.
        """
        if self.watch.plan.guard:
            return
        before = self._leaders.setdefault(one.incarnation, gang)
        self._leaders[one.incarnation] = gang
        old, old_generation = before.incarnations[0], before.generation
        if old == gang.incarnations[0]:
            return
        former = next(two for two in self.watch.world.lives if two.incarnation == old)
        since = self.began[old_generation]
        ordered = any(s.what.startswith("order") and s.at >= since for s in self.watch.strikes)
        new = next(two for two in self.watch.world.lives if two.incarnation == gang.incarnations[0])
        lost_at = self.watch.world.boards.lost_at
        lost = lost_at > min(new.born, former.died or new.born) or former.last_answer <= lost_at
        again = any(
            at < new.joined
            for (who, generation), at in self._stood.items()
            if who == one.incarnation and generation > old_generation
        )
        if former.asked is None and not (ordered or lost or again):
            self.watch.report_violation(
                "5 leader", f"{one.incarnation} goes on with {gang.incarnations[0]} after {old}"
            )

    def _same_table(self, one: Instance, gang: Gang) -> None:
        """2: one table for all ranks of a generation; without guard, members that are rebuilt apart."""
        if gang.master_address != gang.ips[0]:
            self.watch.report_violation(
                "2 table", f"{one.incarnation} takes {gang.master_address} for rank 0's address"
            )
        if self._tables.setdefault(gang.id, gang) != gang:
            self.watch.report_violation("2 token", f"{gang.id} was issued for two tables")
        for other in self.gangs.get(gang.generation, []):
            if other == gang or not self._is_remembered(other, gang):
                continue
            same_leader = (other.incarnations[0], other.ips[0]) == (gang.incarnations[0], gang.ips[0])
            if self.watch.plan.guard or not same_leader or other.master_port != gang.master_port:
                self.watch.report_violation(
                    "2 table", f"{one.incarnation} starts {gang.id}, others have {other.id}"
                )

    def _is_remembered(self, old: Gang, gang: Gang) -> bool:
        """Whether somebody who started with the old one lives, whom the new one can know. Otherwise a store
        that lost it may give its number again, to other incarnations: the token is another one.
        """
        spawned = [one for one in self.watch.world.living if (one.incarnation, old.id) in self._spawned]
        living = [one for one in spawned if one.working]  # who was isolated meanwhile has nothing that runs
        return any(not self._is_forgotten(one, old, gang) for one in living)

    def _is_forgotten(self, other: Instance, old: Gang, gang: Gang) -> bool:
        """Whether the store has lost that this one started before it showed it to any of the new gang, and
        has had no word of it since: a store that forgot tells nobody that a Unit runs. Its first word may
        cross the last one of the barrier (seed 70000207), and those on the other side of a split store do not
        count (seed 50062 of the critical moments). A Unit of one waits for no others, so there it may come
        whenever the new one had joined, or be out of contact (seed 83230).
        """
        boards = self.watch.world.boards
        new = [one for one in self.watch.world.lives if one.incarnation in gang.incarnations]
        untold = all(old.id not in one.shown for one in new)
        late = self.watch.plan.size == 1 and (other.contact is None or other.contact > new[0].joined)
        returned = boards.returned.get(other.incarnation, float("inf"))
        crossed = returned > self.watch.world.now - ROUND_TRIP
        silent = other.last_answer <= boards.lost_at or boards.are_apart(new[0].host, other.host)
        return untold and (late or crossed or silent)

    def _new_port(self, gang: Gang) -> None:
        """A new master port in every generation."""
        first = self._ports.setdefault(gang.master_port, gang.generation)
        if first != gang.generation:
            self.watch.report_violation("2 port", f"{gang.id} has the port of generation {first}")

    def _one_of_each(self, one: Instance, gang: Gang) -> None:
        """3: no two at one address; 11: nobody with another secret."""
        if len(set(gang.ips)) < len(gang.ips) and self.watch.plan.probes:  # without a port there is no place
            self.watch.report_violation(
                "3 address", f"{one.incarnation} starts {gang.id} with two at one of {gang.ips}"
            )
        secrets = {two.secret for two in self.watch.world.living if two.incarnation in gang.incarnations}
        if len(secrets) > 1 and self.watch.plan.probes:
            self.watch.report_violation("11 secret", f"{one.incarnation} starts {gang.id} with a stranger")

    def _no_overlap(self, one: Instance, gang: Gang) -> None:
        """1 and 3: nothing older lives on a rank that takes part, and each rank lives once. A store that was
        wiped may hold a whole new Unit before one that is out of contact can write again; that one ends when
        it sees that (seed 860011301).
        """
        for other in self.watch.world.living:
            work = other.workload
            if work is None or not work.alive:
                continue
            # for how long one that cannot know may go on, the lookout watches
            could_know = other.incarnation in gang.incarnations or other.can_know_of(one)
            if other is one:
                self.watch.report_violation(
                    "1 overlap", f"{one.incarnation} starts {gang.id} over its own workload"
                )
            elif work.gang.generation < gang.generation and self._is_known_to_run(other):
                self.watch.report_violation(
                    "1 overlap", f"{gang.id} starts while {other.incarnation} goes on alone"
                )
            elif work.killed and other.incarnation not in gang.incarnations:
                continue  # replaced, and its kernel takes its time
            elif self._is_frozen_beyond_split(one, other):
                continue  # its watchdog ends it
            elif work.gang.generation < gang.generation and could_know:
                self.watch.report_violation(
                    "1 overlap", f"{gang.id} starts while {other.incarnation} runs an older one"
                )
            elif other.rank == one.rank and could_know and not self._is_forgotten(other, work.gang, gang):
                self.watch.report_violation(
                    "3 incarnation", f"{one.incarnation} starts beside {other.incarnation}"
                )
            elif other.rank == one.rank and other.last_answer <= self.watch.world.boards.lost_at:
                self.watch.add_strike(other.rank, "forgotten")

    def _is_known_to_run(self, other: Instance) -> bool:
        """Whether it goes on alone, and the store has not lost it since its last word: a newcomer on a store
        that was set back to before the Unit ran takes its rank at once.
        """
        lost = other.last_answer <= self.watch.world.boards.lost_at
        return not lost and self.watch.lookout.serves_alone(other)

    def _is_frozen_beyond_split(self, one: Instance, other: Instance) -> bool:
        """Whether the store is split, and this agent hangs on the other side. It may have had a word there;
        nobody can ask it, and its watchdog counts from that word (seed 14521). If all that knew it were
        rebuilt meanwhile, the end of the split changes nothing (seed 59129 of the critical moments).
        """
        world, boards = self.watch.world, self.watch.world.boards
        lost = other.host in boards.losing and other.last_answer > boards.split_at
        unknown = lost and world.plan.restart is Restart.RECREATE
        apart = unknown or boards.are_apart(one.host, other.host)
        return apart and other.paused and world.now - other.last_answer <= world.timing.watchdog


def _read_generation(gang_id: str) -> int:
    return int(gang_id.split(":", maxsplit=1)[0])
