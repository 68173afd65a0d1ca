"""Faults of containers, agents and workloads, and what operators ask for."""

from __future__ import annotations

from tests.simulation.instance import Instance
from tests.simulation.trouble.network import start_elsewhere
from tests.simulation.trouble.store import cut_from_store, set_back
from tests.simulation.world import World
from unitagent.core.exits import Exit
from unitagent.core.model import InstanceState, OrderKind


def pick_instance(world: World) -> Instance:
    """A container that the platform wants."""
    return world.slots[world.rng.choice(sorted(world.slots))]


def break_rank(world: World, rank: int) -> None:
    """Its container is killed, or its workload ends in some way."""
    one = world.holder(rank)
    if one is None:
        return
    how = world.rng.randrange(4)
    if how == 0:
        world.kill(one)
    else:
        world.crash(one, one.workload, (Exit(1, None), Exit(None, 9), Exit(0, None))[how - 1])


def crash_workload(world: World) -> None:
    break_rank(world, pick_instance(world).rank)


def break_several(world: World) -> None:
    for slot in world.rng.sample(sorted(world.slots), world.rng.randint(1, len(world.slots))):
        world.schedule(world.rng.uniform(0.0, 1.0), break_rank, world, world.slots[slot].rank)


def break_again(world: World) -> None:
    """One fails, and while the others come together again, others do."""
    crash_workload(world)
    for _ in range(world.rng.randint(1, 3)):
        world.schedule(
            world.rng.uniform(0.0, 3.0),
            world.rng.choice((crash_workload, kill_container, lose_machine, cut_from_store, freeze_agent)),
            world,
        )


def kill_container(world: World) -> None:
    world.kill(pick_instance(world))


def kill_twice(world: World) -> None:
    """A container is killed, and its successor soon after it began."""
    one = pick_instance(world)
    world.kill(one)
    world.schedule(world.rng.uniform(0.3, 4.0), lambda: world.kill(world.slots[one.slot]))


def lose_machine(world: World) -> None:
    one = pick_instance(world)
    if one.alive:
        world.lose(one)


def lose_and_set_back(world: World) -> None:
    """A machine dies, and the store shows it as it was when it lived."""
    if world.rng.random() < 0.5:
        relieve_and_set_back(world)
        return
    lose_machine(world)
    world.schedule(world.draw_span(0.5, 4.0), set_back, world)


def relieve_and_set_back(world: World) -> None:
    """A newcomer has seen the holder of its rank live. That machine dies, and another with it; while the
    newcomer, which has the rank by now, waits for the other one's successor, the store shows the dead again.
    """
    one, other = pick_instance(world), pick_instance(world)
    start_elsewhere(world, one)
    death = world.timing.heartbeat * world.rng.uniform(1.5, 3.0)
    for dead in {one: None, other: None}:
        world.schedule(death, lose_living, world, dead)
    world.schedule(death + world.timing.takeover + world.draw_span(0.3, 4.0), set_back, world)


def lose_living(world: World, one: Instance) -> None:
    if one.alive:
        world.lose(one)


def hang_leader(world: World) -> None:
    """The leader's health check fails for good."""
    leader = world.holder(0)
    if leader is not None and leader.workload is not None and leader.state.me.state is InstanceState.HEALTHY:
        world.watch.add_strike(0, "hang")
        leader.workload.sick = True


def disturb_leader(world: World) -> None:
    """The leader's readiness check fails for a while, which ends nothing."""
    leader = world.holder(0)
    work = leader.workload if leader is not None else None
    if work is not None and world.plan.health:
        world.story.add(world.now, "rank 0", "is unwell for a while")
        work.unwell = True
        world.schedule(world.draw_span(1.0, 6.0), setattr, work, "unwell", False)


def stall_workload(world: World) -> None:
    """A workload lives and cannot work."""
    one = pick_instance(world)
    if one.alive:
        world.watch.add_strike(one.rank, "stall")
        one.stall_workload()


def freeze_agent(world: World, one: Instance | None = None) -> None:
    one = one or pick_instance(world)
    if one.alive and not one.paused:
        _freeze_for(world, one, world.draw_span(0.5, 9.0))


def _freeze_for(world: World, one: Instance, length: float) -> None:
    """It may be taken for lost where it is silent for a lease, late beats before and after it included."""
    timing = world.timing
    counts = length + 2 * timing.heartbeat + timing.peer_timeout > timing.lease
    if counts:
        world.watch.add_strike(one.rank, "paused")
    world.story.add(world.now, one.incarnation, f"agent is frozen for {length:.1f} s")
    one.freeze()
    world.schedule(length, thaw_agent, world, one, counts)


def usurp_frozen(world: World) -> None:
    """A newcomer for a held rank waits, and then the holder's agent hangs for longer than its lease."""
    one = pick_instance(world)
    if one.alive and not one.paused:
        start_elsewhere(world, one)
        world.schedule(world.rng.uniform(0.5, 1.5), freeze_holder, world, one)


def freeze_holder(world: World, one: Instance) -> None:
    if one.alive and not one.paused:
        _freeze_for(world, one, world.timing.takeover + world.draw_span(0.5, 3.0))


def pause_everybody(world: World) -> None:
    """All machines stand still together, at times for longer than a lease, and go on one after another before
    a watchdog has ended a workload: whoever slept judges nobody, so nothing comes of it.
    """
    everybody = list(world.living)
    if any(one.paused or not world.boards.is_main(one.host) or not one.state.connected for one in everybody):
        return
    until = min((one.last_answer for one in everybody), default=world.now) + world.timing.watchdog - world.now
    length = until * world.rng.uniform(0.5, 0.97)
    for one in everybody:
        world.story.add(world.now, one.incarnation, f"agent is frozen for {length:.1f} s, with all others")
        one.freeze(machine=True)
        world.schedule(world.rng.uniform(length, 0.98 * until), thaw_agent, world, one, False)


def thaw_agent(world: World, one: Instance, counts: bool) -> None:
    if one.alive and one.paused:
        if counts:
            world.watch.add_strike(one.rank, "thawed")
        world.story.add(world.now, one.incarnation, "agent is thawed")
        one.thaw()


def signal_agent(world: World, slot: int | None = None) -> None:
    """SIGTERM to an agent, at times twice."""
    one = pick_instance(world) if slot is None else world.slots.get(slot)
    if one is None or not one.alive or (one.rank < 0 and one.paused):
        return
    world.watch.add_strike(one.rank, "signal")
    world.story.add(world.now, one.incarnation, "SIGTERM")
    one.signal()
    if world.rng.random() < 0.15:
        world.watch.pure = False
        world.schedule(world.rng.choice((0.3, 1.5)), one.signal)


def give_order(world: World, kind: OrderKind) -> None:
    """An operator asks something of the Unit."""
    world.watch.add_strike(0, f"order {kind}")
    world.story.add(world.now, "operator", f"asks to {kind}")
    world.boards.order(kind, world.now)
    world.watch.note_order(list(world.living), kind)
    for one in list(world.living):
        world.push_wakeup(one)


def order_restart(world: World) -> None:
    give_order(world, OrderKind.RESTART)


def restart_in_restart(world: World) -> None:
    """It is asked for while the Unit comes together again."""
    crash_workload(world)
    world.schedule(world.rng.uniform(0.0, 2.0), order_restart, world)


def order_and_kill(world: World) -> None:
    """Whom an order was given to dies before it has obeyed; its successor was not meant."""
    world.kill(pick_instance(world))
    give_order(world, world.rng.choice((OrderKind.DRAIN, OrderKind.RESTART)))


def order_drain(world: World) -> None:
    give_order(world, OrderKind.DRAIN)
