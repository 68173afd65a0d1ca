"""The guarantees that show only over time: who goes on alone, and what probes say. Looked at now and then.

The invariant: a doubt has to last for its bound, without a break, before it is a violation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.instance import Instance
    from tests.simulation.validators import Watch

LEASE = 5.0
ISOLATED_WITHIN = LEASE + 2.0
UNREADY_WITHIN = LEASE + 4.0  # of a member's death, in the worst case without a packet and without the store
AGREED_WITHIN = 4.0
WAKING = 3.0  # seconds that a thawed agent needs to learn what it missed
SETTLED = LEASE + 1.0  # seconds of unbroken contact in which a lease can be judged
LOOK = 0.5


class Lookout:
    """Validators that need to see the same thing for a while."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self._since: dict[tuple[str, str], float] = {}

    def look(self) -> None:
        """Once every ``LOOK`` seconds."""
        awake = [one for one in self.watch.world.lives if one.alive and self._awake(one)]
        wide = {one.incarnation for one in awake} | {"all"}
        self._since = {about: since for about, since in self._since.items() if about[1] in wide}
        for one in awake:
            self._isolated(one)
            self._honest(one)
        self._agreed([one for one in awake if self._connected(one)])

    def _awake(self, one: Instance) -> bool:
        return not one.paused and self.watch.world.now - one.woken > WAKING

    def _lasting(self, what: str, who: str, holds: bool) -> float:
        """Seconds that something has been so."""
        if not holds:
            self._since.pop((what, who), None)
            return 0.0
        return self.watch.world.now - self._since.setdefault((what, who), self.watch.world.now)

    def _isolated(self, one: Instance) -> None:
        """7: cut off from the store and from rank 0, an instance stops in time."""
        alone = one.working and self.watch.plan.probes and self.watch.plan.size > 1 and self.alone(one)
        if self._lasting("alone", one.incarnation, alone) > ISOLATED_WITHIN:
            self.watch.broken("7 isolated", f"{one.incarnation} goes on alone")

    def alone(self, one: Instance) -> bool:
        """Whether neither the store nor anybody who could vouch for it answers."""
        gang = one.state.workload.gang
        if self.watch.world.boards.of(one.ip) is not None or gang is None:
            return False
        ranks = [rank for rank in range(1, self.watch.plan.size) if self._is_member(one, rank)]
        if one.rank == 0 and not ranks:
            return False  # all others were rebuilt, or have left: they wait for the store, it serves on
        ranks = ranks if one.rank == 0 else [0]
        return not any(self._answers(one, gang.ips[rank], gang.incarnations[rank]) for rank in ranks)

    def _is_member(self, one: Instance, rank: int) -> bool:
        """Whether it believes that the member it started with is still there."""
        record, gang = one.state.store.records.get(rank), one.state.workload.gang
        if record is None or gang is None or record.left:
            return False
        return record.incarnation == gang.incarnations[rank]

    def _answers(self, one: Instance, ip: str, incarnation: str) -> bool:
        there = self.watch.world.at(ip)
        same = there is not None and there.incarnation == incarnation
        return same and self.watch.world.reaches(one.ip, ip) and not self.watch.world.frozen(ip)

    def _honest(self, one: Instance) -> None:
        """Probes: nobody says ready for long while a member's workload is down."""
        blind = not self.watch.plan.probes and self.watch.world.boards.of(one.ip) is None
        lies = (
            not blind
            and one.ready
            and one.workload is not None
            and not self.watch.world.complete(one.workload.gang)
        )
        clear = not self.watch.world.torn and self.watch.world.lossy == 0
        connected = self.watch.world.boards.of(one.ip) is not None
        contact = one.state.store.leases.contact
        judges = not connected or (contact is not None and one.clock - contact > SETTLED)
        for sees in (True, False):  # each time that the store comes or goes, evidence begins anew
            holds = lies and clear and judges and connected is sees
            if self._lasting(f"lies {sees}", one.incarnation, holds) > UNREADY_WITHIN:
                self.watch.broken("readyz", f"{one.incarnation} says ready while a workload is down")

    def _connected(self, one: Instance) -> bool:
        """Whether it holds its rank, and has seen the one store and its peers for long enough to judge."""
        since = one.state.store.leases.contact
        judges = since is not None and one.clock - since > SETTLED and not self.watch.world.severed(one.ip)
        same_server = self.watch.world.boards.of(one.ip) is self.watch.world.boards.main
        return judges and same_server and one.state.joined and not one.state.fenced

    def _somebody_hangs(self) -> bool:
        return any(one.alive and one.paused for one in self.watch.world.lives)

    def _agreed(self, connected: list[Instance]) -> None:
        """Probes: the same answer on every rank."""
        said = {one.ready for one in connected}
        split = len(said) > 1 and not self.watch.world.torn
        # What a store lost is told again with the next heartbeat; by who hangs only when it is lost itself.
        within = LEASE + 1.0 if self._somebody_hangs() else AGREED_WITHIN
        if self._lasting("split", "all", split) > within:
            ready = [one.incarnation for one in connected if one.ready]
            self.watch.broken("readyz", f"only {ready} of {[one.incarnation for one in connected]} say ready")
