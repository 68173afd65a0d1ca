"""Whether keepers start and end rightly, judged by what processes live where.

They start together, when nothing of a workload or of an older keeper is left on any rank that takes part; no
workload starts before all keepers that it uses were ready; they outlive the generations of the workload; and
no agent ends before its keeper.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitagent.core.model import Gang

if TYPE_CHECKING:
    from tests.simulation.instance import Instance
    from tests.simulation.watch import Watch


class Keepers:
    """The keepers that were started, and which of them were ready."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self._ready: set[tuple[str, str]] = set()
        self._ports: dict[int, int] = {}
        self._tables: dict[str, Gang] = {}

    def note_ready(self, one: Instance, gang: Gang) -> None:
        """A keeper holds what the workload needs."""
        self._ready.add((one.incarnation, gang.id))

    def are_ready(self, gang: Gang) -> bool:
        """Whether this gang started keepers, and all of them have been ready."""
        return gang.starts_keepers and all((who, gang.id) in self._ready for who in gang.incarnations)

    def check_keeper_spawn(self, one: Instance, gang: Gang) -> None:
        """A keeper starts: all have confirmed its gang, and nothing older lives where it takes part."""
        told = self.watch.memories.confirmed
        missing = [who for who in gang.incarnations if (who, gang.id) not in told]
        if missing or not gang.starts_keepers:
            self._report("together", f"{one.incarnation} starts a keeper of {gang.id} without {missing}")
        if self._tables.setdefault(gang.id, gang) != gang:
            self._report("together", f"{gang.id} was issued for two tables")
        first = self._ports.setdefault(gang.master_port, gang.generation)
        if first != gang.generation:  # its number may be given again, to other incarnations (910000805)
            self._report("port", f"{gang.id} has the port of generation {first}")
        for other in self.watch.world.living:
            self._check_leftover(one, other, gang)

    def _check_leftover(self, one: Instance, other: Instance, gang: Gang) -> None:
        member, kept = other.incarnation in gang.incarnations, other.keeper
        older = kept is not None and kept.alive and kept.gang.id != gang.id
        if member and (older or other.working):
            what = "keeper" if older else "workload"
            self._report(
                "overlap", f"{one.incarnation} starts a keeper beside the {what} of {other.incarnation}"
            )
        elif other is not one and other.rank == one.rank and older and self._can_know(other, one):
            self._report("overlap", f"{one.incarnation} starts a keeper beside {other.incarnation}'s")

    @staticmethod
    def _can_know(former: Instance, rival: Instance) -> bool:
        return not former.paused and former.can_know_of(rival)

    def check_spawn(self, one: Instance, gang: Gang) -> None:
        """A workload starts: beside a living keeper, after all of them were ready."""
        if not self.watch.plan.keeper:
            return
        unready = [who for who in gang.incarnations if (who, gang.keepers) not in self._ready]
        if unready:
            self._report("ready", f"{one.incarnation} starts {gang.id} before the keepers of {unready}")
        kept = one.keeper
        if kept is None or not kept.main or kept.stopped is not None or kept.gang.id != gang.keepers:
            self._report("ready", f"{one.incarnation} starts {gang.id} without its keeper")
        if kept is not None and kept.stale:
            self._report("stale", f"{one.incarnation} starts {gang.id} beside a keeper of older files")

    def check_keeper_stop(self, one: Instance) -> None:
        """A ready keeper is told to end: its group is broken, or its agent leaves or is cut off."""
        kept = one.keeper
        if kept is None or kept.stopped is not None or (one.incarnation, kept.gang.id) not in self._ready:
            return
        if one.state.shutdown.leaving is not None or not kept.main or one.contact is None:
            return
        members = {two.incarnation: two for two in self.watch.world.lives}
        if all(self._stays(members[who], kept.gang) for who in kept.gang.incarnations):
            self._report("outlive", f"{one.incarnation} ends its keeper, and its group is whole")

    def _stays(self, member: Instance, gang: Gang) -> bool:
        """Whether this one is of the group yet, and nothing says that it will not be."""
        kept, world = member.keeper, self.watch.world
        whole = kept is not None and kept.main and kept.stopped is None and kept.gang.id == gang.id
        whole = whole and kept is not None and not kept.stale
        rivals = any(two.rank == member.rank and two is not member for two in world.living)
        ends = member.asked is not None or member.state.shutdown.leaving is not None
        return whole and member.alive and not (rivals or ends or member.paused)

    def check_exit(self, one: Instance) -> None:
        """No agent ends before its keeper."""
        stuck = one.state.keeper.stuck or one.state.workload.stuck
        if one.keeper is not None and one.keeper.alive and not stuck:
            self._report("exit", f"{one.incarnation} exits before its keeper")

    def _report(self, about: str, what: str) -> None:
        self.watch.report_violation(f"keeper {about}", what)
