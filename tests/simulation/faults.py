"""What goes wrong in a simulated world, drawn from its seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.simulation.moments import Moments
from tests.simulation.plan import LARGE, Profile
from tests.simulation.trouble import instances, network, settings, store
from tests.simulation.trouble.keepers import schedule_keeper_faults
from tests.simulation.trouble.pauses import schedule_pauses
from tests.simulation.world import World
from unitagent.core.model import OrderKind

Fault = Callable[[World], None]
Weights = Mapping[Fault, float]

_WHOLE_STORE: Weights = {
    store.take_store_down: 2, store.wipe_store: 2, store.fail_over: 2, store.set_back: 3,
    store.lose_keys: 2, store.set_clock: 1,
}  # fmt: skip
_STORE: Weights = {
    **_WHOLE_STORE, store.cut_from_store: 2, store.cut_staggered: 2, store.split_store: 2,
    store.lose_messages: 1, store.slow_down: 1, store.delay_messages: 1, store.wipe_while_cut: 1,
    store.set_back_often: 1,
}  # fmt: skip
_ANY: Weights = {
    **{fault: weight / 2 for fault, weight in _STORE.items()}, instances.crash_workload: 2,
    instances.break_several: 1, instances.kill_container: 2, instances.kill_twice: 1,
    instances.lose_machine: 1, instances.break_again: 2, instances.hang_leader: 1,
    instances.disturb_leader: 0.5, instances.stall_workload: 1, instances.freeze_agent: 1,
    instances.order_restart: 1, instances.restart_in_restart: 0.5, instances.order_drain: 0.4,
    instances.signal_agent: 1, instances.pause_everybody: 1, instances.order_and_kill: 0.6,
    instances.lose_and_set_back: 0.7, instances.usurp_frozen: 1, network.partition_machine: 3,
    network.usurp_rank: 1.5, network.black_out: 0.7, network.cut_from_peers: 1, network.cut_pair: 0.5,
    network.start_squatter: 0.5, network.start_elsewhere: 1, settings.rebuild_misfit: 0.7,
}  # fmt: skip
_RESTARTS: Weights = {
    instances.crash_workload: 5, instances.kill_container: 2, instances.lose_machine: 1,
    instances.order_restart: 2, instances.order_drain: 0.3, instances.signal_agent: 0.5,
    network.start_elsewhere: 1, network.partition_machine: 1, store.cut_from_store: 0.5,
}  # fmt: skip
# What happens to a store that is a server of its own, or a second rank 0 at the first one's address.
_NOT_EMBEDDED = frozenset({
    store.take_store_down, store.fail_over, store.set_back, store.set_back_often, store.split_store,
    store.lose_keys, store.wipe_while_cut, instances.lose_and_set_back, network.start_squatter,
})  # fmt: skip
_SOON = 1.6  # seconds; the earliest trouble, while the Unit forms


def _draw_fault(world: World, weights: Weights) -> Fault:
    if world.plan.embedded:
        weights = {fault: weight for fault, weight in weights.items() if fault not in _NOT_EMBEDDED}
    return world.rng.choices(list(weights), list(weights.values()))[0]


def schedule_faults(world: World) -> None:
    """Start all ranks, and put this world's trouble into its future."""
    plan = world.plan
    slots = plan.size - 1 if plan.twins else plan.size + plan.spares
    for slot in range(slots):
        world.schedule(world.rng.choice((0.0, world.rng.uniform(0.0, 1.5))), world.create_container, slot)
    if world.plan.twins:
        world.schedule(1.5, settings.start_twin, world)
    _SCHEDULES[world.plan.profile](world)
    schedule_pauses(world)
    if plan.keeper:
        schedule_keeper_faults(world)


def _draw_moment(world: World, least: float, share: float = 1.0) -> float:
    """A moment in the time of trouble, not before ``least`` and in this share of it."""
    return world.rng.uniform(least, world.plan.faults_from + share * world.plan.faults_span)


def _schedule_anything(world: World) -> None:
    early = _SOON if world.rng.random() < 0.25 else world.plan.faults_from
    for _ in range(world.rng.randint(1, 3 if world.plan.size >= LARGE else 9)):
        world.schedule(_draw_moment(world, early, 0.95), _draw_fault(world, _ANY), world)


def _schedule_burst(world: World) -> None:
    at = world.plan.faults_from + world.rng.uniform(0.0, 2.0)
    ranks = world.rng.sample(range(world.plan.size), world.rng.randint(1, world.plan.size))
    for rank in ranks:
        world.schedule(at + world.rng.uniform(0.0, 0.05), instances.break_rank, world, rank)


def _schedule_store_faults(world: World) -> None:
    for _ in range(world.rng.randint(1, 5)):
        weights = _STORE if world.plan.probes else _WHOLE_STORE
        world.schedule(_draw_moment(world, world.plan.faults_from, 0.6), _draw_fault(world, weights), world)


def _schedule_follower_faults(world: World) -> None:
    for _ in range(world.rng.randint(1, 3)):
        at = _draw_moment(world, _SOON, 0.75)
        if world.plan.size > 1:
            world.schedule(at, instances.break_rank, world, world.rng.randrange(1, world.plan.size))


def _schedule_drain(world: World) -> None:
    at = world.plan.faults_from + world.draw_span(0.0, 2.0)
    how = world.rng.random()
    if how < 0.45:
        world.schedule(at, instances.signal_agent, world, world.rng.randrange(world.plan.size))
    elif how < 0.9:
        _retire_all(world, at)
    else:
        world.schedule(at, instances.give_order, world, OrderKind.DRAIN)
    if world.rng.random() < 0.2:
        world.watch.pure = False
        world.schedule(at + world.rng.uniform(0.0, 4.0), _draw_fault(world, _ANY), world)


def _retire_all(world: World, at: float) -> None:
    """The whole Unit is deleted: all containers get the signal, and none comes back."""
    for slot in range(world.plan.size + world.plan.spares):
        world.schedule(at, world.retired.add, slot)
        world.schedule(at + world.rng.choice((0.0, 0.02, 0.3)), instances.signal_agent, world, slot)


def _schedule_job_faults(world: World) -> None:
    for _ in range(world.rng.randint(0, 3)):
        world.schedule(_draw_moment(world, _SOON, 0.95), _draw_fault(world, _ANY), world)


def _schedule_moments(world: World) -> None:
    """What brings critical moments about; the rest follows from them."""
    world.observers.append(Moments(world).note_decision)
    for _ in range(world.rng.randint(2, 4)):
        world.schedule(_draw_moment(world, _SOON, 0.8), _draw_fault(world, _RESTARTS), world)


_SCHEDULES = {
    Profile.ANYTHING: _schedule_anything,
    Profile.BURST: _schedule_burst,
    Profile.STORE: _schedule_store_faults,
    Profile.FOLLOWER: _schedule_follower_faults,
    Profile.DRAIN: _schedule_drain,
    Profile.JOB: _schedule_job_faults,
    Profile.MOMENTS: _schedule_moments,
}
