"""A Unit of ``unitagent local`` under test: what a user types, seen from outside."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from tests.ports import free_port
from tests.processes import kill_family
from tests.waiting import DEADLINE, until
from unitagent.system import procfs

UNIT = f"tested-{os.getpid()}"  # an agent ends what a dead one of its Unit left: not that of another run
MODULE = ["-m", "unitagent"]
UNITAGENT = [sys.executable, *MODULE]
# Writes its environment, whole or not at all, and stays.
WORKLOAD = [
    "sh",
    "-c",
    'env >"$0/new.$RANK_ID"; mv "$0/new.$RANK_ID" "$0/$UNIT_GENERATION.$RANK_ID"; exec sleep 1000',
]


def clean(**variables: str) -> dict[str, str]:
    """This process's environment without anything that an agent reads, and these variables."""
    ours = ("UNIT_", "RANK_", "COMM_", "MASTER_")
    return {name: text for name, text in os.environ.items() if not name.startswith(ours)} | variables


def unitagent(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself."""
    return subprocess.run(
        [*UNITAGENT, *words],
        env=clean(**variables), stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=DEADLINE, check=False,
    )  # fmt: skip


def watchdog(agent: int) -> int:
    """Return the pid of the watchdog of this agent."""
    children = [one.pid for one in procfs.read_process_table().values() if one.parent == agent]
    return next(pid for pid in children if "unitagent-watchdog" in command_line(pid))


def command_line(pid: int) -> str:
    """The words of a process, each with a null byte behind it; nothing of one that has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


class LocalUnit:
    """One ``unitagent local``."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        size: int = 2,
        workload: Sequence[str] | None = None,
        python: str = sys.executable,
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.output = folder / "output"
        words = [
            *options,
            "--size",
            str(size),
            "--unit",
            UNIT,
            "--http-address",
            f"127.0.0.1:{self.port}",
        ]
        with self.output.open("wb") as file:
            self.popen = subprocess.Popen(
                [python, *MODULE, "local", *words, "--", *(workload or [*WORKLOAD, str(folder)])],
                env=clean(), stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            )  # fmt: skip
        self._seen: dict[int, psutil.Process] = {}

    def address(self, rank: int) -> str:
        return f"127.0.0.{rank + 1}:{self.port}"

    def status(self, rank: int = 0) -> dict[str, Any]:
        """What ``status --json`` prints at a rank; empty while there is no answer."""
        self._remember()
        done = unitagent("status", "--json", "--unit", UNIT, "--http-address", self.address(rank))
        seen: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
        return seen

    def ask(self, rank: int = 0) -> dict[str, Any]:
        """The same from the agent itself, at a tenth of the cost; empty while there is no answer."""
        try:
            with urllib.request.urlopen(f"http://{self.address(rank)}/status", timeout=5) as answer:
                seen: dict[str, Any] = json.load(answer)
        except (OSError, http.client.HTTPException):
            return {}
        return seen

    def ready(self, generation: int = 1) -> dict[str, Any]:
        """Wait until it serves in this generation; rank 0's status then."""

        def look() -> dict[str, Any]:
            assert self.popen.poll() is None, self.output.read_text()
            seen = self.ask()
            return seen if seen.get("ready") and seen["generation"] >= generation else {}

        seen = until(look, f"ready in generation {generation}")
        self._remember()
        return seen

    def probe(self, kind: str, rank: int) -> subprocess.CompletedProcess[str]:
        return unitagent("probe", kind, "--address", self.address(rank))

    def environment(self, generation: int, rank: int) -> dict[str, str]:
        """What the workload was given."""
        path = self.folder / f"{generation}.{rank}"
        until(path.exists, f"rank {rank} starts in generation {generation}")
        return dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)

    def interrupt(self) -> int:
        """Ctrl-C; returns the exit code."""
        self._remember()
        self.popen.send_signal(signal.SIGINT)
        return self.popen.wait(DEADLINE)

    def survivors(self) -> list[psutil.Process]:
        return [
            one for one in self._seen.values() if one.is_running() and one.status() != psutil.STATUS_ZOMBIE
        ]

    def close(self) -> None:
        self._remember()
        kill_family(self.popen)
        for process in self.survivors():
            with contextlib.suppress(psutil.NoSuchProcess):  # it may end by itself meanwhile
                process.kill()

    def _remember(self) -> None:
        if self.popen.poll() is None:
            for process in psutil.Process(self.popen.pid).children(recursive=True):
                self._seen.setdefault(process.pid, process)
