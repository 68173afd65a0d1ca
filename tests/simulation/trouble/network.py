"""Faults of machines' networks and addresses."""

from __future__ import annotations

from tests.simulation.instance import Instance
from tests.simulation.world import World


def _somebody(world: World) -> Instance:
    return world.slots[world.rng.choice(sorted(world.slots))]


def partition(world: World) -> None:
    """A machine loses all of its network; the platform may start a replacement elsewhere."""
    one = _somebody(world)
    world.watch.struck(one.rank, "partition")
    world.story.add(world.now, one.incarnation, "partitioned")
    world.network.sever(one.host)
    world.boards.cut.add(one.host)
    world.after(world.span(1.0, 12.0), _reunite, world, one)
    if world.rng.random() < 0.5:
        world.after(world.span(0.5, 10.0), world.replace, one)


def _reunite(world: World, one: Instance) -> None:
    world.watch.struck(one.rank, "partition ends")
    world.story.add(world.now, one.incarnation, "network is back")
    world.network.splice(one.host)
    world.boards.cut.discard(one.host)


def apart(world: World) -> None:
    """A machine reaches the store, and no other machine."""
    one = _somebody(world)
    world.watch.struck(one.rank, "cut off from peers")
    world.story.add(world.now, one.incarnation, "cut off from peers")
    world.network.sever(one.host)
    world.after(world.span(1.0, 12.0), _together, world, one)


def _together(world: World, one: Instance) -> None:
    world.watch.struck(one.rank, "reaches its peers again")
    world.story.add(world.now, one.incarnation, "reaches its peers again")
    world.network.splice(one.host)


def pair(world: World) -> None:
    """Two machines do not reach each other, for good."""
    one, other = _somebody(world), _somebody(world)
    world.watch.struck(one.rank, "cut off from a peer")
    world.watch.struck(other.rank, "cut off from a peer")
    world.story.add(world.now, one.incarnation, f"cannot reach {other.incarnation}")
    world.network.sever_pair(one.host, other.host)


def squatter(world: World) -> None:
    """A newcomer for a held rank, at the holder's very address, while the holder lives on its own machine."""
    one = _somebody(world)
    if one.alive:
        world.story.add(world.now, one.incarnation, "somebody else is started for its rank, at its address")
        world.replace(one, one.ip)


def usurp(world: World) -> None:
    """A newcomer for a held rank waits, and then its holder is cut off from the store, or from everything."""
    one = _somebody(world)
    if not one.alive:
        return
    elsewhere(world, one)
    whole = world.rng.random() < 0.6
    if whole:
        world.watch.struck(one.rank, "partition")
        world.after(world.span(0.5, 1.5), world.network.sever, one.host)
    elif not world.plan.probes:
        world.watch.struck(one.rank, "silent")
    world.after(world.span(0.5, 1.5), world.boards.cut.add, one.host)
    world.after(world.span(6.0, 14.0), _reunite, world, one)


def blackout(world: World) -> None:
    """The store is gone for everybody, and one machine is cut off from all others; then all is back."""
    one = _somebody(world)
    world.watch.struck(one.rank, "partition")
    world.story.add(world.now, one.incarnation, "partitioned, and the store is down")
    world.network.sever(one.host)
    world.boards.down = True
    length = world.timing.takeover + world.span(0.5, 3.0)
    world.after(length, _reunite, world, one)
    world.after(length, setattr, world.boards, "down", False)


def elsewhere(world: World, one: Instance | None = None) -> None:
    """A newcomer for a held rank, at an address of its own, while the holder lives."""
    one = one or _somebody(world)
    if not one.alive:
        return
    world.story.add(world.now, one.incarnation, "somebody else is started for its rank")
    world.replace(one)
