"""A lab that rebuilds what ends, as a container platform does, on the same machine or on a spare one."""

from __future__ import annotations

import time
from pathlib import Path

from tests.chaos.history import End, History
from tests.network.containers import Container
from tests.network.lab import Lab

FENCED = 76
GOODBYE = 20.0  # seconds in which an agent that has to end has ended
NEVER = -1  # the exit code of an agent that did not end


class Platform(Lab):
    """Agents are numbered by rank, wherever they are; every end is noted with the code that it should have.

    Attributes:
        down: ranks whose containers are down on purpose.
        place: on which host each rank is; the last one is the spare.

    """

    def __init__(self, size: int, folder: Path, history: History) -> None:
        super().__init__(size, folder, spare=1)
        self.down: set[int] = set()
        self.place = list(range(size + 1))
        self._history = history
        self._other: Container | None = None

    def rebuild(self, host: int) -> Container:
        """Start the container of a rank where the rank is at home now."""
        self.agents[host] = self._put(host, self.place[host])
        return self.agents[host]

    def replace(self, rank: int) -> None:
        """Start it on the spare machine, beside the old one, which is left as it is; it has joined then."""
        self._other = self.agents[rank]
        self.place[rank], self.place[-1] = self.place[-1], self.place[rank]
        self.rebuild(rank)
        self.until(lambda: self._has_joined(rank), f"the replacement of rank {rank} joins")

    def fence(self, rank: int) -> None:
        """Note how the old one ended when it came back."""
        assert self._other is not None
        self.note_end(rank, self._other, due=FENCED)

    def visit(self, rank: int) -> None:
        """Start a second container of a rank on the spare machine."""
        self._other = self._put(rank, self.place[-1])

    def leave(self, rank: int) -> None:
        """The second container has waited all the time, and goes."""
        assert self._other is not None
        if self._other.running:
            self._other.kill()
            self._other.code()
        else:
            self.note_end(rank, self._other, due=None)

    def note_end(self, rank: int, container: Container, due: int | None) -> None:
        """Wait for its end, which is soon."""
        try:
            code = container.code(GOODBYE)
        except AssertionError:
            code = NEVER
        self._history.ends.append(End(time.monotonic(), rank, code, due))

    def revive(self) -> None:
        """Rebuild whatever ended by itself."""
        for rank, agent in tuple(self.agents.items()):
            if not agent.running and rank not in self.down:
                self.note_end(rank, agent, due=None)
                self.rebuild(rank)

    def _put(self, rank: int, host: int) -> Container:
        words, env = self._given[rank]
        name = f"host{host}"
        container = Container(name, self.net.hosts[host], self.folder, words, {**env, "LAB_HOST": name})
        self.all.append(container)
        return container

    def _has_joined(self, rank: int) -> bool:
        status = self.agents[rank].status()
        return bool(status) and status["instances"][rank]["state"] not in {"waiting", "lost"}
