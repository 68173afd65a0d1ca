"""Faults of keepers: they die, or their files change, at any time, and just after what an agent has decided
about them.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.simulation.instance import Instance
from tests.simulation.plan import Profile
from tests.simulation.trouble.instances import lose_living, pick_instance
from tests.simulation.world import World
from unitagent.core.state import State

Moment = Callable[[State, State], bool]

_MOMENTS: tuple[Moment, ...] = (
    lambda old, new: new.keeper.gang is not None and old.keeper.gang is None,  # starts
    lambda old, new: new.keeper.ready and not old.keeper.ready,
    lambda old, new: new.keeper.ready and new.me.gang not in ("", old.me.gang),  # confirms
    lambda old, new: new.keeper.ready and new.up and not old.up,  # the workload starts
    lambda old, new: new.superseded and not old.superseded,
    lambda old, new: new.me.generation != old.me.generation,
    lambda old, new: new.keeper.gang is None and old.keeper.gang is not None,  # is gone
)
_SPARED = (Profile.STORE, Profile.DRAIN, Profile.BURST)  # there only what they stand for happens


def schedule_keeper_faults(world: World) -> None:
    """Put trouble of keepers into this world's future."""
    if world.plan.profile in _SPARED:
        return
    rng, plan = world.rng, world.plan
    for _ in range(rng.randint(0, 2)):
        at = plan.faults_from * rng.random() + plan.faults_span * rng.random()
        what = rng.choice((crash_keeper, crash_keeper, renew_files))
        world.schedule(at, lambda what=what: what(world, pick_instance(world)) if world.slots else None)
    world.observers.append(_Follower(world).note_decision)


def crash_keeper(world: World, one: Instance) -> None:
    """The main process of its keeper ends by itself."""
    if one.keeper is None or not one.keeper.main or world.healed:
        return
    if one.keeper.stopped is None:
        world.watch.add_strike(one.rank, "keeper")
    world.story.add(world.now, one.incarnation, "keeper crashes")
    one.keeper.exit()


def renew_files(world: World, one: Instance) -> None:
    """The files that its keeper has loaded are replaced."""
    if one.keeper is None or not one.keeper.main or one.keeper.stopped is not None or world.healed:
        return
    world.watch.add_strike(one.rank, "files")
    world.story.add(world.now, one.incarnation, "keeper's files change")
    one.keeper.grow_stale()


class _Follower:
    """Waits for some moments in the life of keepers, and makes trouble then."""

    def __init__(self, world: World) -> None:
        self._world = world
        rng = world.rng
        self._left = {rng.randrange(len(_MOMENTS)): rng.randint(0, 3) for _ in range(rng.randint(0, 2))}

    def note_decision(self, one: Instance, before: State) -> None:
        if self._world.healed:
            return
        for number, left in list(self._left.items()):
            if not _MOMENTS[number](before, one.state):
                continue
            self._left[number] = left - 1
            if left == 0:
                self._strike(one)

    def _strike(self, one: Instance) -> None:
        world, rng = self._world, self._world.rng
        hit = one if rng.random() < 0.6 else pick_instance(world)
        what = rng.choice((crash_keeper, crash_keeper, renew_files, _kill, lose_living))
        world.schedule(rng.choice((0.0, 0.01, 0.1, 1.0)) * rng.random(), what, world, hit)


def _kill(world: World, one: Instance) -> None:
    world.kill(one)
