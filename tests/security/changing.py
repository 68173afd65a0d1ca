"""A Unit of three whose secret is changed while it runs, each rank with a file of its own, and sharp eyes."""

from __future__ import annotations

import json
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.acceptance.local import UNITAGENT
from tests.ports import free_port, served_port
from tests.security.victims import UNIT, Victim
from tests.waiting import until

OLD, NEW = "5f1d0c9a7b3e4682" * 2, "90b2c7d41ea86f35" * 2
SIZE = 3
_PAUSE = 0.03  # seconds between two questions of the same rank


class Changing:
    """The Unit.

    Args:
        folder: of its files.
        url: of its store, empty for the embedded one.

    Attributes:
        program: that its agents are.

    """

    def __init__(self, folder: Path, url: str = "") -> None:
        self.folder, self.url, self.port, self.traffic = folder, url, free_port(), served_port()
        self.program: Sequence[str] = UNITAGENT
        self.agents: dict[int, Victim] = {}
        self.all: list[Victim] = []

    def file(self, rank: int) -> Path:
        return self.folder / f"secret-{rank}"

    def write(self, rank: int, *secrets: str) -> None:
        """As Kubernetes does it: another file in the place of the former one."""
        new = self.folder / f"new-{rank}"
        new.write_text("".join(f"{secret}\n" for secret in secrets))
        new.replace(self.file(rank))

    def start(self, rank: int) -> Victim:
        where = {} if self.url else {"MASTER_ADDRESS": "127.0.0.1", "UNIT_STORE_PORT": str(self.port)}
        given = {
            "UNIT_LEASE_SECONDS": "3",
            "UNIT_HEARTBEAT_SECONDS": "0.4",
        }
        given |= {"UNIT_SECRET_FILE": str(self.file(rank)), "UNIT_TRAFFIC_PORT": str(self.traffic)}
        agent = Victim(self.folder, UNIT, rank, SIZE, self.url, program=self.program, **given, **where)
        self.agents[rank] = agent
        self.all.append(agent)
        return agent

    def form(self, *secrets: str) -> None:
        for rank in range(SIZE):
            self.write(rank, *secrets)
            self.start(rank)
        self.ready()

    def get(self, rank: int, path: str) -> tuple[int, str]:
        """The code and the body of an answer; 0 for none."""
        try:
            with urllib.request.urlopen(f"http://{self.agents[rank].address}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def status(self, rank: int) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get(rank, "/status")[1] or "{}")
        return found

    def ready(self, above: int = 0) -> None:
        def serves() -> bool:
            codes = [self.get(rank, "/readyz")[0] for rank in range(SIZE)]
            return codes == [200] * SIZE and self.status(0)["generation"] > above

        until(serves, "the Unit serves")

    def agreed(self, accepted: int) -> None:
        """Wait until all ranks say that all accept the same secrets, so many."""
        done = {"accepted": accepted, "differing": [], "strangers": []}
        until(
            lambda: all(self.status(rank)["secrets"] == done for rank in range(SIZE)),
            f"all ranks accept the same {accepted}",
        )

    def tells(self, rank: int, text: str) -> None:
        """Wait until a rank's log has a text."""
        until(lambda: text in self.agents[rank].output, f"rank {rank} says: {text}")

    def command(self, *words: str, secret: str, rank: int = 1) -> subprocess.CompletedProcess[str]:
        """A command beside an agent, by whoever knows only this secret."""
        where = {"UNIT_SECRET": secret, "UNIT_SECRET_FILE": "", "UNIT_ID": UNIT}
        return self.agents[rank].run(*words, **where)

    def story(self) -> str:
        return "\n".join(f"--- rank {rank}\n{agent.output}" for rank, agent in self.agents.items())

    def close(self) -> None:
        for agent in reversed(self.all):
            agent.close()


class Watched:
    """Asks every rank again and again, for the time of a block, whether the Unit is ready and what runs.

    Attributes:
        odd: answers other than 200.
        seen: generation and pid of each workload that was ever told.

    """

    def __init__(self, unit: Changing) -> None:
        self._unit = unit
        self._closing = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(rank,), daemon=True) for rank in range(SIZE)
        ]
        self.asked = [0] * SIZE
        self.odd: list[tuple[int, int, str]] = []
        self.seen: set[tuple[int, int, int]] = set()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        for thread in self._threads:
            thread.join(60)

    def undisturbed(self) -> None:
        """Hold that nobody has noticed anything so far."""
        assert not self.odd, f"{self.odd[:5]}\n{self._unit.story()}"
        assert len(self.seen) == SIZE, f"{self.seen}\n{self._unit.story()}"

    def hold(self, seconds: float) -> None:
        """Look on for a while, long enough for a lease to end."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.undisturbed()
            time.sleep(0.1)

    def _ask(self, rank: int) -> None:
        while not self._closing.wait(_PAUSE):
            code, body = self._unit.get(rank, "/readyz")
            if code != 200:
                self.odd.append((rank, code, body))
            seen = self._unit.status(rank)
            mine = next((one for one in seen.get("instances", ()) if one["rank"] == rank), None)
            if (
                mine is not None and mine["pid"] is not None
            ):  # an answer is kept for a moment, as at the start
                self.seen.add((rank, seen["generation"], mine["pid"]))
            self.asked[rank] += 1
