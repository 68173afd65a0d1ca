"""Whether a pause of restarts is kept, and ends: judged by what each agent was told, not by what it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitagent.core.events import Event, Exchanged
from unitagent.core.model import Gang, Order, OrderKind

if TYPE_CHECKING:
    from tests.simulation.instance import Instance
    from tests.simulation.watch import Watch


class Pauses:
    """The orders of pauses, and who has been told of which.

    Attributes:
        last_end: when the last pause is over for all, whenever they were told of it.

    """

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self._seconds: dict[int, float] = {}  # by the numbers of the orders
        self._told: dict[str, dict[int, float]] = {}  # by incarnation: until when each pause lasts for it
        self.last_end = 0.0

    def note_order(self, order: Order) -> None:
        """An operator's order has been stored."""
        self._seconds[order.number] = order.seconds if order.kind is OrderKind.PAUSE else 0.0

    def note_decision(self, one: Instance, event: Event) -> None:
        """An agent that holds its rank has been told of pauses: by an order, or by what others know."""
        if not self._seconds or not isinstance(event, Exchanged) or not one.state.joined:
            return
        reply, told = event.reply, self._told.setdefault(one.incarnation, {})
        numbers = {record.pause.number for record in reply.records.values() if record.pause is not None}
        if reply.order is not None:
            numbers.add(reply.order.number)
        for number in sorted(numbers & self._seconds.keys() - told.keys()):
            if number > max(told, default=0):
                told[number] = self._find_end(number, reply.now / 1000)
                self.last_end = max(self.last_end, told[number])

    def _find_end(self, number: int, clock: float) -> float:
        """Until when a pause lasts for somebody who is told of it now, by the store's clock."""
        seconds = self._seconds[number]
        return self.watch.world.now + min(seconds, max(0.0, seconds - (clock - number / 1e6)))

    def check_start(self, gang: Gang) -> None:
        """Nothing starts while all members have been told of a pause, and of nothing newer, and it lasts."""
        told = [self._told.get(who, {}) for who in gang.incarnations]
        ends = [one[max(one)] if one else 0.0 for one in told]
        if min(ends) > self.watch.world.now + self.watch.world.bounds.slack:
            left = min(ends) - self.watch.world.now
            self.watch.report_violation("pause", f"{gang.id} starts {left:.1f} s before the end of a pause")

    def check_rejoin(self, one: Instance, gang: Gang) -> None:
        """Nor does an instance alone; one that starts with a gang that has started already only follows."""
        if any(other.id == gang.id for other in self.watch.starts.gangs[gang.generation]):
            return
        told = self._told.get(one.incarnation, {})
        if told and told[max(told)] > self.watch.world.now + self.watch.world.bounds.slack:
            self.watch.report_violation("pause", f"{one.incarnation} rejoins in a pause")
