"""Agents that are attacked, and the programs that attack them; all of them end with the test."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.acceptance.local import UNITAGENT, clean
from tests.ports import free_port
from tests.processes import kill_family
from tests.servers import Server, running

UNIT = f"attacked-{os.getpid()}"  # an agent ends what a dead one of its Unit left: not that of another run
SECRET = "5f1d0c9a7b3e4682" * 2
ATTACKERS = Path(__file__).parent / "attackers"


@contextlib.contextmanager
def attacking(name: str, *words: str, prefix: Sequence[str] = ()) -> Iterator[None]:
    """Run an attacker beside the block, once it has begun."""
    program = [sys.executable, "-I", str(ATTACKERS / f"{name}.py"), *words]
    with subprocess.Popen(
        [*prefix, "setpriv", "--pdeathsig", "KILL", "--", *program], stdout=subprocess.PIPE, text=True
    ) as popen:
        try:
            assert popen.stdout is not None
            assert popen.stdout.readline() == "ready\n"
            yield
        finally:
            popen.kill()


class Victim:
    """One agent of a Unit on loopback; its workload writes down where it would meet the others."""

    def __init__(
        self,
        folder: Path,
        unit: str,
        rank: int,
        size: int,
        url: str,
        *,
        program: Sequence[str] = UNITAGENT,
        **variables: str,
    ) -> None:
        self.folder = folder / f"{rank}-{free_port()}"
        self.folder.mkdir()
        self.unit, self.address = unit, f"127.0.0.{rank + 1}:{free_port()}"
        words = ["--size", str(size), "--rank", str(rank), "--rank-ip", f"127.0.0.{rank + 1}"]
        words += ["--comm-ifname", "lo", "--unit", unit, "--guard", "--log-level", "info"]
        script = 'echo met {MASTER_ADDRESS} >met; eval "$DAEMON"; exec sleep 1000'
        given = {"UNIT_REDIS_URL": url, "UNIT_HTTP_ADDRESS": self.address, **variables}
        self.env = clean(**{name: text for name, text in given.items() if text})
        with (self.folder / "output").open("wb") as file:
            self.popen = subprocess.Popen(
                [*program, "run", *words, "--", "sh", "-c", script],
                env=self.env, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            )  # fmt: skip

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text()

    @property
    def met(self) -> str:
        """Where its workload was told that rank 0 is; empty before it has started."""
        met = self.folder / "met"
        return met.read_text() if met.exists() else ""

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run another command, with the same environment."""
        return subprocess.run(
            [*UNITAGENT, *words], env=self.env | variables, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=60, check=False, cwd=self.folder,
        )  # fmt: skip

    def close(self) -> None:
        """Kill it with all that it started."""
        kill_family(self.popen)


MakeVictim = Callable[..., Victim]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path) as server:
        yield server


@pytest.fixture
def victim(tmp_path: Path, server: Server) -> Iterator[MakeVictim]:
    made: list[Victim] = []

    def make(rank: int, size: int = 2, **variables: str) -> Victim:
        made.append(Victim(tmp_path, UNIT, rank, size, server.url, **variables))
        return made[-1]

    yield make
    for one in made:
        one.close()
