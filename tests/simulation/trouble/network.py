"""Faults of machines' networks and addresses."""

from __future__ import annotations

from tests.simulation.instance import Instance
from tests.simulation.world import World


def _pick_instance(world: World) -> Instance:
    return world.slots[world.rng.choice(sorted(world.slots))]


def partition_machine(world: World, one: Instance | None = None, lasts: float = 0.0) -> None:
    """A machine loses all of its network; the platform may start a replacement elsewhere."""
    one = one or _pick_instance(world)
    world.watch.add_strike(one.rank, "partition")
    world.story.add(world.now, one.incarnation, "partitioned")
    world.network.cut_machine(one.host)
    world.boards.cut.add(one.host)
    world.schedule(lasts or world.draw_span(1.0, 12.0), _end_partition, world, one)
    if world.rng.random() < 0.5:
        world.schedule(world.draw_span(0.5, 10.0), world.replace, one)


def _end_partition(world: World, one: Instance) -> None:
    world.watch.add_strike(one.rank, "partition ends")
    world.story.add(world.now, one.incarnation, "network is back")
    world.network.reconnect_machine(one.host)
    world.boards.cut.discard(one.host)


def cut_from_peers(world: World) -> None:
    """A machine reaches the store, and no other machine."""
    one = _pick_instance(world)
    world.watch.add_strike(one.rank, "cut off from peers")
    world.story.add(world.now, one.incarnation, "cut off from peers")
    world.network.cut_machine(one.host)
    world.schedule(world.draw_span(1.0, 12.0), _reconnect_peers, world, one)


def _reconnect_peers(world: World, one: Instance) -> None:
    world.watch.add_strike(one.rank, "reaches its peers again")
    world.story.add(world.now, one.incarnation, "reaches its peers again")
    world.network.reconnect_machine(one.host)


def cut_pair(world: World) -> None:
    """Two machines do not reach each other, for good."""
    one, other = _pick_instance(world), _pick_instance(world)
    world.watch.add_strike(one.rank, "cut off from a peer")
    world.watch.add_strike(other.rank, "cut off from a peer")
    world.story.add(world.now, one.incarnation, f"cannot reach {other.incarnation}")
    world.network.sever_pair(one.host, other.host)


def start_squatter(world: World) -> None:
    """A newcomer for a held rank, at the holder's very address, while the holder lives on its own machine."""
    one = _pick_instance(world)
    if one.alive:
        world.story.add(world.now, one.incarnation, "somebody else is started for its rank, at its address")
        world.replace(one, one.ip)


def usurp_rank(world: World) -> None:
    """A newcomer for a held rank waits, and then its holder is cut off from the store, or from everything."""
    one = _pick_instance(world)
    if not one.alive:
        return
    start_elsewhere(world, one)
    whole = world.rng.random() < 0.6
    if whole:
        world.watch.add_strike(one.rank, "partition")
        world.schedule(world.draw_span(0.5, 1.5), world.network.cut_machine, one.host)
    elif not world.plan.probes:
        world.watch.add_strike(one.rank, "silent")
    world.schedule(world.draw_span(0.5, 1.5), world.boards.cut.add, one.host)
    world.schedule(world.draw_span(6.0, 14.0), _end_partition, world, one)


def black_out(world: World) -> None:
    """The store is gone for everybody, and one machine is cut off from all others; then all is back."""
    one = _pick_instance(world)
    world.watch.add_strike(one.rank, "partition")
    world.story.add(world.now, one.incarnation, "partitioned, and the store is down")
    world.network.cut_machine(one.host)
    world.boards.down = True
    length = world.timing.takeover + world.draw_span(0.5, 3.0)
    world.schedule(length, _end_partition, world, one)
    world.schedule(length, setattr, world.boards, "down", False)


def start_elsewhere(world: World, one: Instance | None = None) -> None:
    """A newcomer for a held rank, at an address of its own, while the holder lives."""
    one = one or _pick_instance(world)
    if not one.alive:
        return
    world.story.add(world.now, one.incarnation, "somebody else is started for its rank")
    world.replace(one)
