"""A lab: hosts, a store, and the agents of a Unit on them, with everything that is seen of them.

Everything belongs to this process and dies with it, whatever happens: namespaces are held by open files,
processes are on a leash (``PR_SET_PDEATHSIG``), and the containers end with their PID 1.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.network.cabling import STORE_IP, Cabling
from tests.network.containers import ROOT, Container, agent_command
from tests.network.lives import Life, Watcher, overlaps
from tests.network.redis_server import PORT, RedisServer
from tests.waiting import DEADLINE, throughout, until

PROGRAMS = Path(__file__).parent / "programs"
KEEPER = Path(__file__).parents[1] / "acceptance" / "programs" / "keeper.py"
_PASSED_ON = ("PATH", "VIRTUAL_ENV", "LANG")


def workload(*traits: str) -> list[str]:
    """The command line of the test workload."""
    return [sys.executable, "-I", "-S", str(PROGRAMS / "workload.py"), *traits]


def keeper(folder: Path) -> dict[str, str]:
    """The variables of a stub keeper, which meets those of the other ranks."""
    command = f"{sys.executable} -I -S {KEEPER} {folder}"
    return {"UNIT_KEEPER": command, "UNIT_KEEPER_READY": "log:^weights are in memory$"}


class Lab:
    """N hosts, and spare ones; ``agents[k]`` is the last container started on host k."""

    def __init__(self, size: int, folder: Path, *, store: bool = True, spare: int = 0) -> None:
        self.size = size
        self.folder = folder
        self.name = secrets.token_hex(4)
        self.agents: dict[int, Container] = {}
        self.all: list[Container] = []
        self._given: dict[int, tuple[list[str], dict[str, str]]] = {}
        self.watcher = Watcher(self.name)
        self.net = Cabling(size + spare)
        self.store = RedisServer(self.net.store, folder)
        if store:
            self.store.start()

    def start(self, host: int, *traits: str, **env: object) -> Container:
        """Start an agent with rank ``host`` on that host, in place of the one before."""
        return self.launch(host, agent_command(*workload(*traits)), **env)

    def launch(self, host: int, words: list[str], **env: object) -> Container:
        """Start a container with this command; a variable that is None is unset."""
        named = {name: str(value) for name, value in env.items() if value is not None}
        unset = {name for name, value in env.items() if value is None}
        given = {name: value for name, value in {**self._env(host), **named}.items() if name not in unset}
        self._given[host] = (words, given)
        return self.rebuild(host)

    def rebuild(self, host: int) -> Container:
        """Start a container on that host once more as it was started last."""
        container = Container(f"host{host}", self.net.hosts[host], self.folder, *self._given[host])
        self.agents[host] = container
        self.all.append(container)
        return container

    def start_all(self, *traits: str, **env: object) -> None:
        for host in range(self.size):
            self.start(host, *traits, **env)

    def form(self, *traits: str, **env: object) -> dict[str, Any]:
        """Start all hosts and wait until the Unit is ready and its workloads run; rank 0's status then."""
        self.start_all(*traits, **env)
        status = self.wait_ready()
        self.begun(status["generation"])
        return status

    def form_on(self, hosts: Iterable[int], **env: object) -> None:
        """Form a Unit on these hosts only, numbered from 0."""
        hosts = list(hosts)
        for host in hosts:
            self.start(host, UNIT_SIZE=len(hosts), **env)
        self.wait_ready(hosts=hosts)

    def wait_ready(self, above: int = 0, hosts: Iterable[int] | None = None) -> dict[str, Any]:
        """Wait until all hosts say that a generation above this one is ready; rank 0's status then."""
        asked = range(self.size) if hosts is None else hosts
        self.until(
            lambda: all(self.is_ready(host, above) for host in asked), f"ready above generation {above}"
        )
        return self.agents[0].status()

    def is_ready(self, host: int, above: int = 0) -> bool:
        status = self.agents[host].status()
        return bool(status) and status["ready"] and status["generation"] > above

    def until(self, look: Callable[[], object], why: str, deadline: float = DEADLINE) -> None:
        """Wait for a condition; when it does not come true, tell what every agent said last."""
        try:
            until(look, why, deadline)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.story()}") from None

    def hold(self, look: Callable[[], object], why: str, seconds: float) -> None:
        """Watch that a condition stays true; when it does not, tell what every agent said last."""
        try:
            throughout(look, why, seconds, pause=0.3)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.story()}") from None

    def codes(self, hosts: Iterable[int] | None = None) -> list[int]:
        """Wait for the end of the agents on these hosts and return their exit codes."""
        return [self.agents[host].code() for host in (range(self.size) if hosts is None else hosts)]

    def told(self, *words: str) -> str:
        """What a command of ``unitagent`` prints on host 0."""
        env = {"PATH": os.environ["PATH"], "UNIT_REDIS_URL": f"redis://{STORE_IP}:{PORT}/0"}
        done = subprocess.run(
            [*self.net.hosts[0].enter(), sys.executable, "-m", "unitagent", *words],
            env=env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        return done.stdout

    def events(
        self, event: str, *, rank: int | None = None, generation: int | None = None
    ) -> list[dict[str, Any]]:
        """What the workloads noted, oldest first."""
        lines = [line for file in self.folder.glob("*.jsonl") for line in file.read_text().splitlines()]
        found = [json.loads(line) for line in lines]
        wanted = [
            line
            for line in found
            if line["event"] == event
            and rank in (None, line["rank"])
            and generation in (None, line["generation"])
        ]
        return sorted(wanted, key=lambda line: float(line["at"]))

    def begun(self, generation: int) -> list[dict[str, Any]]:
        """Wait until a workload of this generation has begun on every rank; their notes in rank order."""
        self.until(
            lambda: len(self.ranks(generation)) == self.size, f"all ranks began generation {generation}"
        )
        found = self.events("begin", generation=generation)
        return sorted(found, key=lambda line: int(line["rank"]))

    def ranks(self, generation: int) -> set[int]:
        return {line["rank"] for line in self.events("begin", generation=generation)}

    def watched(self, host: int) -> list[Life]:
        """The living processes of workloads on a host."""
        return [life for life in self.watcher.alive() if life.host == f"host{host}"]

    def undisturbed(self) -> bool:
        """Whether every workload process that was ever started still lives."""
        return all(life.died is None for life in self.watcher.lives())

    def serving(self) -> bool:
        """Whether nothing ended, and every agent says that the Unit serves."""
        return self.undisturbed() and all(self.agents[host].ready() for host in range(self.size))

    def with_clock(self, step: float, when: Path | None = None) -> list[str]:
        """The command line of an agent whose wall clock is wrong by so many seconds once that file exists."""
        program = str(PROGRAMS / "clock.py")
        return [sys.executable, program, f"{step},{when or ''}", "run", "--", *workload()]

    def generations(self) -> list[int]:
        """The generations in which some workload began."""
        return sorted({line["generation"] for line in self.events("begin")})

    def main(self, rank: int, generation: int) -> Life:
        """The living main process of a rank's workload."""
        return next(
            life
            for life in self.watcher.alive()
            if life.main and (life.rank, life.generation) == (rank, generation)
        )

    def strike(self, rank: int, number: int = signal.SIGKILL) -> None:
        """Send a signal to the main process of a rank's running workload."""
        life = max(
            (life for life in self.watcher.alive() if life.main and life.rank == rank),
            key=lambda life: life.generation,
        )
        os.kill(life.pid, number)

    def strike_keeper(self, rank: int, number: int = signal.SIGKILL) -> None:
        """Send a signal to the main process of a rank's keeper."""
        mains = [
            life for life in self.watcher.kept() if life.main and life.rank == rank and life.died is None
        ]
        os.kill(max(mains, key=lambda life: life.generation).pid, number)

    def check(self) -> None:
        """Hold that no two generations overlapped anywhere, at any time so far; keepers may outlive those of
        workloads.
        """
        lives, kept = self.watcher.lives(), self.watcher.kept()
        found = overlaps(lives) + overlaps([*lives, *kept], newer=kept)
        assert not found, "\n".join(found)

    def story(self) -> str:
        now = time.monotonic()
        told = (f"--- {box.name}, started {now - box.started:.1f} s ago\n{box.tail()}" for box in self.all)
        return "\n".join(told)

    def close(self) -> None:
        for container in self.all:
            container.close()
        self.store.stop()
        self.net.close()
        self.watcher.close()

    def _env(self, host: int) -> dict[str, str]:
        kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        return kept | {
            "LAB": self.name,
            "LAB_HOST": f"host{host}",
            "LAB_EVENTS": str(self.folder),
            "UNIT_ID": "lab",
            "UNIT_SIZE": str(self.size),
            "RANK_ID": str(host),
            "UNIT_GUARD": "true",
            "UNIT_REDIS_URL": f"redis://{STORE_IP}:{PORT}/0",
            "UNIT_LOG_FORMAT": "text",
            "PYTHONPATH": str(ROOT),
        }
