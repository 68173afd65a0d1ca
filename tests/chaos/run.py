"""Rounds of random faults against Units of 4, one after the other, each with a real store and a timing."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.chaos.faults import KINDS, must_restart, sick
from tests.chaos.history import Chronicle, Fault, History, Round, Sampler
from tests.chaos.limits import no_time
from tests.chaos.plan import SIZE, Drawn, Plan, schedule, timings
from tests.chaos.rebuilding import Platform
from tests.network.containers import agent_command
from tests.network.lab import Lab, keeper, workload

TRAITS = ("only=1", "ignores-term", "only=2", "daemon", "only=3", "lingers=0.3", "only=0", "serves=8000")
ENV = {
    "UNIT_MAX_RESTARTS": 1_000_000, "UNIT_BACKOFF_SECONDS": "0", "UNIT_RESTART_GRACE_SECONDS": 0.5,
    "UNIT_STOP_GRACE_SECONDS": 3, "UNIT_DRAIN_SECONDS": 1, "UNIT_DEREGISTER_SECONDS": 0.2,
    "UNIT_HEALTH_URL": "http://127.0.0.1:8000/", "UNIT_HEALTH_INTERVAL_SECONDS": 0.5,
}  # fmt: skip
SABOTAGED = Path(__file__).parent / "sabotaged.py"
Tell = Callable[[str], None]
Numbered = tuple[int, list[Drawn]]


def run(plan: Plan, folder: Path, tell: Tell) -> Chronicle:
    """Carry a plan out."""
    chronicle = Chronicle()
    rounds = list(enumerate(schedule(plan)))
    parts = [rounds[first : first + plan.each] for first in range(0, len(rounds), plan.each)]
    for number, (part, timing) in enumerate(zip(parts, timings(plan), strict=False)):
        place = folder / f"unit{number}"
        place.mkdir()
        history = History(SIZE, time.monotonic(), timing)
        chronicle.units.append(history)
        tell(f"Unit {number}: a lease of {timing.lease:g} s, a heartbeat of {timing.heartbeat:g} s")
        _live(history, plan, part, place, tell)
    return chronicle


def _live(history: History, plan: Plan, rounds: Sequence[Numbered], folder: Path, tell: Tell) -> None:
    """The life of one Unit; it ends early when it does not come back."""
    chance = random.Random(f"{plan.seed}, round {rounds[0][0]}")
    lab = Platform(SIZE, folder, history, chance)
    sampler = None
    try:
        _open(lab, plan.sabotage, kept=any(KINDS[kind].kept for _, drawn in rounds for kind, _ in drawn))
        sampler = Sampler(lab, history)
        for number, faults in rounds:
            one = Round(number, [], _generation(lab))
            history.rounds.append(one)
            _carry_out(lab, one, faults, plan.back, chance)
            tell(_told(one, history.began))
            if one.stuck:
                break
        _finish(lab)
    finally:
        if sampler is not None:
            sampler.close()
        with contextlib.suppress(AssertionError):
            history.lives, history.kept = lab.watcher.lives(), lab.watcher.kept()
        history.notes = lab.events("begin")
        lab.close()


def _open(lab: Platform, sabotage: str, *, kept: bool) -> None:
    """Start everything, with keepers where these rounds need them; ready afterwards."""
    words = agent_command(*workload(*TRAITS, f"sick={sick(lab.folder)}"))
    if sabotage:
        words[1:3] = ["-I", str(SABOTAGED), sabotage]  # isolated, else it would begin again, whole
    lease, heartbeat = lab.timing.lease, lab.timing.heartbeat
    for host in range(lab.size):
        env = {**ENV, **(keeper(lab.folder) if kept else {})}
        lab.launch(host, words, UNIT_LEASE_SECONDS=lease, UNIT_HEARTBEAT_SECONDS=heartbeat, **env)
    lab.wait_ready()
    lab.store.copy()
    lab.store.begin_to_copy()


def _carry_out(lab: Platform, one: Round, drawn: list[Drawn], back: float, chance: random.Random) -> None:
    """Strike and mend, and wait until the Unit is back."""
    try:
        _strike_and_mend(lab, one, drawn, chance)
        _await_ready(lab, one, back)
    except AssertionError as error:
        one.stuck = str(error).partition("\n")[0]
        (lab.folder / "stuck.txt").write_text(str(error))
    one.after = _generation(lab)


def _strike_and_mend(lab: Platform, one: Round, drawn: list[Drawn], chance: random.Random) -> None:
    due: list[tuple[float, Fault]] = []
    for kind, rank in drawn:
        KINDS[kind].prepare(lab, rank)
        fault = Fault(kind, rank, time.monotonic())
        lab.down |= _down(kind, rank)
        one.faults.append(fault)
        with contextlib.suppress(ValueError):  # the workload to strike is down already, by the other fault
            KINDS[kind].strike(lab, rank)
        due.append((time.monotonic() + chance.uniform(*KINDS[kind].hold(lab.timing)), fault))
        time.sleep(chance.choice((0.0, 0.0, 0.05, 0.5)))
    for when, fault in sorted(due, key=lambda entry: (KINDS[entry[1].kind].mended_last, entry[0])):
        time.sleep(max(0.0, when - time.monotonic()))
        KINDS[fault.kind].mend(lab, fault.rank)
        if KINDS[fault.kind].hold is not no_time:
            fault.mended = time.monotonic()
        if "set back" in fault.kind or "old copy" in fault.kind:
            fault.how = lab.store.told
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
    time.sleep(max(KINDS[fault.kind].look_on(lab.timing) for fault in one.faults))
    lab.until(lambda: _all_ready(lab, above), "still ready", back)
    one.ended = time.monotonic()


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
    faults = " and ".join(
        f"{fault.kind} at rank {fault.rank}" + (f" ({fault.how})" if fault.how else "")
        for fault in one.faults
    )
    end = (
        "STUCK"
        if one.stuck
        else f"generation {one.before} -> {one.after}, ready after {one.ready - one.over:.2f} s"
    )
    return f"{one.begun - began:7.1f} s  round {one.number}: {faults}: {end}"
