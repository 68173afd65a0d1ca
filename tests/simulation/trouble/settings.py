"""Faults of people: one instance is told something else than the others."""

from __future__ import annotations

from typing import Any

from tests.simulation.world import World


def rebuild_misfit(world: World) -> None:
    """A container is rebuilt with a setting that differs from all others'."""
    one = world.slots[world.rng.choice(sorted(world.slots))]
    odd = _draw_difference(world)
    world.odd[one.slot] = odd
    world.story.add(world.now, one.incarnation, f"is rebuilt with {odd}")
    world.watch.disputed = True
    world.kill(one)
    world.schedule(world.draw_span(2.0, 8.0), _mend_settings, world, one.slot)


def _draw_difference(world: World) -> dict[str, Any]:
    kinds: tuple[dict[str, Any], ...] = (
        {"secret": "another"},
        {"revision": "another"},
        {"fingerprint": "command=another"},
        {"size": world.plan.size + 1},
    )
    return world.rng.choice(kinds)


def _mend_settings(world: World, slot: int) -> None:
    """It is told what the others are told; who has ended meanwhile is started again."""
    if world.odd.pop(slot, None) is None:
        return
    world.story.add(world.now, f"slot {slot}", "is told what the others are told")
    if world.slots[slot].odd and world.slots[slot].alive:
        world.kill(world.slots[slot])
    for one in list(world.slots.values()):
        if not one.alive and one.code == 77:
            world.create_container(one.slot, one)


def start_twin(world: World) -> None:
    """The last instance starts at the first one's address, on another machine."""
    first = world.slots[0]
    world.story.add(world.now, first.incarnation, "has a twin at its address")
    world.create_container(world.plan.size - 1, ip=first.ip)
