"""A lab that rebuilds what ends, as a container platform does, on the same machine or on a spare one."""

from __future__ import annotations

import random
import time
from pathlib import Path

from tests.chaos.history import End, History
from tests.chaos.remembering import RememberingServer
from tests.chaos.twins import make_twin
from tests.network.containers import Container
from tests.network.lab import Lab
from tests.network.namespaces import Namespace

FENCED = 76
GOODBYE = 20.0  # seconds in which an agent that has to end has ended
NEVER = -1  # the exit code of an agent that did not end


class Platform(Lab):
    """Agents are numbered by rank, wherever they are; every end is noted with the code that it should have.

    Attributes:
        down: ranks whose containers are down on purpose.
        place: on which host each rank is; the last one is the spare.
        store: it remembers.
        timing: of all its agents.

    """

    store: RememberingServer

    def __init__(self, size: int, folder: Path, history: History, chance: random.Random) -> None:
        super().__init__(size, folder, store=False, spare=1)
        self.store = RememberingServer(self.net.store, folder, chance)
        self.store.start()
        self.timing = history.timing
        self._chance = chance
        self._twin: Namespace | None = None
        self.down: set[int] = set()
        self.place = list(range(size + 1))
        self._history = history
        self._other: Container | None = None

    def rebuild(self, host: int) -> Container:
        """Start the container of a rank where the rank is at home now."""
        self.store.rebuilds += 1
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

    def fence_either(self, rank: int) -> None:
        """Either of both ends for the other; the one that stays has the rank."""
        assert self._other is not None
        old, new = self._other, self.agents[rank]
        self.until(lambda: not (old.running and new.running), f"one of two agents of rank {rank} ends")
        if not new.running:
            self.place[rank], self.place[-1] = self.place[-1], self.place[rank]
            self.agents[rank], self._other = old, new
        self.fence(rank)

    def stand_by(self) -> None:
        """Start a spare on the spare machine; it has watched the others for a lease then."""
        words, env = self._given[0]
        env = {**env, "RANK_ID": str(self.size), "UNIT_SPARES": "1", "LAB_HOST": "spare"}
        spare = Container("spare", self.net.hosts[self.place[-1]], self.folder, words, env)
        self.all.append(spare)
        self._other = spare
        self.until(lambda: "are held" in _explain_standby(spare), "the spare stands by")

    def succeed(self, rank: int) -> None:
        """The spare has taken this rank. The machine of the old one comes back, stands by, and goes again."""
        assert self._other is not None
        spare, self.agents[rank] = self._other, self._other
        self.until(lambda: self._has_joined(rank) and not _explain_standby(spare), f"a spare is rank {rank}")
        self.place[rank], self.place[-1] = self.place[-1], self.place[rank]
        self.net.heal(self.place[-1])
        words, env = self._given[rank]
        name = f"host{self.place[-1]}"
        env = {**env, "UNIT_SPARES": "1", "LAB_HOST": name}
        back = Container(name, self.net.hosts[self.place[-1]], self.folder, words, env)
        self.all.append(back)
        self.until(lambda: bool(_explain_standby(back)), "the machine that comes back is a spare")
        self._other = back
        self.leave(rank)

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

    def double(self, rank: int) -> None:
        """Start a second container of a rank at the first one's very address, on a network of its own."""
        self._twin = make_twin(self.net, self.place[rank], self._chance.choice((24, 32)))
        self._other = self._put_in(self._twin, rank, "twin")

    def part(self, rank: int) -> None:
        """The second container has waited all the time, or was told who holds the rank; it goes."""
        assert self._other is not None
        assert self._twin is not None
        if self._other.running:
            self._other.kill()
            self._other.code()
        else:
            self.note_end(rank, self._other, due=FENCED)
        self._twin.close()

    def close(self) -> None:
        self.store.end_copying()
        super().close()

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
        return self._put_in(self.net.hosts[host], rank, f"host{host}")

    def _put_in(self, namespace: Namespace, rank: int, name: str) -> Container:
        words, env = self._given[rank]
        container = Container(name, namespace, self.folder, words, {**env, "LAB_HOST": name})
        self.all.append(container)
        return container

    def _has_joined(self, rank: int) -> bool:
        status = self.agents[rank].status()
        return bool(status) and status["instances"][rank]["state"] not in {"waiting", "lost"}


def _explain_standby(agent: Container) -> str:
    """Why it stands by; empty while it does not."""
    standby = agent.status().get("standby")
    return str(standby["reason"]) if standby else ""
