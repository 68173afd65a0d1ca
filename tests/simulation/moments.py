"""Faults at critical moments: trouble that follows what an agent has just decided, not the clock.

Between two such moments pass seconds in which little can go wrong, so faults at random times hit them rarely.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from tests.fakestore import Board
from tests.simulation.instance import Instance
from tests.simulation.trouble import instances, network, store
from tests.simulation.world import World
from unitagent.core.state import State

Moment = Callable[[Instance, State, State], bool]
Fault = Callable[[World, Instance, Board], None]

_SOONEST = 0.001  # seconds


def _claims(_: Instance, old: State, new: State) -> bool:
    return not new.joined and old.store.exchanging is None and new.store.exchanging is not None


def _starts_first(one: Instance, old: State, new: State) -> bool:
    return new.up and not old.up and new.me.generation not in one.world.watch.starts.began


def _starts_late(one: Instance, old: State, new: State) -> bool:
    return new.up and not old.up and new.me.generation in one.world.watch.starts.began


def _proposes(one: Instance, old: State, new: State) -> bool:
    known = max(old.generation, one.world.boards.main.board.generation)
    others = (other.state.generation for other in one.world.living if other is not one)
    return new.generation > known and all(new.generation > other for other in others)


def _sees_a_successor(_: Instance, old: State, new: State) -> bool:
    known, shown = old.store.records, new.store.records
    both = known.keys() & shown.keys() if shown is not known else ()
    return any(known[rank].incarnation != shown[rank].incarnation for rank in both)


# How an agent's state tells that it has just decided something critical, and how often that is waited for.
MOMENTS: Mapping[str, tuple[Moment, float]] = {
    "claims its rank": (_claims, 2),
    "has its rank": (lambda _, old, new: new.joined and not old.joined, 1),
    "enters": (lambda _, old, new: new.me.generation != old.me.generation, 4),
    "has a port": (lambda _, old, new: new.me.next_port != old.me.next_port, 1),
    "confirms": (lambda _, old, new: new.me.gang not in ("", old.me.gang), 3),
    "starts first": (_starts_first, 4),
    "starts late": (_starts_late, 2),
    "proposes": (_proposes, 2),
    "is superseded": (lambda _, old, new: new.superseded and not old.superseded, 1),
    "has stopped": (lambda _, old, new: old.up and not new.up, 1),
    "sees a successor": (_sees_a_successor, 2),
    "admits": (lambda _, old, new: old.up and new.up and new.workload.gang is not old.workload.gang, 1),
    "obeys": (lambda _, old, new: new.me.order != old.me.order, 1),
    "is asked": (lambda _, old, new: new.me.stop_requested and not old.me.stop_requested, 1),
    "leaves": (lambda _, old, new: new.me.has_left and not old.me.has_left, 1),
    "is isolated": (lambda _, old, new: new.workload.isolated and not old.workload.isolated, 1),
    "comes back": (lambda _, old, new: old.joined and new.connected and not old.connected, 2),
}


class Moments:
    """Waits for some moments, each after as many others of its kind as were drawn, and keeps copies of the
    store from all of them: it may be set back to any.
    """

    def __init__(self, world: World) -> None:
        self._world, rng = world, world.rng
        kinds = rng.choices(list(MOMENTS), [weight for _, weight in MOMENTS.values()], k=rng.randint(2, 6))
        self._left = [(kind, rng.randint(0, rng.choice((0, 3, world.plan.size)))) for kind in kinds]
        self._while_forming = rng.random() < 0.2
        self._copies: list[Board] = []

    def note_decision(self, one: Instance, before: State) -> None:
        """An agent has decided something, and not done it yet."""
        if self._world.healed or not (self._while_forming or self._world.watch.starts.began):
            return
        now = {kind for kind, _ in self._left if MOMENTS[kind][0](one, before, one.state)}
        if now:
            self._keep_copy()
            self._world.schedule(self._draw_delay(0.3), self._keep_copy)
        due = [kind for kind, left in self._left if kind in now and left == 0]
        self._left = [(kind, left - (kind in now)) for kind, left in self._left if left or kind not in now]
        for kind in due:
            self._plan_trouble(one, kind)

    def _keep_copy(self) -> None:
        self._copies.append(self._world.boards.main.copy())

    def _draw_delay(self, most: float) -> float:
        """Seconds: milliseconds as often as tenths, so that each step of what follows is hit."""
        return math.exp(self._world.rng.uniform(math.log(_SOONEST), math.log(most)))

    def _plan_trouble(self, one: Instance, kind: str) -> None:
        world, rng, beat = self._world, self._world.rng, self._world.timing.heartbeat
        world.story.add(world.now, one.incarnation, f"{kind}: trouble follows")
        for _ in range(rng.choice((1, 1, 2))):
            hit = one if rng.random() < 0.5 else instances.pick_instance(world)
            most = rng.choice((0.1, beat, beat, 2 * world.timing.takeover))
            fault = rng.choices(list(FAULTS), list(FAULTS.values()))[0]
            world.schedule(self._draw_delay(most), self._strike, fault, hit)

    def _strike(self, fault: Fault, one: Instance) -> None:
        if not self._world.healed:
            rng, copies = self._world.rng, self._copies
            fault(self._world, one, copies[-1] if rng.random() < 0.5 else rng.choice(copies))


def _set_back(world: World, _one: Instance, copy: Board) -> None:
    if not world.healed:
        world.story.add(world.now, "store", "comes back as it was at a critical moment")
        world.boards.fall_back(copy, world.now)


def _return_to_the_past(world: World, one: Instance, copy: Board) -> None:
    """A machine stops hearing the store, loses all of its network, and is replaced as a rule. When it is
    back, the store shows that moment again, or what it showed soon after.
    """
    rng, takeover = world.rng, world.timing.takeover
    long = takeover * rng.uniform(1.2, 2.0)
    lasts = rng.choice((world.draw_span(0.4, 3.0), long, long))
    world.boards.deaf.add(one.host)
    if rng.random() < 0.7:
        world.schedule(rng.uniform(0.05, 0.5), world.replace, one)
    cut = rng.choice((0.0, rng.uniform(0.0, 0.1)))
    world.schedule(cut, network.partition_machine, world, one, lasts - cut)
    world.schedule(lasts, world.boards.deaf.discard, one.host)
    copies = [copy]
    for later in (0.03, 0.1, 0.3, 1.0, 3.0):
        world.schedule(later * rng.random(), lambda: copies.append(world.boards.main.copy()))
    world.schedule(lasts - rng.choice((0.0, 0.01, 0.3)), lambda: _set_back(world, one, rng.choice(copies)))


def _replace_frozen(world: World, one: Instance, _copy: Board) -> None:
    """A newcomer for its rank is started while it hangs for longer than its lease."""
    if one.alive and not one.paused:
        world.schedule(world.draw_span(0.0, 2.0), world.replace, one)
        instances.freeze_holder(world, one)


FAULTS: Mapping[Fault, float] = {
    _set_back: 4,
    _return_to_the_past: 6,
    _replace_frozen: 1,
    lambda world, _one, _copy: store.wipe_store(world): 2,
    lambda world, _one, _copy: store.split_store(world): 1.5,
    lambda world, _one, _copy: store.lose_keys(world): 2,
    lambda world, _one, _copy: store.take_store_down(world): 1,
    lambda world, one, _copy: store.cut_from_store(world, one): 1,
    lambda world, _one, _copy: store.delay_messages(world, 0.6): 1,
    lambda world, one, _copy: instances.freeze_agent(world, one): 2,
    lambda world, one, _copy: world.kill(one): 3,
    lambda world, one, _copy: instances.lose_living(world, one): 1,
    lambda world, one, _copy: network.partition_machine(world, one): 2,
}
