"""What happened, seen from outside: faults, processes, notes of the workloads, answers of the agents."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

from tests.network.containers import Container
from tests.network.lab import Lab
from tests.network.lives import Life
from unitagent.core.timing import Timing


@dataclass(slots=True)
class Fault:
    """A fault at a rank. Times are monotonic seconds.

    Attributes:
        mended: None where there is nothing to mend.
        how: what was drawn for it, for people.

    """

    kind: str
    rank: int
    struck: float
    mended: float | None = None
    how: str = ""


@dataclass(slots=True)
class Round:
    """One or two faults at once, and the generations that ran before and after them.

    Attributes:
        ready: when all ranks said so again.
        ended: when it had been looked on for long enough.
        stuck: why the Unit was not ready again in time; empty when it was.

    """

    number: int
    faults: list[Fault]
    before: int
    after: int = 0
    ready: float = 0.0
    ended: float = 0.0
    stuck: str = ""

    @property
    def begun(self) -> float:
        return min(fault.struck for fault in self.faults)

    @property
    def over(self) -> float:
        """When the last fault was struck or mended."""
        return max(fault.mended or fault.struck for fault in self.faults)


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer of one agent."""

    at: float
    host: int
    incarnation: str
    generation: int
    state: str
    phase: str
    ready: bool


@dataclass(frozen=True, slots=True)
class Flip:
    """``/readyz`` of a rank began to answer something else.

    Attributes:
        code: 0 while nobody answers in time.
        why: what the answer says.

    """

    at: float
    host: int
    code: int
    why: str


@dataclass(frozen=True, slots=True)
class End:
    """A container that ended without being killed.

    Attributes:
        due: the code that it should have ended with; None when it should not have ended.

    """

    at: float
    rank: int
    code: int
    due: int | None


@dataclass(slots=True)
class History:
    """All of one Unit."""

    size: int
    began: float
    timing: Timing
    rounds: list[Round] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    flips: list[Flip] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    lives: list[Life] = field(default_factory=list)
    kept: list[Life] = field(default_factory=list)
    notes: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Chronicle:
    """The Units of a run, one after the other."""

    units: list[History] = field(default_factory=list)

    @property
    def size(self) -> int:
        return max(unit.size for unit in self.units)

    @property
    def began(self) -> float:
        return min(unit.began for unit in self.units)

    @property
    def rounds(self) -> list[Round]:
        return [one for unit in self.units for one in unit.rounds]

    @property
    def samples(self) -> list[Sample]:
        return [one for unit in self.units for one in unit.samples]


class Sampler:
    """Asks every agent for its status, and still more often whether the Unit is ready."""

    def __init__(self, lab: Lab, history: History, pause: float = 0.2, often: float = 0.1) -> None:
        self._lab = lab
        self._history = history
        self._pause = pause
        self._often = often
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=ask, args=[host], daemon=True)
            for host in range(lab.size)
            for ask in (self._ask, self._ask_ready)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, host: int) -> None:
        while not self._over.wait(self._pause):
            agent = self._lab.agents.get(host)
            sample = _sample(agent, host) if agent is not None else None
            if sample is not None:
                self._history.samples.append(sample)

    def _ask_ready(self, host: int) -> None:
        last = -1
        while not self._over.wait(self._often):
            agent = self._lab.agents.get(host)
            if agent is None:
                continue
            code, body = agent.get("/readyz", timeout=1.0)
            if code != last:
                self._history.flips.append(Flip(time.monotonic(), host, code, body.strip()))
                last = code


def _sample(agent: Container, host: int) -> Sample | None:
    at = time.monotonic()
    status = agent.status(timeout=0.5)
    if not status:
        return None
    me = status["instances"][host]
    return Sample(
        at, host, me["incarnation"], me["generation"], me["state"], status["phase"], bool(status["ready"])
    )
