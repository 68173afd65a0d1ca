"""What goes wrong in a simulated world, drawn from its seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.simulation.plan import LARGE, Profile
from tests.simulation.trouble import instances, network, settings, store
from tests.simulation.world import World
from unitagent.core.model import OrderKind

Fault = Callable[[World], None]
Weights = Mapping[Fault, float]

_WHOLE_STORE: Weights = {
    store.outage: 2, store.wipe: 2, store.failover: 2, store.set_back: 3, store.forget: 2, store.clock: 1,
}  # fmt: skip
_STORE: Weights = {
    **_WHOLE_STORE,
    store.cut: 2, store.staggered: 2, store.split: 2, store.lossy: 1, store.slow: 1, store.straggling: 1,
    store.wipe_while_cut: 1, store.set_back_often: 1,
}  # fmt: skip
_ANY: Weights = {
    **{fault: weight / 2 for fault, weight in _STORE.items()},
    instances.crash: 2, instances.several: 1, instances.kill: 2, instances.kill_twice: 1, instances.lose: 1,
    instances.aftershock: 2, instances.hang: 1, instances.unwell: 0.5, instances.stall: 1,
    instances.freeze: 1, instances.restart: 1, instances.restart_in_restart: 0.5,
    instances.drain_order: 0.4, instances.signal: 1, instances.nap: 1, instances.order_and_kill: 0.6,
    instances.lose_and_set_back: 0.7, instances.usurp_frozen: 1,
    network.partition: 3, network.usurp: 1.5, network.blackout: 0.7,
    network.apart: 1, network.pair: 0.5, network.squatter: 0.5, network.elsewhere: 1,
    settings.misfit: 0.7,
}  # fmt: skip
# What happens to a store that is a server of its own, or a second rank 0 at the first one's address.
_NOT_EMBEDDED = frozenset({
    store.outage, store.failover, store.set_back, store.set_back_often, store.split, store.forget,
    store.wipe_while_cut, instances.lose_and_set_back, network.squatter,
})  # fmt: skip
_SOON = 1.6  # seconds; the earliest trouble, while the Unit forms


def _draw(world: World, weights: Weights) -> Fault:
    if world.plan.embedded:
        weights = {fault: weight for fault, weight in weights.items() if fault not in _NOT_EMBEDDED}
    return world.rng.choices(list(weights), list(weights.values()))[0]


def schedule(world: World) -> None:
    """Start all ranks, and put this world's trouble into its future."""
    slots = range(world.plan.size - 1 if world.plan.twins else world.plan.size)
    for slot in slots:
        world.after(world.rng.choice((0.0, world.rng.uniform(0.0, 1.5))), world.create, slot)
    if world.plan.twins:
        world.after(1.5, settings.twins, world)
    _SCHEDULES[world.plan.profile](world)


def _within(world: World, least: float, share: float = 1.0) -> float:
    """A moment in the time of trouble, not before ``least`` and in this share of it."""
    return world.rng.uniform(least, world.plan.faults_from + share * world.plan.faults_span)


def _anything(world: World) -> None:
    early = _SOON if world.rng.random() < 0.25 else world.plan.faults_from
    for _ in range(world.rng.randint(1, 3 if world.plan.size >= LARGE else 9)):
        world.after(_within(world, early, 0.95), _draw(world, _ANY), world)


def _burst(world: World) -> None:
    at = world.plan.faults_from + world.rng.uniform(0.0, 2.0)
    ranks = world.rng.sample(range(world.plan.size), world.rng.randint(1, world.plan.size))
    for rank in ranks:
        world.after(at + world.rng.uniform(0.0, 0.05), instances.break_rank, world, rank)


def _store(world: World) -> None:
    for _ in range(world.rng.randint(1, 5)):
        weights = _STORE if world.plan.probes else _WHOLE_STORE
        world.after(_within(world, world.plan.faults_from, 0.6), _draw(world, weights), world)


def _follower(world: World) -> None:
    for _ in range(world.rng.randint(1, 3)):
        at = _within(world, _SOON, 0.75)
        if world.plan.size > 1:
            world.after(at, instances.break_rank, world, world.rng.randrange(1, world.plan.size))


def _drain(world: World) -> None:
    at = world.plan.faults_from + world.span(0.0, 2.0)
    how = world.rng.random()
    if how < 0.45:
        world.after(at, instances.signal, world, world.rng.randrange(world.plan.size))
    elif how < 0.9:
        _retire_all(world, at)
    else:
        world.after(at, instances.order, world, OrderKind.DRAIN)
    if world.rng.random() < 0.2:
        world.watch.pure = False
        world.after(at + world.rng.uniform(0.0, 4.0), _draw(world, _ANY), world)


def _retire_all(world: World, at: float) -> None:
    """The whole Unit is deleted: all containers get the signal, and none comes back."""
    for slot in range(world.plan.size):
        world.after(at, world.retired.add, slot)
        world.after(at + world.rng.choice((0.0, 0.02, 0.3)), instances.signal, world, slot)


def _job(world: World) -> None:
    for _ in range(world.rng.randint(0, 3)):
        world.after(_within(world, _SOON, 0.95), _draw(world, _ANY), world)


_SCHEDULES = {
    Profile.ANYTHING: _anything,
    Profile.BURST: _burst,
    Profile.STORE: _store,
    Profile.FOLLOWER: _follower,
    Profile.DRAIN: _drain,
    Profile.JOB: _job,
}
