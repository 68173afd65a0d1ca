"""Faults of the store, and of the way to it."""

from __future__ import annotations

from tests.simulation.boards import KEYS
from tests.simulation.instance import Instance
from tests.simulation.world import World


def outage(world: World) -> None:
    """Nobody reaches it; it may come back empty, or as it was."""
    world.story.add(world.now, "store", "is down")
    world.boards.down = True
    back = world.span(0.3, 10.0)
    if world.rng.random() < 0.5:
        world.after(back * world.rng.random(), world.rng.choice((wipe, set_back)), world)
    world.after(back, _up, world)


def _up(world: World) -> None:
    world.story.add(world.now, "store", "is back")
    world.boards.down = False


def cut(world: World) -> None:
    """One machine cannot reach it."""
    one = world.slots[world.rng.choice(sorted(world.slots))]
    world.story.add(world.now, one.incarnation, "cannot reach the store")
    _without_probes(world, one)
    world.boards.cut.add(one.host)
    world.after(world.span(0.3, 10.0), _reach, world, one)


def _reach(world: World, one: Instance) -> None:
    world.story.add(world.now, one.incarnation, "reaches the store again")
    _without_probes(world, one)
    world.boards.cut.discard(one.host)


def _without_probes(world: World, one: Instance) -> None:
    """Where peers cannot be asked, whoever is silent for a lease is lost."""
    if not world.plan.probes:
        world.watch.struck(one.rank, "silent")


def staggered(world: World) -> None:
    """Most lose it, each in its time."""
    for one in world.slots.values():
        if world.rng.random() < 0.8:
            _without_probes(world, one)
            world.after(world.span(0.0, 3.0), world.boards.cut.add, one.host)
            world.after(world.span(3.0, 10.0), _reach, world, one)


def wipe(world: World) -> None:
    world.story.add(world.now, "store", "is wiped")
    world.boards.wipe(world.now)


def wipe_while_cut(world: World) -> None:
    """Who cannot reach the store cannot tell it again what it has forgotten."""
    cut(world)
    world.after(world.rng.uniform(0.0, 1.0), world.rng.choice((wipe, set_back)), world)


def set_back(world: World) -> None:
    """It comes back as it was at an earlier moment."""
    world.story.add(world.now, "store", "comes back as it was")
    world.boards.set_back(world.now)


def set_back_often(world: World) -> None:
    for _ in range(world.rng.randint(2, 4)):
        world.after(world.span(0.0, 4.0), set_back, world)


def failover(world: World) -> None:
    """A replica that lags takes over."""
    world.boards.replicate()
    world.after(world.span(0.1, 5.0), _promote, world)


def _promote(world: World) -> None:
    world.story.add(world.now, "store", "fails over and loses writes")
    world.boards.fail_over(world.now)


def split(world: World) -> None:
    """For a while there are two primaries."""
    stale = {one.host for one in world.slots.values() if world.rng.random() < 0.5}
    if not world.plan.probes:
        for one in world.slots.values():
            _without_probes(world, one)
    world.story.add(world.now, "store", f"splits; the old primary keeps {sorted(stale)}")
    world.boards.split(stale, world.now)
    world.after(world.span(0.5, 8.0), _join, world)


def _join(world: World) -> None:
    if not world.plan.probes:
        for one in world.slots.values():
            _without_probes(world, one)
    world.story.add(world.now, "store", "the old primary gives up")
    world.boards.join(world.now)


def forget(world: World) -> None:
    """Single keys are lost."""
    keys = world.rng.sample(KEYS, world.rng.choice((1, 1, 2, 3)))
    ranks = range(world.plan.size)
    lost = {key: tuple(world.rng.sample(ranks, world.rng.randint(1, world.plan.size))) for key in keys}
    world.story.add(world.now, "store", f"loses {lost}")
    world.boards.forget(lost, world.now)


def clock(world: World) -> None:
    """The server's clock is set, forward or back."""
    shift = world.rng.choice((-3600.0, -world.span(0.0, 5.0), world.span(0.0, 5.0), 3600.0))
    world.story.add(world.now, "store", f"its clock is set by {shift:.1f} s")
    world.boards.shift += shift


def lossy(world: World) -> None:
    """Words and answers are lost, and with them one beat after the other."""
    for one in world.slots.values():
        _without_probes(world, one)
    lasts = world.span(1.0, 6.0)
    world.lossy, world.lossy_until = 0.3, world.now + lasts
    world.after(lasts, setattr, world, "lossy", 0.0)


def slow(world: World) -> None:
    """Answers take up to what an operation may take, and at times longer."""
    world.story.add(world.now, "store", "is slow")
    world.slow = world.rng.choice((0.3, 1.0))
    world.after(world.span(1.0, 8.0), setattr, world, "slow", 0.0)


def straggling(world: World) -> None:
    """Words arrive when their senders have given up and said something later."""
    for one in world.slots.values():
        _without_probes(world, one)
    world.story.add(world.now, "store", "words arrive late and in another order")
    world.straggling = 0.2
    world.after(world.span(1.0, 8.0), setattr, world, "straggling", 0.0)
