"""The collector as the agent starts it, on real processes of a test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unitagent.agent.evidence_collection import _START as START
from unitagent.evidence import folder
from unitagent.evidence.reports import read_reports
from unitagent.system import procfs

ROOT = Path(__file__).resolve().parents[2]
GANG = Path(__file__).with_name("programs") / "gang.py"
DEADLINE = 60.0


class Workload:
    """Processes below one that stands in for the agent."""

    def __init__(self, *commands: Sequence[str], **variables: str) -> None:
        words = json.dumps(commands)
        program = (
            "import json, subprocess, sys, time\n"
            "for words in json.loads(sys.argv[1]): subprocess.Popen(words)\n"
            "time.sleep(1000)"
        )
        self.popen = subprocess.Popen(
            [sys.executable, "-c", program, words],
            env={**os.environ, **variables},
            stderr=subprocess.DEVNULL,
        )

    @property
    def processes(self) -> list[procfs.Process]:
        return procfs.find_descendants(self.popen.pid)

    def wait_for_state(self, *states: str) -> None:
        """Wait until some process is in each of these states, in order of their pids."""
        deadline = time.monotonic() + DEADLINE
        while [one.state for one in sorted(self.processes, key=lambda each: each.pid)] != list(states):
            assert time.monotonic() < deadline, self.processes
            time.sleep(0.05)

    def wait_for_call(self, name: str) -> None:
        """Wait until the only process is inside of this function."""
        deadline = time.monotonic() + DEADLINE
        while name not in self.dump():
            assert time.monotonic() < deadline, self.dump()
            time.sleep(0.1)

    def dump(self) -> str:
        from unitagent.evidence import stacks  # noqa: PLC0415

        tool = stacks.find_tool()
        assert tool, "py-spy is in the test group"
        return "".join(
            subprocess.run(
                stacks.build_command(tool, one.pid), capture_output=True, text=True, check=False
            ).stdout
            for one in self.processes
        )

    def close(self) -> None:
        for one in self.processes:
            procfs.kill_process(one)
        self.popen.kill()
        self.popen.wait(DEADLINE)


class Collection:
    """One run of the collector, and what came of it."""

    def __init__(
        self,
        root: Path,
        agent: int,
        *,
        seconds: float = 20.0,
        live: bool = True,
        texts: dict[str, list[str]] | None = None,
        path: str | None = None,
        spared: Sequence[int] = (),
        python: str = sys.executable,
    ) -> None:
        self.folder = folder.locate_folder(str(root), "unit", 0)
        self._request = {
            "agent": agent, "spared": list(spared), "folder": str(self.folder), "private": False,
            "generation": 5, "seconds": seconds, "live": live, "texts": texts or {},
        }  # fmt: skip
        self.popen = subprocess.Popen(
            [python, "-I", "-S", "-c", START, str(ROOT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PATH": os.environ["PATH"] if path is None else path},
        )
        assert self.popen.stdin is not None
        self.popen.stdin.write(json.dumps(self._request).encode())
        self.popen.stdin.close()
        self.raw = b""

    def wait(self) -> dict[str, Any]:
        """Wait for its end; what it has reported."""
        assert self.popen.stdout is not None
        self.raw += self.popen.stdout.read()
        assert self.popen.wait(DEADLINE) == 0
        return read_reports(self.raw)

    def wait_for_report(self, name: str) -> float:
        """Wait for a line that reports this; the seconds that took."""
        assert self.popen.stdout is not None
        began = time.monotonic()
        while b'{"%s"' % name.encode() not in self.raw:
            line = self.popen.stdout.readline()
            assert line, self.raw
            self.raw += line
        return time.monotonic() - began

    def text(self, name: str) -> str:
        (one,) = folder.list_collections(self.folder)
        return (self.folder / one.name / name).read_text()

    @property
    def names(self) -> list[str]:
        return [name for one in folder.list_collections(self.folder) for name, _ in one.files]
