"""What agents and the store remember: generations, claims, and the first failure of each generation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitagent.core.config import Mode
from unitagent.core.events import Event, Exchanged, PeerAnswered
from unitagent.core.model import Beat, Failure, Record
from unitagent.core.state import State
from unitagent.core.state_parts import Shutdown

if TYPE_CHECKING:
    from tests.simulation.instance import Instance
    from tests.simulation.watch import Watch


class Memories:
    """Who holds which rank in the store, and which failures it keeps.

    Attributes:
        confirmed: which incarnation has ever told the store that it confirms which gang.
        parted: who has told the store that its rank is free.
        warned: to whom the store has shown that the budget is spent.

    """

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self._holders: dict[int, str] = {}
        self._failure: Failure | None = None
        self.confirmed: set[tuple[str, str]] = set()
        self.parted: set[str] = set()
        self.warned: set[str] = set()
        self._beaten: dict[str, float] = {}
        self._counted: dict[str, tuple[Beat, float]] = {}
        self._lost_at = float("-inf")

    def note_decision(self, one: Instance, before: State, event: Event) -> None:
        """6: a generation never goes backwards. The kept failure is the first of its generation."""
        after = one.state
        if after.generation < before.generation or after.me.generation < before.me.generation:
            self.watch.report_violation(
                "6 generation", f"{one.incarnation} went back from {before.generation}"
            )
        self._said_why(one, before, event)
        mine, old = after.recovery.failure, before.recovery.failure
        if mine is None or mine is old:
            return
        if isinstance(event, Exchanged):
            stored = event.reply.failure
            if (
                stored is not None
                and stored.generation == mine.generation
                and _describe_failure(stored) != _describe_failure(mine)
            ):
                self.watch.report_violation(
                    "failure",
                    f"{one.incarnation} keeps {_describe_failure(mine)}, not {_describe_failure(stored)}",
                )
        elif (
            old is not None
            and old.generation == mine.generation
            and _describe_failure(old) != _describe_failure(mine)
        ):
            self.watch.report_violation(
                "failure",
                f"{one.incarnation} keeps {_describe_failure(mine)}, first was {_describe_failure(old)}",
            )

    def _said_why(self, one: Instance, before: State, event: Event) -> None:
        """4: whoever ends the generation that it runs, with guard, says what has failed; unless it only
        learned that it is over, or somebody was asked to stop, or all keepers that it started are ready.
        """
        after, plan = one.state, self.watch.plan
        ran = before.in_gang and before.generation == before.me.generation and after.holds_rank
        ends = ran and after.generation > max(before.generation, _highest_generation(event))
        asked = before.shutdown != Shutdown() or after.shutdown != Shutdown()
        loaded = before.workload.gang is not None and self.watch.keepers.are_ready(before.workload.gang)
        if not ends or asked or loaded or not plan.guard or plan.mode is not Mode.SERVICE:
            return
        failure = after.recovery.failure
        if failure is None or failure.generation < before.generation:
            self.watch.report_violation(
                "failure", f"{one.incarnation} ends {before.generation} and does not say why"
            )

    def note_exchange(self, one: Instance, said: Record | None) -> None:
        """The store has got a word."""
        if said is not None and said.gang:
            self.confirmed.add((one.incarnation, said.gang))
        if said is not None and said.has_left:
            self.parted.add(one.incarnation)
        boards = self.watch.world.boards
        board = boards.main.board
        heard = boards.is_main(one.host) and one.host not in boards.deaf
        if heard and any(record.budget_exhausted for record in board.records.values()):
            self.warned.add(one.incarnation)
        self._note_beat(one, said, board.beats.get(one.rank))
        forgot = boards.lost_at != self._lost_at
        self._lost_at = boards.lost_at
        if forgot:
            self._holders = dict(board.holders)
            self._failure = board.failure
        kept, old = board.failure, self._failure
        if kept is not None and old is not None and kept.generation == old.generation and kept != old:
            self.watch.report_violation(
                "failure", f"the store keeps {_describe_failure(kept)}, first was {_describe_failure(old)}"
            )
        self._failure = kept
        if one.rank >= 0:
            self._check_claim(one, board.holders.get(one.rank, ""))

    def _note_beat(self, one: Instance, said: Record | None, beat: tuple[Beat, float] | None) -> None:
        """A word of who is no holder there is not kept, and neither is one that comes too late."""
        if said is None or beat is None or beat[0].incarnation != one.incarnation:
            return
        if self.watch.world.boards.is_main(one.host) and beat != self._counted.get(one.incarnation):
            self._counted[one.incarnation] = beat
            self._beaten[one.incarnation] = self.watch.world.now

    def _check_claim(self, one: Instance, holder: str) -> None:
        """3: a newcomer takes no rank whose holder is in contact with the store. Of a holder that has had no
        word with it since it lost its memory it shows nothing; that one takes its place back. For a holder
        that is cut off the newcomer waits where it was told of it, or that the Unit has run.
        """
        former = self._holders.get(one.rank, "")
        self._holders[one.rank] = holder
        if holder != one.incarnation or holder == former:
            return
        for other in self.watch.world.living:
            rival = other.rank == one.rank and other is not one and other.state.joined
            rival = rival and not other.state.fenced and not other.state.me.has_left
            if rival and one.state.joined:
                self._taken_back(one, other)
            elif rival:
                self._taken_over(one, other, former)

    def _taken_over(self, one: Instance, other: Instance, former: str) -> None:
        """3: whose lease is gone, and who does not answer either, has lost its rank, and is fenced should it
        come back. Whoever is only remembered lost it to the former holder already, where there was one; and
        of what was said to the losing side of a split nobody on the other side knows. Of a store that shows
        nobody a newcomer learns no address to ask at (seed 700009761).
        """
        shown = former == other.incarnation
        answered = shown and self.watch.lookout.answered_for(one) > self.watch.world.timing.takeover
        if answered or (self._has_beaten(other) and former in ("", other.incarnation)):
            self.watch.report_violation(
                "3 claim", f"{one.incarnation} takes rank {one.rank} of {other.incarnation}"
            )
        elif (shown or (not former and _tells_of_a_run(one))) and self._is_served_alone(other):
            if not self._was_on_the_losing_side(other):
                what = f"{one.incarnation} takes over from {other.incarnation}, which runs"
                self.watch.report_violation("3 takeover", what)
        elif not self._has_been_heard(other) and not (shown and self.watch.lookout.answers(one, other)):
            self.watch.add_strike(one.rank, "taken over")

    def _was_on_the_losing_side(self, other: Instance) -> bool:
        boards = self.watch.world.boards
        return other.host in boards.losing and other.last_answer > boards.split_at

    def _taken_back(self, one: Instance, other: Instance) -> None:
        """3: who comes back takes its rank from one that a store without memory has given it to meanwhile,
        and not from one that has started in a newer generation since.
        """
        mine, theirs = one.workload, other.workload
        newer = (
            theirs is not None
            and theirs.main
            and (mine is None or theirs.gang.generation > mine.gang.generation)
        )
        if newer and self._has_beaten(other):
            what = f"{one.incarnation} takes rank {one.rank} back from {other.incarnation}, which runs"
            self.watch.report_violation("3 takeback", what)

    def _is_served_alone(self, other: Instance) -> bool:
        """Whether it is cut off from all, and has had the time to be stopped."""
        lookout = self.watch.lookout
        return lookout.serves_alone(other) and not lookout.is_within_its_time(other)

    def _has_beaten(self, other: Instance) -> bool:
        """Whether its lease runs: the one store has had its word within that time, and remembers it."""
        return self._last_beat(other) > self.watch.world.boards.lost_at and self._has_been_heard(other)

    def _has_been_heard(self, other: Instance) -> bool:
        """Whether the one store has had its word within a lease, and may have forgotten it."""
        world = self.watch.world
        return world.now - self._last_beat(other) < world.timing.lease

    def _last_beat(self, other: Instance) -> float:
        return self._beaten.get(other.incarnation, float("-inf"))


def _tells_of_a_run(one: Instance) -> bool:
    """Whether this newcomer has seen in the store that the Unit has run: somebody may be forgotten."""
    started = any(record.state.started for record in one.state.store.records.values())
    return one.state.generation > 1 or started


def _highest_generation(event: Event) -> int:
    """The highest generation that this event tells of."""
    if isinstance(event, Exchanged):
        records = event.reply.records.values()
        return max([event.reply.generation, *(record.generation for record in records)])
    return event.generation if isinstance(event, PeerAnswered) else 0


def _describe_failure(failure: Failure) -> str:
    return f"rank {failure.rank} {failure.reason} in generation {failure.generation}"
