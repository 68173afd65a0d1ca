"""A Unit of two instances on loopback addresses of its own, as two processes of ``unitagent run``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.waiting import until

ENGINE = Path(__file__).parent / "programs" / "engine.py"


@dataclass
class Unit:
    """``port`` is rank 0's for traffic, ``probe_port`` that of all its agents."""

    number: int
    folder: Path
    store: str
    port: int
    probe_port: int
    size: int = 2
    agents: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"chat-{self.number}"

    def ip(self, rank: int) -> str:
        return f"127.0.{self.number}.{rank + 1}"

    def start(self, revision: str = "1") -> None:
        self.agents = [self._agent(rank, revision) for rank in range(self.size)]

    def ready(self) -> None:
        until(lambda: self._probe("traffic"), f"{self.name} takes traffic\n{self.said}")

    def ask_to_stop(self) -> None:
        """What a platform does to all containers at once."""
        for agent in self.agents:
            agent.terminate()

    def ended(self) -> list[int]:
        return [agent.wait(60) for agent in self.agents]

    def drain(self) -> None:
        argv = [sys.executable, "-m", "unitagent", "drain", "--unit", self.name]
        subprocess.run(argv, env=self.environ({}), check=True, capture_output=True, timeout=60)

    def kill_workload(self) -> None:
        """SIGKILL rank 0's workload; returns when nothing of it is left."""
        _kill(
            child for child in psutil.Process(self.agents[0].pid).children() if str(ENGINE) in child.cmdline()
        )

    def kill_agent(self, rank: int = 0) -> None:
        """SIGKILL a rank's agent with its workload, as when its machine goes; returns as above."""
        agent = psutil.Process(self.agents[rank].pid)
        _kill([agent, *agent.children(recursive=True)])
        self.agents[rank].wait()

    def replace(self, rank: int = 0) -> None:
        """A new container for a rank."""
        self.agents[rank] = self._agent(rank, "1")

    def stop(self) -> None:
        for agent in self.agents:
            if agent.poll() is None:
                agent.terminate()
        for agent in self.agents:
            try:
                agent.wait(40)
            except subprocess.TimeoutExpired:
                agent.kill()
                agent.wait()

    @property
    def said(self) -> str:
        return "".join(path.read_text() for path in sorted(self.folder.glob(f"{self.name}-*.log")))

    def environ(self, given: Mapping[str, str]) -> dict[str, str]:
        ours = ("UNIT_", "RANK_", "COMM_", "MASTER_")
        clean = {name: text for name, text in os.environ.items() if not name.startswith(ours)}
        return clean | {"UNIT_REDIS_URL": self.store, **given}

    def _probe(self, kind: str) -> bool:
        assert all(agent.poll() is None for agent in self.agents), self.said
        argv = [
            sys.executable,
            "-m",
            "unitagent",
            "probe",
            kind,
            "--address",
            f"{self.ip(0)}:{self.probe_port}",
        ]
        return subprocess.run(argv, capture_output=True, timeout=60, check=False).returncode == 0

    def _agent(self, rank: int, revision: str) -> subprocess.Popen[bytes]:
        ip = self.ip(rank)
        environ = self.environ(
            {
                "UNIT_ID": self.name,
                "UNIT_SERVICE": "chat",
                "UNIT_SIZE": str(self.size),
                "UNIT_REVISION": revision,
                "UNIT_GUARD": "true",
                "RANK_ID": str(rank),
                "RANK_IP": ip,
                "COMM_IFNAME": "lo",
                "UNIT_TRAFFIC_PORT": str(self.port),
                "UNIT_HTTP_ADDRESS": f"{ip}:{self.probe_port}",
                "UNIT_HEALTH_URL": f"http://{self.ip(0)}:{self.port}/",
                "UNIT_HEALTH_INTERVAL_SECONDS": "0.5",
                "UNIT_LOG_FORMAT": "text",
            }
        )
        workload = [sys.executable, str(ENGINE), "{RANK_IP}", str(self.port)]
        with (self.folder / f"{self.name}-{rank}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "unitagent", "run", "--", *workload],
                env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip


def _kill(processes: Iterable[psutil.Process]) -> None:
    killed = list(processes)
    assert killed
    for process in killed:
        process.send_signal(signal.SIGKILL)
    for process in killed:
        until(lambda process=process: _gone(process), "killed", pause=0.001)  # type: ignore[misc]


def _gone(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
