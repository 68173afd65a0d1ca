"""Faults of the store, and of the way to it."""

from __future__ import annotations

from tests.simulation.instance import Instance
from tests.simulation.stores import KEYS
from tests.simulation.world import World


def take_store_down(world: World) -> None:
    """Nobody reaches it; it may come back empty, or as it was."""
    world.story.add(world.now, "store", "is down")
    world.boards.down = True
    back = world.draw_span(0.3, 10.0)
    if world.rng.random() < 0.5:
        world.schedule(back * world.rng.random(), world.rng.choice((wipe_store, set_back)), world)
    world.schedule(back, _bring_store_up, world)


def _bring_store_up(world: World) -> None:
    world.story.add(world.now, "store", "is back")
    world.boards.down = False


def cut_from_store(world: World, one: Instance | None = None) -> None:
    """One machine cannot reach it."""
    one = one or world.slots[world.rng.choice(sorted(world.slots))]
    world.story.add(world.now, one.incarnation, "cannot reach the store")
    _without_probes(world, one)
    world.boards.cut.add(one.host)
    world.schedule(world.draw_span(0.3, 10.0), _restore_access, world, one)


def _restore_access(world: World, one: Instance) -> None:
    world.story.add(world.now, one.incarnation, "reaches the store again")
    _without_probes(world, one)
    world.boards.cut.discard(one.host)


def _without_probes(world: World, one: Instance) -> None:
    """Where peers cannot be asked, whoever is silent for a lease is lost."""
    if not world.plan.probes:
        world.watch.add_strike(one.rank, "silent")


def cut_staggered(world: World) -> None:
    """Most lose it, each in its time."""
    for one in world.slots.values():
        if world.rng.random() < 0.8:
            _without_probes(world, one)
            world.schedule(world.draw_span(0.0, 3.0), world.boards.cut.add, one.host)
            world.schedule(world.draw_span(3.0, 10.0), _restore_access, world, one)


def wipe_store(world: World) -> None:
    world.story.add(world.now, "store", "is wiped")
    world.boards.wipe(world.now)


def wipe_while_cut(world: World) -> None:
    """Who cannot reach the store cannot tell it again what it has forgotten."""
    cut_from_store(world)
    world.schedule(world.rng.uniform(0.0, 1.0), world.rng.choice((wipe_store, set_back)), world)


def set_back(world: World) -> None:
    """It comes back as it was at an earlier moment."""
    world.story.add(world.now, "store", "comes back as it was")
    world.boards.set_back(world.now)


def set_back_often(world: World) -> None:
    for _ in range(world.rng.randint(2, 4)):
        world.schedule(world.draw_span(0.0, 4.0), set_back, world)


def fail_over(world: World) -> None:
    """A replica that lags takes over."""
    world.boards.copy_to_replica()
    world.schedule(world.draw_span(0.1, 5.0), _promote_replica, world)


def _promote_replica(world: World) -> None:
    world.story.add(world.now, "store", "fails over and loses writes")
    world.boards.fail_over(world.now)


def split_store(world: World) -> None:
    """For a while there are two primaries."""
    stale = {one.host for one in world.slots.values() if world.rng.random() < 0.5}
    if not world.plan.probes:
        for one in world.slots.values():
            _without_probes(world, one)
    world.story.add(world.now, "store", f"splits; the old primary keeps {sorted(stale)}")
    world.boards.split(stale, world.now)
    world.schedule(world.draw_span(0.5, 8.0), _end_split, world)


def _end_split(world: World) -> None:
    if not world.plan.probes:
        for one in world.slots.values():
            _without_probes(world, one)
    world.story.add(world.now, "store", "the old primary gives up")
    world.boards.join(world.now)


def lose_keys(world: World) -> None:
    """Single keys are lost."""
    keys = world.rng.sample(KEYS, world.rng.choice((1, 1, 2, 3)))
    ranks = range(world.plan.size)
    lost = {key: tuple(world.rng.sample(ranks, world.rng.randint(1, world.plan.size))) for key in keys}
    world.story.add(world.now, "store", f"loses {lost}")
    world.boards.forget(lost, world.now)


def set_clock(world: World) -> None:
    """The server's clock is set, forward or back."""
    shift = world.rng.choice((-3600.0, -world.draw_span(0.0, 5.0), world.draw_span(0.0, 5.0), 3600.0))
    world.story.add(world.now, "store", f"its clock is set by {shift:.1f} s")
    world.boards.shift += shift


def lose_messages(world: World) -> None:
    """Words and answers are lost, and with them one beat after the other."""
    for one in world.slots.values():
        _without_probes(world, one)
    lasts = world.draw_span(1.0, 6.0)
    world.lossy, world.lossy_until = 0.3, world.now + lasts
    world.schedule(lasts, setattr, world, "lossy", 0.0)


def slow_down(world: World) -> None:
    """Answers take up to what an operation may take, and at times longer."""
    world.story.add(world.now, "store", "is slow")
    world.slow = world.rng.choice((0.3, 1.0))
    world.schedule(world.draw_span(1.0, 8.0), setattr, world, "slow", 0.0)


def delay_messages(world: World, share: float = 0.2) -> None:
    """Words arrive when their senders have given up and said something later."""
    for one in world.slots.values():
        _without_probes(world, one)
    world.story.add(world.now, "store", "words arrive late and in another order")
    world.straggling = share
    world.schedule(world.draw_span(1.0, 8.0), setattr, world, "straggling", 0.0)
