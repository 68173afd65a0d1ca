"""What happened, seen from outside: faults, processes, notes of the workloads, answers of the agents."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

from tests.network.containers import Container
from tests.network.lab import Lab
from tests.network.lives import Life


@dataclass(slots=True)
class Fault:
    """A fault at a rank; ``mended`` is None where there is nothing to mend. Times are monotonic seconds."""

    kind: str
    rank: int
    struck: float
    mended: float | None = None


@dataclass(slots=True)
class Round:
    """One or two faults at once, and the generations that ran before and after them.

    Attributes:
        stuck: why the Unit was not ready again in time; empty when it was.

    """

    number: int
    faults: list[Fault]
    before: int
    after: int = 0
    ready: float = 0.0
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
    """All of it."""

    size: int
    began: float
    rounds: list[Round] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    lives: list[Life] = field(default_factory=list)
    notes: list[dict[str, Any]] = field(default_factory=list)


class Sampler:
    """Asks every agent for its status several times a second."""

    def __init__(self, lab: Lab, history: History, pause: float = 0.2) -> None:
        self._lab = lab
        self._history = history
        self._pause = pause
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=[host], daemon=True) for host in range(lab.size)
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


def _sample(agent: Container, host: int) -> Sample | None:
    at = time.monotonic()
    status = agent.status(timeout=0.5)
    if not status:
        return None
    me = status["instances"][host]
    return Sample(
        at, host, me["incarnation"], me["generation"], me["state"], status["phase"], bool(status["ready"])
    )
