"""One seed from its first event to the verdict: what was violated, and whether the Unit came back."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.simulation import faults
from tests.simulation.plan import Plan, Profile
from tests.simulation.world import World
from unitagent.core.config import Mode
from unitagent.core.exits import ExitCode

_OURS = str(Path(__file__).parents[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a seed.

    Attributes:
        healed: seconds after the last fault until all was well.
        story: one line for each thing that happened, when it was to be told.

    """

    plan: Plan
    violations: tuple[str, ...]
    healed: float
    story: tuple[str, ...]


def simulate(seed: int, told: bool = False, **changes: Any) -> Outcome:
    """Live through the world of this seed, with these changes to its plan."""
    world = World(seed, told, **changes)
    world.story.add(0.0, "plan", str(world.plan))
    faults.schedule_faults(world)
    try:
        healed = _run_world(world)
    except Exception as error:  # noqa: BLE001 - an agent that raises breaks the seed, not the run
        healed = -1.0
        where = [one for one in traceback.extract_tb(error.__traceback__) if one.filename.startswith(_OURS)][
            -1
        ]
        world.watch.report_violation("decide", f"{error!r:.500} in {where.name}, line {where.lineno}")
    return Outcome(
        plan=world.plan,
        violations=tuple(world.watch.violations),
        healed=healed,
        story=tuple(world.story.lines),
    )


def _run_world(world: World) -> float:
    while world.now < world.plan.healed and not _is_completed(world) and not world.watch.violations:
        _run_step(world)
    world.heal()
    well: float | None = None
    deadline = world.now + world.bounds.patience
    begun = world.now
    while world.now < max(deadline, world.watch.pauses.last_end + world.bounds.patience):
        if world.watch.violations:
            break
        _run_step(world)
        if not _is_well(world):
            well = None
        elif well is None:
            well = world.now
        elif world.now - well >= world.bounds.calm:
            break
    if well is None and not world.watch.violations:
        world.watch.report_violation("liveness", _as_it_stands(world))
    if world.plan.profile is Profile.BURST:
        world.watch.endings.check_burst()
    world.watch.endings.check_spent_budget()
    return (well or world.now) - begun


def _run_step(world: World) -> None:
    world.run(world.now + world.bounds.look)
    world.boards.remember()
    world.watch.look()


def _is_well(world: World) -> bool:
    """The Unit serves, or is gone for good because it was to go."""
    if any(one.slot in world.retired for one in world.living):
        return False
    if world.retired:
        return True
    if any(one.state.shutdown.completed for one in world.lives) or any(
        one.code == ExitCode.BUDGET for one in world.lives
    ):
        return True
    members = world.list_members()
    generations = {
        one.workload.gang.generation for one in members if one.workload is not None and one.workload.main
    }
    return len(generations) == 1 and len(members) == world.plan.size and all(one.ready for one in members)


def _is_completed(world: World) -> bool:
    return (
        world.plan.mode is Mode.JOB
        and len(world.slots) == world.plan.size
        and all(one.code == 0 for one in world.slots.values())
    )


def _as_it_stands(world: World) -> str:
    told = [
        f"{one.incarnation}:{one.state.me.generation}/{one.state.generation}:{one.state.me.state}"
        f"{'' if one.alive else f' (dead, {one.code})'}"
        for one in dict.fromkeys((*world.slots.values(), *world.living))
    ]
    return f"not well {world.bounds.patience:.0f} s after the last fault: {'; '.join(told)}"
