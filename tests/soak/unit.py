"""A real Unit on this machine, killed again and again, and what its agents use meanwhile.

As root it lives in a PID namespace of its own: an agent reads ``/proc``, and what the machine does besides
must not decide how much memory that takes.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from tests.ports import free_port
from tests.soak.growth import Look
from unitagent.store.keys import REGISTRY, KeyNames
from unitagent.system import procfs

_READY = 60.0  # seconds, generous: a busy machine is no failure
_SETTLE = 1.0  # seconds from ready to the look, so that what a restart needs has been given back
_TELL = 20  # looks
_NAME = "soak"
_ALONE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]
_WORKLOAD = 'echo "rank $RANK_ID works" >&2; (sleep 1000 &); exec sleep 1000'


class Unit:
    """One ``unitagent local`` with its embedded store."""

    def __init__(self, folder: Path, size: int) -> None:
        self.size = size
        self.port = free_port()
        self.output = folder / "output"
        words = ["--unit", _NAME, "--size", str(size), "--guard", "--http-address", f"127.0.0.1:{self.port}"]
        words += ["--max-restarts", "1000000", "--restart-window-seconds", "60", "--backoff-seconds", "0"]
        alone = _ALONE if os.geteuid() == 0 else []
        with self.output.open("wb") as file:
            self._popen = subprocess.Popen(
                [*alone, sys.executable, "-m", "unitagent", "local", *words, "--", "sh", "-c", _WORKLOAD],
                stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            )  # fmt: skip
        self._store = redis.Redis(host="127.0.0.1", port=self.port + 1, socket_timeout=5)

    def ready(self, above: int) -> dict[str, Any]:
        """Wait until a generation above this one serves on every rank; rank 0's status then."""
        deadline = time.monotonic() + _READY
        while time.monotonic() < deadline and self._popen.poll() is None:
            seen = [self._status(rank) for rank in range(self.size)]
            if all(one.get("ready") and one["generation"] > above for one in seen):
                return seen[0]
            time.sleep(0.1)
        raise AssertionError(f"not ready above generation {above}:\n{self.output.read_text()[-4000:]}")

    def look(self, restarts: int) -> Look:
        """Measure all agents."""
        pids = [one.pid for one in self._agents()]
        return Look(
            restarts=restarts,
            memory=max(map(_memory, pids)),
            files=max(_entries(pid, "fd") for pid in pids),
            threads=max(_entries(pid, "task") for pid in pids),
            entries=self._entries(),
        )

    def _entries(self) -> int:
        """What the store keeps of the Unit; its history and its outputs have limits of their own."""
        keys = KeyNames(_NAME)
        changes = self._store.zrangebyscore(keys.changes, "-inf", "+inf")
        return (
            len(self._store.hgetall(keys.membership_table))
            + len(self._store.hgetall(REGISTRY))
            + len(changes)
        )

    def workloads(self) -> list[int]:
        """Pids of the workloads' main processes: each leads its group, directly below its agent."""
        agents = {one.pid for one in self._agents()}
        below = procfs.select_descendants(procfs.read_process_table(), self._popen.pid)
        return [
            one.pid for one in below if one.parent in agents and one.group == one.pid and one.name == "sleep"
        ]

    def _agents(self) -> list[procfs.Process]:
        below = procfs.select_descendants(procfs.read_process_table(), self._popen.pid)
        return [one for one in below if b"/entry.py\0run\0" in Path(f"/proc/{one.pid}/cmdline").read_bytes()]

    def close(self) -> int:
        """Ctrl-C; the exit code."""
        self._store.close()
        if agents := self._agents():
            os.kill(agents[0].parent, signal.SIGINT)
        return self._popen.wait(_READY)

    def _status(self, rank: int) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.{rank + 1}:{self.port}/status", timeout=5) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except (OSError, ValueError):
            return {}


def soak(unit: Unit, seconds: float, every: float, tell: Callable[[Look], None]) -> list[Look]:
    """Kill a workload at this pace for so long; one look before each kill."""
    chance, looks = random.Random(1), []
    end = time.monotonic() + seconds
    seen = unit.ready(0)
    while time.monotonic() < end:
        due = time.monotonic() + every
        time.sleep(_SETTLE)
        looks.append(unit.look(seen["restarts"]))
        if len(looks) % _TELL == 1:
            tell(looks[-1])
        time.sleep(max(0.0, due - time.monotonic()))
        os.kill(chance.choice(unit.workloads()), signal.SIGKILL)
        seen = unit.ready(seen["generation"])
    return looks


def _memory(pid: int) -> float:
    """What is this process's own: pages of files count for more when somebody else lets go of them."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("Pss_Anon:")))


def _entries(pid: int, folder: str) -> int:
    return len(list(Path(f"/proc/{pid}/{folder}").iterdir()))
