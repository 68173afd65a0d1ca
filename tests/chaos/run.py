"""Rounds of random faults against a Unit of 4 with a real store."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.faults import KINDS, must_restart
from tests.chaos.history import End, Fault, History, Round, Sampler
from tests.network.containers import agent_command
from tests.network.lab import Lab, workload

SIZE = 4
SETTLE = 1.5  # seconds to look on after a round
GOODBYE = 20.0  # seconds in which an agent that was asked to stop has ended
NEVER = -1  # the exit code of an agent that did not end
TRAITS = ("only=1", "ignores-term", "only=2", "daemon", "only=3", "lingers=0.3")
ENV = {
    "UNIT_MAX_RESTARTS": 1_000_000, "UNIT_BACKOFF_SECONDS": "0", "UNIT_RESTART_GRACE_SECONDS": 0.5,
    "UNIT_STOP_GRACE_SECONDS": 3, "UNIT_DRAIN_SECONDS": 1, "UNIT_DEREGISTER_SECONDS": 0.2,
}  # fmt: skip
SABOTAGED = Path(__file__).parent / "sabotaged.py"
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do; the same plan draws the same faults.

    Attributes:
        kinds: faults to choose from.
        pairs: share of the rounds that strike two faults.
        sabotage: name of what is broken in the agents on purpose; empty for nothing.
        back: seconds in which a Unit without faults has to be ready.

    """

    rounds: int
    seed: int
    kinds: Sequence[str] = tuple(KINDS)
    pairs: float = 0.4
    sabotage: str = ""
    back: float = 60.0


def run(plan: Plan, folder: Path, tell: Tell) -> History:
    """Carry a plan out; ends early when the Unit does not come back."""
    history = History(SIZE, time.monotonic())
    lab = _Platform(SIZE, folder, history)
    sampler = None
    try:
        lab.open(plan.sabotage)
        sampler = Sampler(lab, history)
        chance = random.Random(plan.seed)
        for number in range(plan.rounds):
            faults = _draw(plan, chance, number)
            history.rounds.append(_round(lab, number, faults, chance, plan.back))
            tell(_told(history.rounds[-1], history.began))
            if history.rounds[-1].stuck:
                break
        _finish(lab, history)
    finally:
        if sampler is not None:
            sampler.close()
        with contextlib.suppress(AssertionError):
            history.lives = lab.watcher.lives()
        history.notes = lab.events("begin")
        lab.close()
    return history


class _Platform(Lab):
    """A lab that rebuilds what ends, as a container platform does, and notes with which code it ended.

    Attributes:
        down: hosts whose containers are down on purpose.

    """

    def __init__(self, size: int, folder: Path, history: History) -> None:
        super().__init__(size, folder)
        self.down: set[int] = set()
        self._history = history

    def open(self, sabotage: str) -> None:
        """Start everything; ready afterwards."""
        words = agent_command(*workload(*TRAITS))
        if sabotage:
            words[1:3] = [str(SABOTAGED), sabotage]
        for host in range(self.size):
            self.launch(host, words, **ENV)
        self.wait_ready()

    def revive(self) -> None:
        """Rebuild whatever ended by itself."""
        for host, agent in tuple(self.agents.items()):
            if not agent.running and host not in self.down:
                self._history.ends.append(End(time.monotonic(), host, agent.code(), asked=False))
                self.rebuild(host)


def _draw(plan: Plan, chance: random.Random, number: int) -> list[tuple[str, int]]:
    """The faults of a round: every kind once alone before anything else, then at random."""
    kinds = list(plan.kinds)
    first = kinds[number] if number < len(kinds) and not plan.pairs else chance.choice(kinds)
    ranks = chance.sample(range(SIZE), 2)
    faults = [(first, ranks[0])]
    if chance.random() < plan.pairs:
        others = [kind for kind in kinds if not (KINDS[kind].of_store and KINDS[first].of_store)]
        faults.append((chance.choice(others), ranks[1]))
    return faults


def _round(
    lab: _Platform, number: int, drawn: list[tuple[str, int]], chance: random.Random, back: float
) -> Round:
    before = _generation(lab)
    one = Round(number, [], before)
    due: list[tuple[float, Fault]] = []
    for kind, rank in drawn:
        fault = Fault(kind, rank, time.monotonic())
        lab.down |= set() if KINDS[kind].of_store else {rank}
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
        lab.down.discard(fault.rank)
    _await_ready(lab, one, back)
    return one


def _await_ready(lab: _Platform, one: Round, back: float) -> None:
    above = one.before - (not must_restart([fault.kind for fault in one.faults]))
    try:
        lab.until(lambda: _all_ready(lab, above), f"ready above generation {above}", back)
        one.ready = time.monotonic()
        time.sleep(SETTLE)
        lab.until(lambda: _all_ready(lab, above), "still ready", back)
    except AssertionError as error:
        one.stuck = str(error).partition("\n")[0]
        (lab.folder / "stuck.txt").write_text(str(error))
    one.after = _generation(lab)


def _all_ready(lab: _Platform, above: int) -> bool:
    lab.revive()
    return all(lab.is_ready(host, above) for host in range(lab.size))


def _generation(lab: Lab) -> int:
    return max((life.generation for life in lab.watcher.lives()), default=0)


def _finish(lab: Lab, history: History) -> None:
    """All are asked to stop: each ends with 0, and nothing is left."""
    for agent in lab.agents.values():
        agent.signal(signal.SIGTERM)
    for rank, agent in lab.agents.items():
        try:
            code = agent.code(GOODBYE)
        except AssertionError:
            code = NEVER
        history.ends.append(End(time.monotonic(), rank, code, asked=True))


def _told(one: Round, began: float) -> str:
    faults = " and ".join(f"{fault.kind} at rank {fault.rank}" for fault in one.faults)
    end = (
        "STUCK"
        if one.stuck
        else f"generation {one.before} -> {one.after}, ready after {one.ready - one.over:.2f} s"
    )
    return f"{one.begun - began:7.1f} s  round {one.number}: {faults}: {end}"
