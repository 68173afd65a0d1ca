"""An operator pauses restarts, and perhaps resumes them.

Drawn from a generator of its own, so that the other trouble of a seed is what it was without pauses.
"""

from __future__ import annotations

from random import Random

from tests.simulation.world import World
from unitagent.core.model import OrderKind

_SHARE = 0.25  # of all worlds
_RESUMED = 0.3  # of all pauses
_SOON = 1.6  # seconds


def schedule_pauses(world: World) -> None:
    """Put pauses into the future of some worlds: before, amid and after their other trouble."""
    rng = Random(f"pauses of {world.plan.seed}")
    if rng.random() >= _SHARE:
        return
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.uniform(_SOON, world.plan.healed)
        seconds = rng.uniform(1.0, 12.0) * world.plan.pace
        world.schedule(at, order_pause, world, OrderKind.PAUSE, seconds)
        if rng.random() < _RESUMED:
            world.schedule(at + seconds * rng.random(), order_pause, world, OrderKind.RESUME, 0.0)


def order_pause(world: World, kind: OrderKind, seconds: float) -> None:
    """An operator orders a pause of so many seconds, or the end of one."""
    world.story.add(world.now, "operator", f"asks for a {kind} of {seconds:.1f} s")
    world.watch.pauses.note_order(world.boards.order(kind, world.now, seconds))
    for one in list(world.living):
        world.push_wakeup(one)
