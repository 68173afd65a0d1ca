"""A Unit whose ranks have stub keepers and stub engines: real agents on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from msgspec import Struct

from tests.acceptance.local import MODULE, clean
from tests.ports import free_port
from tests.waiting import DEADLINE, until

PROGRAMS = Path(__file__).parent / "programs"


class Entry(Struct, frozen=True):
    """What a stub has noted."""

    at: float
    kind: str
    rank: int
    generation: int
    pid: int
    what: str


class KeptUnit:
    """Agents of one Unit on this machine, each with a stub keeper and a stub engine."""

    def __init__(self, folder: Path, size: int, **variables: str) -> None:
        self.folder, self.size, self.port = folder, size, free_port()
        keeper = f"{sys.executable} {PROGRAMS / 'keeper.py'} {folder}"
        ready = {"UNIT_KEEPER": keeper, "UNIT_KEEPER_READY": "log:^weights are in memory$"}
        self.env = clean(UNIT_BACKOFF_SECONDS="0", UNIT_ID=f"kept-{os.getpid()}", **{**ready, **variables})
        self.agents: dict[int, subprocess.Popen[bytes]] = {}
        self._seen: dict[int, psutil.Process] = {}
        for rank in range(size):
            self.start(rank)

    def start(self, rank: int) -> None:
        words = ["--size", str(self.size), "--rank", str(rank), "--guard", "--comm-ifname", "lo"]
        words += ["--rank-ip", f"127.0.0.{rank + 1}", "--http-address", f"127.0.0.{rank + 1}:{self.port}"]
        words += ["--master-address", "127.0.0.1", "--store-port", str(self.port + 1)]
        engine = [sys.executable, str(PROGRAMS / "kept_engine.py"), str(self.folder)]
        with (self.folder / f"output.{rank}").open("ab") as file:
            self.agents[rank] = subprocess.Popen(
                [sys.executable, *MODULE, "run", *words, "--", *engine],
                env=self.env, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            )  # fmt: skip

    def status(self, rank: int = 0) -> dict[str, Any]:
        self.remember()
        try:
            url = f"http://127.0.0.{rank + 1}:{self.port}/status"
            with urllib.request.urlopen(url, timeout=5) as answer:
                found: dict[str, Any] = json.load(answer)
        except OSError:
            return {}
        return found

    def ready(self, above: int = 0) -> dict[str, Any]:
        def look() -> dict[str, Any]:
            seen = self.status()
            return seen if seen.get("ready") and seen["generation"] > above else {}

        return until(look, f"ready above generation {above}: {self.read_output()}")

    def read_output(self) -> str:
        return "".join(path.read_text() for path in sorted(self.folder.glob("output.*")))[-3000:]

    def journal(self, kind: str, what: str = "") -> list[Entry]:
        path = self.folder / "journal"
        lines = [line.split(" ", 5) for line in path.read_text().splitlines()] if path.exists() else []
        entries = [Entry(float(a), k, int(r), int(g), int(p), w) for a, k, r, g, p, w in lines]
        return [one for one in entries if one.kind == kind and one.what.startswith(what)]

    def keeper(self, rank: int) -> int:
        """The pid of the keeper that a rank started last."""
        return [one.pid for one in self.journal("keeper", "starts") if one.rank == rank][-1]

    def find_keeper(self, rank: int, state: str) -> dict[str, Any]:
        """The status of a rank whose keeper is in this state; else empty."""
        seen = self.status(rank)
        return seen if seen and seen["keeper"]["state"] == state else {}

    def remember(self) -> None:
        for agent in self.agents.values():
            if agent.poll() is None:
                for process in psutil.Process(agent.pid).children(recursive=True):
                    self._seen.setdefault(process.pid, process)

    def survivors(self) -> list[psutil.Process]:
        return [one for one in self._seen.values() if is_alive(one)]

    def close(self) -> None:
        self.remember()
        for agent in self.agents.values():
            if agent.poll() is None:
                agent.kill()
                agent.wait(DEADLINE)
        for process in self.survivors():
            process.kill()


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def is_pid_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and is_alive(psutil.Process(pid))


Start = Callable[..., KeptUnit]


@pytest.fixture(name="start")
def make_start(tmp_path: Path) -> Iterator[Start]:
    """Start Units; whatever happens, nothing of them stays."""
    units: list[KeptUnit] = []

    def begin(size: int = 2, **variables: str) -> KeptUnit:
        units.append(KeptUnit(tmp_path, size, **variables))
        return units[-1]

    yield begin
    for unit in units:
        unit.close()
