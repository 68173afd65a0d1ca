"""Rounds of random faults against a Unit of 4 with a real store."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos.faults import KINDS, must_restart, sick
from tests.chaos.history import Fault, History, Round, Sampler
from tests.chaos.plan import SIZE, Drawn, Plan, schedule
from tests.chaos.rebuilding import Platform
from tests.network.containers import agent_command
from tests.network.lab import Lab, workload

SETTLE = 1.5  # seconds to look on after a round
TRAITS = ("only=1", "ignores-term", "only=2", "daemon", "only=3", "lingers=0.3", "only=0", "serves=8000")
ENV = {
    "UNIT_MAX_RESTARTS": 1_000_000, "UNIT_BACKOFF_SECONDS": "0", "UNIT_RESTART_GRACE_SECONDS": 0.5,
    "UNIT_STOP_GRACE_SECONDS": 3, "UNIT_DRAIN_SECONDS": 1, "UNIT_DEREGISTER_SECONDS": 0.2,
    "UNIT_HEALTH_URL": "http://127.0.0.1:8000/", "UNIT_HEALTH_INTERVAL_SECONDS": 0.5,
}  # fmt: skip
SABOTAGED = Path(__file__).parent / "sabotaged.py"
Tell = Callable[[str], None]


def run(plan: Plan, folder: Path, tell: Tell) -> History:
    """Carry a plan out; ends early when the Unit does not come back."""
    history = History(SIZE, time.monotonic())
    lab = Platform(SIZE, folder, history)
    sampler = None
    try:
        _open(lab, plan.sabotage)
        sampler = Sampler(lab, history)
        chance = random.Random(plan.seed)
        for number, faults in enumerate(schedule(plan)):
            history.rounds.append(_round(lab, number, faults, chance, plan.back))
            tell(_told(history.rounds[-1], history.began))
            if history.rounds[-1].stuck:
                break
        _finish(lab)
    finally:
        if sampler is not None:
            sampler.close()
        with contextlib.suppress(AssertionError):
            history.lives = lab.watcher.lives()
        history.notes = lab.events("begin")
        lab.close()
    return history


def _open(lab: Platform, sabotage: str) -> None:
    """Start everything; ready afterwards."""
    words = agent_command(*workload(*TRAITS, f"sick={sick(lab.folder)}"))
    if sabotage:
        words[1:3] = [str(SABOTAGED), sabotage]
    for host in range(lab.size):
        lab.launch(host, words, **ENV)
    lab.wait_ready()


def _round(lab: Platform, number: int, drawn: list[Drawn], chance: random.Random, back: float) -> Round:
    one = Round(number, [], _generation(lab))
    try:
        _strike_and_mend(lab, one, drawn, chance)
        _await_ready(lab, one, back)
    except AssertionError as error:
        one.stuck = str(error).partition("\n")[0]
        (lab.folder / "stuck.txt").write_text(str(error))
    one.after = _generation(lab)
    return one


def _strike_and_mend(lab: Platform, one: Round, drawn: list[Drawn], chance: random.Random) -> None:
    due: list[tuple[float, Fault]] = []
    for kind, rank in drawn:
        fault = Fault(kind, rank, time.monotonic())
        lab.down |= _down(kind, rank)
        one.faults.append(fault)
        with contextlib.suppress(ValueError):  # the workload to strike is down already, by the other fault
            KINDS[kind].strike(lab, rank)
        due.append((time.monotonic() + chance.uniform(*KINDS[kind].hold), fault))
        time.sleep(chance.choice((0.0, 0.0, 0.05, 0.5)))
    for when, fault in sorted(due, key=lambda entry: entry[0]):
        time.sleep(max(0.0, when - time.monotonic()))
        KINDS[fault.kind].mend(lab, fault.rank)
        if KINDS[fault.kind].hold != (0.0, 0.0):
            fault.mended = time.monotonic()
        lab.down -= _down(fault.kind, fault.rank)


def _down(kind: str, rank: int) -> set[int]:
    """The ranks whose containers the fault itself takes care of."""
    if KINDS[kind].where == "everywhere":
        return set(range(SIZE))
    return set() if KINDS[kind].of_store else {rank}


def _await_ready(lab: Platform, one: Round, back: float) -> None:
    above = one.before - (not must_restart([fault.kind for fault in one.faults]))
    lab.until(lambda: _all_ready(lab, above), f"ready above generation {above}", back)
    one.ready = time.monotonic()
    time.sleep(SETTLE)
    lab.until(lambda: _all_ready(lab, above), "still ready", back)


def _all_ready(lab: Platform, above: int) -> bool:
    lab.revive()
    return all(lab.is_ready(host, above) for host in range(lab.size))


def _generation(lab: Lab) -> int:
    return max((life.generation for life in lab.watcher.lives()), default=0)


def _finish(lab: Platform) -> None:
    """All are asked to stop: each ends with 0, and nothing is left."""
    for agent in lab.agents.values():
        agent.signal(signal.SIGTERM)
    for rank, agent in lab.agents.items():
        lab.note_end(rank, agent, due=0)


def _told(one: Round, began: float) -> str:
    faults = " and ".join(f"{fault.kind} at rank {fault.rank}" for fault in one.faults)
    end = (
        "STUCK"
        if one.stuck
        else f"generation {one.before} -> {one.after}, ready after {one.ready - one.over:.2f} s"
    )
    return f"{one.begun - began:7.1f} s  round {one.number}: {faults}: {end}"
