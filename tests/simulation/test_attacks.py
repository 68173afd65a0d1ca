"""Worlds in which the core was attacked. Those that break a guarantee to this day are marked so."""

from __future__ import annotations

from typing import Any

import pytest

from tests.simulation.instance import Instance
from tests.simulation.plan import Profile
from tests.simulation.run import simulate
from tests.simulation.world import World
from unitagent.core.config import Mode, Restart

SEED = 5
QUIET: dict[str, Any] = {
    "profile": Profile.ANYTHING, "size": 2, "guard": True, "mode": Mode.SERVICE, "restart": Restart.INPLACE,
    "probes": True, "health": False, "lease": 5.0, "heartbeat": 1.0, "pace": 1.0, "tick": 0.25, "late": 0.0,
    "stubborn": 0.0, "slow": 0.0, "immortal": 0.0, "contagion": 0.0, "names": 0.0, "auto": False,
    "twins": False, "strict": False, "barrier_timeout": 0.0, "max_restarts": 100,
}  # fmt: skip


def quiet_world(seed: int = SEED, **changes: Any) -> World:
    """A Unit of two that runs, in a world without trouble."""
    world = World(seed, **(QUIET | changes))
    for slot in range(world.plan.size):
        world.create_container(slot)
    pass_time(world, 5.0)
    assert all(one.ready for one in world.living)
    return world


def pass_time(world: World, seconds: float) -> None:
    """Let time pass under the eyes of the validators."""
    until = world.now + seconds
    while world.now < until:
        world.run(world.now + world.bounds.look)
        world.watch.look()


def cut_off(world: World, one: Instance) -> None:
    """A machine reaches neither the store nor any other machine; nothing else is excused."""
    world.watch.add_strike(one.rank, "partition")
    world.boards.cut.add(one.host)
    world.network.cut_machine(one.host)


@pytest.mark.parametrize(
    "rejects",
    [
        False,
        True,
    ],
)
def test_a_machine_that_a_firewall_cuts_off_has_stopped_when_its_replacement_starts(rejects: bool) -> None:
    world = quiet_world()
    one = world.slots[1]
    world.replace(one)
    pass_time(world, 1.0)
    cut_off(world, one)
    if rejects:
        world.network.reject_machine(one.host)
    pass_time(world, 30.0)
    assert world.watch.violations == []
    assert world.slots[1].ready


def test_a_lone_rank_0_that_is_cut_off_has_stopped_when_its_replacement_starts() -> None:
    world = quiet_world(guard=False)
    leader, follower = world.slots[0], world.slots[1]
    world.retired.add(1)
    world.watch.add_strike(1, "signal")
    follower.signal()
    pass_time(world, 8.0)
    cut_off(world, leader)
    world.replace(leader)
    world.retired.clear()
    world.create_container(1)
    pass_time(world, 30.0)
    assert world.watch.violations == []
    assert world.slots[0].ready


EMBEDDED: dict[str, Any] = {"embedded": True, "auto": False, "twins": False, "spares": 0}


def test_every_guarantee_holds_with_a_store_in_rank_0s_container() -> None:
    outcomes = [simulate(seed, **EMBEDDED) for seed in range(40)]
    bad = [f"seed {out.plan.seed}: {out.violations[0]}" for out in outcomes if out.violations]
    assert not bad


def test_a_generation_that_was_seen_to_start_starts_once_though_its_store_is_gone() -> None:
    changes: dict[str, Any] = {
        "profile": Profile.ANYTHING, "size": 3, "guard": False, "mode": Mode.SERVICE,
        "restart": Restart.INPLACE, "immortal": 0.0, "barrier_timeout": 0.0, "max_restarts": 100,
    }  # fmt: skip
    assert simulate(167, **EMBEDDED, **changes).violations == ()


@pytest.mark.xfail(reason="6: the store is rebuilt with all others, and counts from 1 again")
def test_a_rebuilt_unit_with_a_store_in_rank_0s_container_goes_on_counting() -> None:
    assert simulate(156, **EMBEDDED).violations == ()


@pytest.mark.parametrize("after", [0.1, 0.11, 0.12, 0.125, 0.13, 0.135, 0.14, 0.15])
def test_a_store_that_is_set_back_while_a_barrier_opens_costs_no_other_restart(after: float) -> None:
    """Some have started, and the others see neither that nor themselves in the store any more."""
    world = quiet_world(size=4)
    early = world.boards.main.copy()
    for rebuilds in range(2):  # the store knows rank 1 as it was two rebuilds ago
        old = world.slots[1]
        cut_off(world, old)
        pass_time(world, 8.0)
        world.replace(old)
        new = world.slots[1]
        while new.joined > world.now:
            world.run(world.now + 0.002)
        before = max(one.state.generation for one in world.living)
        world.run(world.now + after)
        world.boards.cut.clear()
        world.network.heal()
        if rebuilds:
            world.boards.fall_back(early, world.now)
        pass_time(world, 20.0)
    assert world.watch.violations == []
    assert {one.state.generation for one in world.living if one.ready} == {before}
    assert {one.rank for one in world.living if one.ready} == set(range(4))


@pytest.mark.parametrize(
    ("seed", "size", "probes", "crashes", "leaves", "cut", "shown", "away"),
    [
        *((SEED, 4, True, 2, 0, cut, 0.2, 12.0) for cut in (0.32, 0.33, 0.36, 0.37)),
        (434757, 2, True, 0, 1, 0.229, 0.2, 21.0),
        (435295, 8, False, 5, 0, 0.0185, 0.5, 21.0),
    ],
)
def test_a_store_that_shows_an_old_barrier_starts_nobody_who_was_replaced(
    *, seed: int, size: int, probes: bool, crashes: int, leaves: int, cut: float, shown: float, away: float
) -> None:
    """An instance is cut off before, while or after it enters, is replaced, and comes back to the store of
    that moment, which shows that all have confirmed a gang with it.
    """
    world = quiet_world(seed, size=size, probes=probes)
    one, gone = world.slots[crashes], world.slots[leaves]
    world.crash(one, one.workload)
    world.run(world.now + cut)
    cut_off(world, gone)
    world.run(world.now + shown)
    then = world.boards.main.copy()
    world.replace(gone)
    pass_time(world, away)
    assert world.slots[leaves].ready
    world.boards.fall_back(then, world.now)
    world.boards.cut.clear()
    world.network.heal()
    pass_time(world, 20.0)
    assert world.watch.violations == []
    assert {one.rank for one in world.living if one.ready} == set(range(size))
