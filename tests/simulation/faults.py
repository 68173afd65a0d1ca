"""What goes wrong in a simulated world, drawn from its seed."""

from __future__ import annotations

from collections.abc import Callable

from tests.simulation.instance import Instance
from tests.simulation.plan import FAULTS_FROM, FAULTS_SPAN, Profile
from tests.simulation.world import World
from unitagent.core.exits import Exit
from unitagent.core.model import OrderKind

Fault = Callable[[World], None]


def schedule(world: World) -> None:
    """Start all ranks, and put this world's trouble into its future."""
    for rank in range(world.plan.size):
        world.after(world.rng.choice((0.0, world.rng.uniform(0.0, 1.5))), world.create, rank)
    _SCHEDULES[world.plan.profile](world)


def _anything(world: World) -> None:
    early = world.rng.random() < 0.25
    for _ in range(world.rng.randint(1, 9)):
        at = world.rng.uniform(1.6 if early else FAULTS_FROM, FAULTS_FROM + FAULTS_SPAN - 1)
        world.after(at, world.rng.choice(_ANY), world)


def _burst(world: World) -> None:
    at = FAULTS_FROM + world.rng.uniform(0.0, 2.0)
    ranks = world.rng.sample(range(world.plan.size), world.rng.randint(1, world.plan.size))
    for rank in ranks:
        world.after(at + world.rng.uniform(0.0, 0.05), _break_rank, world, rank)


def _store(world: World) -> None:
    for _ in range(world.rng.randint(1, 4)):
        at = FAULTS_FROM + world.rng.uniform(0.0, FAULTS_SPAN - 6)
        kinds = _STORE if world.plan.probes else _WHOLE_STORE
        world.after(at, world.rng.choice(kinds), world)


def _follower(world: World) -> None:
    for _ in range(world.rng.randint(1, 3)):
        at = world.rng.uniform(1.6, FAULTS_FROM + FAULTS_SPAN - 4)
        if world.plan.size > 1:
            world.after(at, _break_rank, world, world.rng.randrange(1, world.plan.size))


def _drain(world: World) -> None:
    at = FAULTS_FROM + world.rng.uniform(0.0, 2.0)
    how = world.rng.random()
    if how < 0.4:
        world.after(at, _signal, world, world.rng.randrange(world.plan.size))
    elif how < 0.8:
        _retire_all(world, at)
    else:
        world.after(at, _order, world, OrderKind.DRAIN)
    if world.rng.random() < 0.2:
        world.watch.pure = False
        world.after(at + world.rng.uniform(0.0, 4.0), world.rng.choice(_ANY), world)


def _retire_all(world: World, at: float) -> None:
    """The whole Unit is deleted: all containers get the signal, and none comes back."""
    for rank in range(world.plan.size):
        world.after(at, world.retired.add, rank)
        world.after(at + world.rng.choice((0.0, 0.02, 0.3)), _signal, world, rank)


def _job(world: World) -> None:
    for _ in range(world.rng.randint(0, 3)):
        at = world.rng.uniform(1.6, FAULTS_FROM + FAULTS_SPAN - 1)
        world.after(at, world.rng.choice(_ANY), world)


_SCHEDULES = {
    Profile.ANYTHING: _anything,
    Profile.BURST: _burst,
    Profile.STORE: _store,
    Profile.FOLLOWER: _follower,
    Profile.DRAIN: _drain,
    Profile.JOB: _job,
}


def _somebody(world: World) -> Instance:
    return world.slots[world.rng.choice(sorted(world.slots))]


# instances


def _break_rank(world: World, rank: int) -> None:
    one = world.slots.get(rank)
    if one is None or not one.alive:
        return
    how = world.rng.randrange(4)
    if how == 0:
        world.kill(one)
    else:
        world.crash(one, one.workload, (Exit(1, None), Exit(None, 9), Exit(0, None))[how - 1])


def _crash(world: World) -> None:
    _break_rank(world, _somebody(world).rank)


def _several(world: World) -> None:
    for rank in world.rng.sample(sorted(world.slots), world.rng.randint(1, len(world.slots))):
        world.after(world.rng.uniform(0.0, 1.0), _break_rank, world, rank)


def _aftershock(world: World) -> None:
    """One fails, and while the others come together again, others do."""
    _crash(world)
    for _ in range(world.rng.randint(1, 3)):
        world.after(
            world.rng.uniform(0.0, 3.0), world.rng.choice((_crash, _kill, _lose, _cut, _freeze)), world
        )


def _kill(world: World) -> None:
    world.kill(_somebody(world))


def _lose(world: World) -> None:
    one = _somebody(world)
    if one.alive:
        world.lose(one)


def _hang(world: World) -> None:
    leader = world.slots.get(0)
    if leader is not None and leader.workload is not None and leader.state.me.state == "healthy":
        world.watch.struck(0, "hang")
        leader.workload.sick = True


def _freeze(world: World) -> None:
    one = _somebody(world)
    if one.alive and not one.paused:
        world.watch.struck(one.rank, "paused")
        world.story.add(world.now, one.incarnation, "agent is frozen")
        one.freeze()
        world.after(world.rng.uniform(0.5, 9.0), one.thaw)


def _restart(world: World) -> None:
    _order(world, OrderKind.RESTART)


def _order(world: World, kind: OrderKind) -> None:
    world.watch.struck(0, "order")
    world.story.add(world.now, "operator", f"asks to {kind}")
    world.boards.order(kind, world.now)
    for one in world.lives:
        if one.alive:
            world.watch.ordered(one)
            world.push(one)


def _signal(world: World, rank: int | None = None) -> None:
    one = _somebody(world) if rank is None else world.slots.get(rank)
    if one is None or not one.alive:
        return
    world.watch.struck(one.rank, "signal")
    world.story.add(world.now, one.incarnation, "SIGTERM")
    one.signal()
    if world.rng.random() < 0.15:
        world.watch.pure = False
        world.after(world.rng.choice((0.3, 1.5)), one.signal)


# the network


def _partition(world: World) -> None:
    """A machine loses all of its network; the platform may start a replacement elsewhere."""
    one = _somebody(world)
    world.watch.struck(one.rank, "partition")
    world.story.add(world.now, one.incarnation, "partitioned")
    world.sever(one.ip)
    world.boards.cut.add(one.ip)
    world.after(world.rng.uniform(1.0, 12.0), _reunite, world, one.ip)
    if world.rng.random() < 0.5:
        world.after(world.rng.uniform(1.0, 10.0), world.replace, one)


def _reunite(world: World, ip: str) -> None:
    world.story.add(world.now, ip, "network is back")
    world.splice(ip)
    world.boards.cut.discard(ip)


def _apart(world: World) -> None:
    one = _somebody(world)
    world.watch.struck(one.rank, "cut off from peers")
    world.story.add(world.now, one.incarnation, "cut off from peers")
    world.sever(one.ip)
    world.after(world.rng.uniform(1.0, 12.0), world.splice, one.ip)


def _pair(world: World) -> None:
    one, other = _somebody(world), _somebody(world)
    world.watch.struck(one.rank, "cut off from a peer")
    world.watch.struck(other.rank, "cut off from a peer")
    world.story.add(world.now, one.incarnation, f"cannot reach {other.incarnation}")
    world.sever_pair(one.ip, other.ip)


# the store


def _outage(world: World) -> None:
    world.story.add(world.now, "store", "is down")
    world.boards.down = True
    if world.rng.random() < 0.4:
        world.after(world.rng.uniform(0.1, 8.0), _wipe, world)
    world.after(world.rng.uniform(0.3, 10.0), _up, world)


def _up(world: World) -> None:
    world.story.add(world.now, "store", "is back")
    world.boards.down = False


def _cut(world: World) -> None:
    one = _somebody(world)
    world.story.add(world.now, one.incarnation, "cannot reach the store")
    _without_probes(world, one)
    world.boards.cut.add(one.ip)
    world.after(world.rng.uniform(0.3, 10.0), world.boards.cut.discard, one.ip)


def _without_probes(world: World, one: Instance) -> None:
    """Where peers cannot be asked, whoever is silent for a lease is lost."""
    if not world.plan.probes:
        world.watch.struck(one.rank, "silent")


def _staggered(world: World) -> None:
    for one in world.slots.values():
        if world.rng.random() < 0.8:
            _without_probes(world, one)
            world.after(world.rng.uniform(0.0, 3.0), world.boards.cut.add, one.ip)
            world.after(world.rng.uniform(3.0, 10.0), world.boards.cut.discard, one.ip)


def _wipe(world: World) -> None:
    world.watch.forgetful = world.now
    world.story.add(world.now, "store", "is wiped")
    world.boards.main.wipe()


def _wipe_while_cut(world: World) -> None:
    """Who cannot reach the store cannot tell it again what it has forgotten."""
    _cut(world)
    world.after(world.rng.uniform(0.0, 1.0), _wipe, world)


def _failover(world: World) -> None:
    world.boards.replicate()
    world.after(world.rng.uniform(0.1, 5.0), _promote, world)


def _promote(world: World) -> None:
    world.watch.forgetful = world.now
    world.story.add(world.now, "store", "fails over and loses writes")
    world.boards.fail_over()


def _split(world: World) -> None:
    world.watch.forgetful = world.now
    stale = {one.ip for one in world.slots.values() if world.rng.random() < 0.5}
    world.story.add(world.now, "store", f"splits; the old primary keeps {sorted(stale)}")
    world.boards.split(stale)
    world.after(world.rng.uniform(0.5, 8.0), _join, world)


def _join(world: World) -> None:
    world.watch.forgetful = world.now
    world.story.add(world.now, "store", "the old primary gives up")
    world.boards.join()


def _lossy(world: World) -> None:
    world.lossy = 0.3
    world.after(world.rng.uniform(1.0, 6.0), setattr, world, "lossy", 0.0)


_STORE: tuple[Fault, ...] = (_outage, _cut, _staggered, _wipe, _failover, _split, _lossy, _wipe_while_cut)
_WHOLE_STORE: tuple[Fault, ...] = (_outage, _wipe, _failover, _lossy)
_ANY: tuple[Fault, ...] = (
    *_STORE, _crash, _several, _kill, _lose, _hang, _freeze, _restart, _signal, _partition, _apart, _pair,
    _crash, _kill, _aftershock, _aftershock, _partition,
)  # fmt: skip
